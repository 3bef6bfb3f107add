"""What detectors are made of: fields that come on top of a backbone's, in one flat config.

`RetinaNetConfig`, `MaskRCNNConfig` and `ActionDetectorConfig` have the detectors' own fields. They are no configs until
they are joined to those of a family of backbones (`families`): a run's `config.model`, and checkpoints, have all of
them side by side.
"""

from dataclasses import dataclass, fields

from posmlp_jax.errors import ConfigError
from posmlp_jax.models.backbone import BackboneConfig

# The fields that say what of a detector's predictions is given, and have no part in what it predicts.
FINDING = ("score_threshold", "nms_threshold", "max_detections", "candidates", "proposals", "proposal_threshold")


@dataclass(frozen=True, kw_only=True)
class OnBackboneConfig:
    """What every detector has: a backbone whose maps its head sees, of images or clips of any size.

    Attributes:
      takes: what the backbone is to take, 'image' or 'video'; of a class of detectors.
      backbone: the model whose network, without its head, makes the maps, one of `list_models()`. To replace it takes
        all of its fields, but for those that are replaced, too, and shifts its windows where they can be shifted. Its
        `image_size` is that for which `absolute_position` is learned; other maps have it interpolated.
      num_classes: what is told apart, 1 or more.
    """

    takes = "image"  # No annotation: it would be among a dataclass's fields.
    backbone: str
    num_classes: int = 80

    def __post_init__(self):
        super().__post_init__()
        if self.kind != self.takes:
            frames = self.input_size[0]
            raise ConfigError(
                f"a detector takes images, and backbone '{self.backbone}' clips of {frames} frames"
                if self.takes == "image"
                else f"an action detector takes clips, and backbone '{self.backbone}' images"
            )
        check_positive(self, "num_classes")

    @property
    def is_detector(self) -> bool:
        """It is one."""
        return True

    @property
    def of_backbone(self) -> BackboneConfig:
        """The config of the backbone by itself, without a head."""
        own = {field.name: getattr(self, field.name) for field in fields(self.family)}
        return self.family(**own | {"num_classes": 0})

    def replace(self, **overrides):
        """A copy with some fields changed; another `backbone` brings its own.

        Raises:
          ConfigError: as `BackboneConfig.replace`, and for a backbone that is none.
        """
        backbone = overrides.pop("backbone", self.backbone)
        if backbone == self.backbone:
            return super().replace(**overrides)
        from posmlp_jax.models.detectors.families import on_backbone  # Which joins these fields to a backbone's.

        kept = {field.name: getattr(self, field.name) for field in fields(self.detector) if field.name != "backbone"}
        return on_backbone(self.detector, backbone, **kept | overrides)


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(OnBackboneConfig):
    """What RetinaNet and Mask R-CNN have in common: `OnBackboneConfig`'s fields, and these. Defaults are mmdetection's.

    Attributes:
      fpn_width: channels of the pyramid's levels, and of the heads' convolutions.
      first_map: the first of the backbone's maps that has a level in the pyramid, from 0.
      levels: of the pyramid. Those after the backbone's last map are made from it, each of half the side.
      anchor_scale: side of a level's smallest anchors, in pixels of the image for each pixel of its stride.
      anchor_ratios: height / width of anchors of one area.
      score_threshold: a detection has a greater score.
      nms_threshold: of two detections of a class whose IoU is greater, one is dropped.
      max_detections: in an image; detections are an array of so many.
    """

    backbone: str = "posmlp_t"
    fpn_width: int = 256
    first_map: int = 0
    levels: int = 5
    anchor_scale: float = 4.0
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "anchor_ratios", tuple(self.anchor_ratios))
        for field in ("fpn_width", "max_detections"):
            check_positive(self, field)
        maps = len(self.maps)
        if not 0 <= self.first_map < maps:
            raise ConfigError(
                f"first_map {self.first_map} should be one of the {maps} maps of backbone '{self.backbone}', from 0 to "
                f"{maps - 1}"
            )
        if self.levels < maps - self.first_map:
            raise ConfigError(
                f"levels {self.levels} should be {maps - self.first_map} or more, one for each of the backbone's maps "
                f"from first_map {self.first_map} on"
            )
        if not self.anchor_ratios or min(self.anchor_ratios) <= 0 or self.anchor_scale <= 0:
            raise ConfigError(
                f"anchor_scale {self.anchor_scale} and anchor_ratios {self.anchor_ratios} should be greater than 0"
            )
        for field in ("score_threshold", "nms_threshold"):
            check_share(self, field)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image between the cells of each of the pyramid's levels."""
        strides = [stride for _, stride in self.maps[self.first_map :]]
        while len(strides) < self.levels:
            strides.append(2 * strides[-1])
        return tuple(strides)


