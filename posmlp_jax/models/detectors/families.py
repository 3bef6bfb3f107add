"""The detectors by name, and each as a family of models on every family of backbones."""

import functools
import types
from dataclasses import dataclass, fields

from flax import nnx

from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.models import registry
from posmlp_jax.models.backbone import BackboneConfig, check_known
from posmlp_jax.models.detectors.action_detector import ActionDetector
from posmlp_jax.models.detectors.config import ActionDetectorConfig, MaskRCNNConfig, OnBackboneConfig, RetinaNetConfig
from posmlp_jax.models.detectors.detector import OnBackbone
from posmlp_jax.models.detectors.mask_rcnn import MaskRCNN
from posmlp_jax.models.detectors.retinanet import RetinaNet

_MODULES = {RetinaNetConfig: RetinaNet, MaskRCNNConfig: MaskRCNN, ActionDetectorConfig: ActionDetector}


def create_detector(name: str, *, rngs: nnx.Rngs | None = None, **overrides) -> OnBackbone:
    """Builds a detector with random parameters.

    Args:
      name: one of `list_detectors()`.
      rngs: where the parameters come from; by default the keys of `nnx.Rngs(0)`.
      **overrides: fields of the detector's config (`RetinaNetConfig`, `MaskRCNNConfig`, `ActionDetectorConfig`) and of
        its backbone's, as `num_classes`, `backbone` or `shift_windows`.

    Returns:
      A module: `detector(images, sizes)` takes float `[B, H, W, 3]` and gives `Detections`, or `MaskedDetections`;
      one of actions, `detector(clips, boxes)`, takes `[B, T, H, W, 3]` and boxes `[B, N, 4]`, and gives logits.

    Raises:
      ConfigError: for an unknown name or field (the message has the nearest), or a value that cannot be.
    """
    if name not in registry.list_detectors():
        raise ConfigError(f"unknown detector '{name}'; {nearest(name, registry.list_detectors())}")
    return registry.build(registry.model_config(name, **overrides), registry.Keys(0) if rngs is None else rngs)


@functools.cache
def joined(detector: type[OnBackboneConfig], family: type[BackboneConfig]) -> type[BackboneConfig]:
    """The config of a detector on a family of backbones, which is made known with its module."""
    name = detector.__name__.removesuffix("Config") + family.__name__
    body = {
        "__module__": __name__,
        "__doc__": f"The fields of `{detector.__name__}` and of `{family.__name__}`.",
        "detector": detector,
        "family": family,
    }
    config = dataclass(frozen=True, kw_only=True)(type(name, (detector, family), body))
    bases = (_MODULES[detector], registry.family_of(family))
    doc = {"__module__": __name__, "__doc__": f"`{bases[0].__name__}` on `{bases[1].__name__}`."}
    registry.register_config(
        config, types.new_class(name.removesuffix("Config"), bases, exec_body=lambda body: body.update(doc))
    )
    return config


def on_backbone(detector: type[OnBackboneConfig], backbone: str, **others) -> BackboneConfig:
    """A detector's config with all fields of a named backbone; windows that can be shifted are.

    Args:
      detector: `RetinaNetConfig`, `MaskRCNNConfig` or `ActionDetectorConfig`.
      backbone: one of `list_models()`.
      **others: fields of the detector, and those that are to be others than the named backbone's.

    Raises:
      ConfigError: for a name or field that is none (the message has the nearest), or a value that cannot be.
    """
    if not isinstance(backbone, str) or backbone not in registry.list_models():
        raise ConfigError(f"unknown backbone {backbone!r}; {nearest(str(backbone), registry.list_models())}")
    base = registry.model_config(backbone)
    known = {field.name: getattr(base, field.name) for field in fields(base) if field.name != "num_classes"}
    if "shift_windows" in known:
        known["shift_windows"] = True
    config = joined(detector, type(base))
    check_known(config, others)
    return config(**known | {"backbone": backbone} | others)


_ON = {
    "retinanet": (RetinaNetConfig, ("posmlp_t", "posmlp_s")),
    "mask_rcnn": (MaskRCNNConfig, ("posmlp_t", "posmlp_s")),
    "action": (
        ActionDetectorConfig,
        ("posmlp_video_s", "posmlp_video_b", "posmlp_video_s_32", "posmlp_video_b_32"),
    ),
}
for _name, (_detector, _backbones) in _ON.items():
    for _backbone in _backbones:
        _config = on_backbone(_detector, _backbone)
        registry.register(registry.family_of(type(_config)), {f"{_name}_{_backbone}": _config})
