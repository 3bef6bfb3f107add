"""RetinaNet: each anchor of a pyramid says what is there ("Focal Loss for Dense Object Detection", Lin et al. 2017)."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32

from posmlp_jax.detection.boxes import clip, decode
from posmlp_jax.detection.nms import best_scores
from posmlp_jax.models.backbone import Images
from posmlp_jax.models.detectors.detector import (
    Detections,
    Detector,
    Sizes,
    anchors_per_cell,
    best_detections,
    map_sizes,
)
from posmlp_jax.models.detectors.fpn import FPN
from posmlp_jax.models.detectors.heads import RetinaNetHead

# What deltas are multiplied by before they move an anchor.
STD = (1.0, 1.0, 1.0, 1.0)


class RetinaNetParts(nnx.Module):
    """The pyramid with two convolutions after its maps, and the head on all levels: `fpn` and `dense`."""

    def __init__(self, config, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.dtype)
        widths = [width for width, _ in config.maps[config.first_map :]]
        extra = config.levels - len(widths)
        self.fpn = FPN(widths, config.fpn_width, extra=extra, extra_convs=True, dtype=dtype, rngs=rngs)
        self.dense = RetinaNetHead(
            config.fpn_width,
            anchors_per_cell(config),
            config.num_classes,
            depth=config.tower_depth,
            dtype=dtype,
            rngs=rngs,
        )


class RetinaNet(Detector):
    """RetinaNet on a backbone: `detector(images, sizes)` gives `Detections`, `predict` what a loss is of."""

    def _make_head(self, width, rngs):
        return RetinaNetParts(self.config, rngs)

    def predict(
        self, images: Images, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> tuple[
        list[Float32[Array, "batch _anchors classes"]],
        list[Float32[Array, "batch _anchors 4"]],
        tuple[Float32[np.ndarray, "_anchors 4"], ...],
    ]:
        """Logits and box deltas of each level's anchors, and these, the same for all images.

        Args: as `Backbone.features`.
        """
        levels = self.pyramid(images, train=train, rngs=rngs)
        return *self.head.dense(levels), self.anchors(map_sizes(levels))

    def __call__(
        self, images: Images, sizes: Sizes | None = None, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Detections:
        """What there is in images.

        Args:
          images: float `[B, H, W, 3]`, normalised with the data's mean and standard deviation.
          sizes: (height, width) of each in pixels, from the upper left; the rest is padding. None: there is none.
          train: as `Backbone.features`.
          rngs: likewise.
        """
        return self.find(*self.predict(images, train=train, rngs=rngs), self._sizes(images, sizes))

    def find(
        self,
        logits: list[Float[Array, "batch _anchors classes"]],
        deltas: list[Float[Array, "batch _anchors 4"]],
        anchors: tuple[Float32[np.ndarray, "_anchors 4"], ...],
        sizes: Float32[Array, "batch 2"],
    ) -> Detections:
        """What there is in images of which `predict` says this."""
        return jax.vmap(partial(self.detect, anchors=anchors))(logits, deltas, size=sizes)

    def detect(
        self,
        logits: Sequence[Float[Array, "_anchors classes"]],
        deltas: Sequence[Float[Array, "_anchors 4"]],
        *,
        anchors: Sequence[Float32[np.ndarray, "_anchors 4"]],
        size: Float32[Array, "2"],
    ) -> Detections:
        """What one image's predictions (`predict`) come to: the best of each level, without those that say the same."""
        boxes, scores, classes = [], [], []
        for logit, delta, anchor in zip(logits, deltas, anchors, strict=True):
            best, place, label = best_scores(jax.nn.sigmoid(logit), self.config.candidates)
            boxes.append(clip(decode(delta[place], jnp.asarray(anchor)[place], STD), *size))
            scores.append(best)
            classes.append(label)
        return best_detections(
            *map(jnp.concatenate, (boxes, scores, classes)),
            score_threshold=self.config.score_threshold,
            nms_threshold=self.config.nms_threshold,
            number=self.config.max_detections,
        )