@dataclass(frozen=True, kw_only=True)
class RetinaNetConfig(DetectorConfig):
    """RetinaNet ("Focal Loss for Dense Object Detection", Lin et al. 2017): `DetectorConfig`'s fields, and these.

    Attributes:
      first_map: the second, as published: P3 to P7.
      anchor_octaves: sizes of anchors between one level's smallest and the next one's.
      tower_depth: convolutions of the head before the last.
      candidates: detections on a level, at most, that go into non-maximum suppression: those with the highest scores.
    """

    first_map: int = 1
    anchor_octaves: int = 3
    tower_depth: int = 4
    candidates: int = 1000

    def __post_init__(self):
        super().__post_init__()
        for field in ("anchor_octaves", "candidates"):
            check_positive(self, field)
        if self.tower_depth < 0:
            raise ConfigError(f"tower_depth {self.tower_depth} should be 0 or more")

    @property
    def class_layers(self) -> tuple[str, ...]:
        """As `BackboneConfig.class_layers`."""
        return ("head.dense.classes",)

    @property
    def anchor_scales(self) -> tuple[float, ...]:
        """Sizes of anchors in strides."""
        return tuple(self.anchor_scale * 2 ** (octave / self.anchor_octaves) for octave in range(self.anchor_octaves))


@dataclass(frozen=True, kw_only=True)
class MaskRCNNConfig(DetectorConfig):
    """Mask R-CNN (He et al. 2017) with a feature pyramid: `DetectorConfig`'s fields, and these.

    Attributes:
      candidates: anchors of a level, at most, that go into the proposals' non-maximum suppression.
      proposals: regions of an image, at most, that are looked at. In training both may be others (`MaskRCNN.propose`).
      proposal_threshold: of two proposals on a level whose IoU is greater, one is dropped.
      box_side, mask_side: cells along the sides of a region as the box head and the mask head see it; a mask has twice
        as many.
      box_width: of the box head's two layers.
      mask_depth: convolutions of the mask head before the enlargement.
    """

    anchor_scale: float = 8.0
    candidates: int = 1000
    proposals: int = 1000
    proposal_threshold: float = 0.7
    box_side: int = 7
    box_width: int = 1024
    mask_side: int = 14
    mask_depth: int = 4

    def __post_init__(self):
        super().__post_init__()
        for field in ("candidates", "proposals", "box_side", "box_width", "mask_side"):
            check_positive(self, field)
        if self.mask_depth < 0:
            raise ConfigError(f"mask_depth {self.mask_depth} should be 0 or more")
        check_share(self, "proposal_threshold")

    @property
    def class_layers(self) -> tuple[str, ...]:
        """As `BackboneConfig.class_layers`."""
        return ("head.box.classes", "head.box.boxes", "head.mask.masks")

    @property
    def anchor_scales(self) -> tuple[float, ...]:
        """Sizes of anchors in strides."""
        return (self.anchor_scale,)


@dataclass(frozen=True, kw_only=True)
class ActionDetectorConfig(OnBackboneConfig):
    """What people in given boxes do: `OnBackboneConfig`'s fields, and these. The defaults are those in use on AVA.

    Attributes:
      box_side: cells along the sides of a box as the head sees it.
      box_dropout: a probability for each of the values that a box comes to.
    """

    takes = "video"
    backbone: str = "posmlp_video_s"
    box_side: int = 7
    box_dropout: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "box_side")
        if not 0 <= self.box_dropout < 1:
            raise ConfigError(f"box_dropout {self.box_dropout} should be at least 0 and less than 1")

    @property
    def class_layers(self) -> tuple[str, ...]:
        """As `BackboneConfig.class_layers`."""
        return ("head.classes",)


def check_positive(config: OnBackboneConfig, field: str) -> None:
    """Raises a ConfigError unless a field is 1 or more."""
    if getattr(config, field) < 1:
        raise ConfigError(f"{field} {getattr(config, field)} should be 1 or more")


def check_share(config: DetectorConfig, field: str) -> None:
    """Raises a ConfigError unless a field is from 0 to 1."""
    if not 0 <= getattr(config, field) <= 1:
        raise ConfigError(f"{field} {getattr(config, field)} should be from 0 to 1")
