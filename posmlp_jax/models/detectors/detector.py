"""What RetinaNet and Mask R-CNN share: a backbone's maps, a pyramid of them, its anchors, and what they find."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Float32, Int32, Shaped

from posmlp_jax.detection.anchors import pyramid_anchors
from posmlp_jax.detection.boxes import area
from posmlp_jax.detection.nms import nms
from posmlp_jax.errors import ConfigError
from posmlp_jax.models.backbone import Backbone, Images

# Height and width of each image in the batch's, in pixels; the rest is padding. Of wrong shapes `_sizes` tells.
Sizes = Shaped[ArrayLike, "..."]
Level = Float[Array, "batch _height _width channels"]


class Detections(NamedTuple):
    """What a detector finds: in each image at most N objects, those with the highest scores, by falling score.

    Attributes:
      boxes: x1, y1, x2, y2 in pixels of the batch's images, none of them in their padding; zeros where there is none.
      scores: from 0 to 1; 0 where there is none.
      classes: from 0; −1 where there is none.
      valid: whether there is one.
    """

    boxes: Float32[Array, "batch n 4"]
    scores: Float32[Array, "batch n"]
    classes: Int32[Array, "batch n"]
    valid: Bool[Array, "batch n"]


class OnBackbone(Backbone):
    """A backbone with a detector's `head`: the first base of the detectors' families.

    Its config is an `OnBackboneConfig` as well as that of its backbone, whose networks it has under the backbone's
    names. All that is the detector's own is in `head`.
    """

    def _positions(self, size: tuple[int, int], tokens: tuple[int, int]) -> Float[Array, "height width channels"]:
        """Detectors take images of many sizes, for which learned positions are interpolated."""
        del size
        channels = self.position.shape[-1]
        return jax.image.resize(self.position[...], (*tokens, channels), "bicubic")


class Detector(OnBackbone):
    """A detector of objects, whose `head` sees all of the backbone's maps, by the feature pyramid `head.fpn`.

    Its config is a `DetectorConfig`.
    """

    def pyramid(self, images: Images, *, train: bool = False, rngs: nnx.Rngs | None = None) -> list[Level]:
        """The levels of the feature pyramid, in the compute type, from fine to coarse.

        Args: as `Backbone.features`.

        Every map is normalised, as Swin's detectors do; the last by the backbone's own norm. The others' norms have no
        scale and shift to learn: the pyramid's 1×1 convolutions, all that sees these maps, have both in them already.
        """
        *maps, last = self.features(images, train=train, rngs=rngs)
        epsilon = self.config.norm_epsilon
        normal = [jax.nn.standardize(m.astype(jnp.float32), epsilon=epsilon).astype(m.dtype) for m in maps]
        return self.head.fpn([*normal, last][self.config.first_map :])

    def anchors(self, sizes: Sequence[tuple[int, int]]) -> tuple[Float32[np.ndarray, "_anchors 4"], ...]:
        """The anchors on a pyramid's levels of these (height, width), in the order in which the head speaks of them."""
        config = self.config
        return pyramid_anchors(tuple(sizes), config.strides, config.anchor_scales, config.anchor_ratios)

    def _sizes(self, images: Images, sizes: Sizes | None) -> Float32[Array, "batch 2"]:
        """Of each image in its padding, in pixels; the whole array's if none are given."""
        if sizes is None:
            return jnp.tile(jnp.array(images.shape[1:3], jnp.float32), (images.shape[0], 1))
        sizes = jnp.asarray(sizes, jnp.float32)
        if sizes.shape != (images.shape[0], 2):
            raise ConfigError(f"sizes should be (height, width) of each of {images.shape[0]} images, not {sizes.shape}")
        return sizes


def map_sizes(levels: Sequence[Level]) -> list[tuple[int, int]]:
    """The (height, width) of a pyramid's levels."""
    return [level.shape[1:3] for level in levels]


def anchors_per_cell(config) -> int:
    """How many anchors there are at each place of a level."""
    return len(config.anchor_scales) * len(config.anchor_ratios)


def best_detections(
    boxes: Float32[Array, "candidates 4"],
    scores: Float32[Array, "candidates"],
    classes: Int32[Array, "candidates"],
    *,
    score_threshold: float,
    nms_threshold: float,
    number: int,
) -> Detections:
    """Those of one image's candidates with scores above a threshold that suppression leaves."""
    scores = jnp.where((scores > score_threshold) & (area(boxes) > 0), scores, -jnp.inf)
    kept, valid = nms(boxes, scores, classes, nms_threshold, number)
    return Detections(
        jnp.where(valid[:, None], boxes[kept], 0),
        jnp.where(valid, scores[kept], 0),
        jnp.where(valid, classes[kept], -1),
        valid,
    )
