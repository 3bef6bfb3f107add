"""Mask R-CNN on a pyramid: proposals, what is in them, a better box and a mask (He et al. 2017; Lin et al. 2017)."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int32

from posmlp_jax.detection.boxes import area, clip, decode
from posmlp_jax.detection.nms import best_scores, nms
from posmlp_jax.detection.roi_align import roi_align, roi_levels
from posmlp_jax.models.backbone import Images
from posmlp_jax.models.detectors.detector import (
    Detections,
    Detector,
    Level,
    Sizes,
    anchors_per_cell,
    best_detections,
    map_sizes,
)
from posmlp_jax.models.detectors.fpn import FPN
from posmlp_jax.models.detectors.heads import BoxHead, MaskHead, RPNHead

# What deltas are multiplied by before they move an anchor, and a proposal.
PROPOSAL_STD = (1.0, 1.0, 1.0, 1.0)
BOX_STD = (0.1, 0.1, 0.2, 0.2)
# Pairs of a proposal and a class, at most, that go into suppression: those with the highest scores. A proposal has at
# most nineteen scores above 0.05, and when trained one or two. mmdetection has no such bound, and thus no fixed shapes;
# the result is another only where fewer than `max_detections` are kept of so many.
CANDIDATES = 4000


class MaskedDetections(NamedTuple):
    """`Detections`, and what each object's box has of it.

    Attributes:
      boxes, scores, classes, valid: as in `Detections`.
      masks: how probable it is, from 0 to 1, that cells of the box are the object's. `detection.masks.paste` makes
        pixels of them, best in the image as it was before it was resized for the detector.
    """

    boxes: Float32[Array, "batch n 4"]
    scores: Float32[Array, "batch n"]
    classes: Int32[Array, "batch n"]
    valid: Bool[Array, "batch n"]
    masks: Float32[Array, "batch n side side"]


class MaskRCNNParts(nnx.Module):
    """The pyramid with a level of every second place after its maps', and the heads: `fpn`, `rpn`, `box` and `mask`."""

    def __init__(self, config, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.dtype)
        width, classes = config.fpn_width, config.num_classes
        widths = [width for width, _ in config.maps[config.first_map :]]
        extra = config.levels - len(widths)
        self.fpn = FPN(widths, width, extra=extra, extra_convs=False, dtype=dtype, rngs=rngs)
        self.rpn = RPNHead(width, anchors_per_cell(config), dtype=dtype, rngs=rngs)
        self.box = BoxHead(width, config.box_side, config.box_width, classes, dtype=dtype, rngs=rngs)
        self.mask = MaskHead(width, classes, depth=config.mask_depth, dtype=dtype, rngs=rngs)


class MaskRCNN(Detector):
    """Mask R-CNN on a backbone: `detector(images, sizes)` gives `MaskedDetections`.

    A loss takes its stages one by one: `predict`, `proposals_of`, `regions`, `head.box` and `head.mask`.
    """

    def _make_head(self, width, rngs):
        return MaskRCNNParts(self.config, rngs)

    def __call__(
        self, images: Images, sizes: Sizes | None = None, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> MaskedDetections:
        """What there is in images.

        Args:
          images: float `[B, H, W, 3]`, normalised with the data's mean and standard deviation.
          sizes: (height, width) of each in pixels, from the upper left; the rest is padding. None: there is none.
          train: as `Backbone.features`.
          rngs: likewise.
        """
        sizes = self._sizes(images, sizes)
        levels, logits, deltas = self.predict(images, train=train, rngs=rngs)
        return self.find(levels, *self.proposals_of(levels, logits, deltas, sizes), sizes)

    def predict(
        self, images: Images, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> tuple[list[Level], list[Float32[Array, "batch _anchors"]], list[Float32[Array, "batch _anchors 4"]]]:
        """The pyramid, and logits and box deltas of each of its levels' anchors.

        Args: as `Backbone.features`.
        """
        levels = self.pyramid(images, train=train, rngs=rngs)
        return levels, *self.head.rpn(levels)

    def proposals_of(
        self,
        levels: Sequence[Level],
        logits: Sequence[Float[Array, "batch _anchors"]],
        deltas: Sequence[Float[Array, "batch _anchors 4"]],
        sizes: Float32[Array, "batch 2"],
        *,
        candidates: int | None = None,
        number: int | None = None,
    ) -> tuple[Float32[Array, "batch proposals 4"], Bool[Array, "batch proposals"]]:
        """`propose` for all images of which `predict` says this."""
        anchors = self.anchors(map_sizes(levels))
        propose = partial(self.propose, anchors=anchors, candidates=candidates, number=number)
        return jax.vmap(propose)(logits, deltas, size=sizes)

    def find(
        self,
        levels: Sequence[Level],
        proposals: Float32[Array, "batch proposals 4"],
        valid: Bool[Array, "batch proposals"],
        sizes: Float32[Array, "batch 2"],
    ) -> MaskedDetections:
        """What there is in the proposals of images."""
        logits, deltas = self.head.box(self.regions(levels, proposals, self.config.box_side))
        found = jax.vmap(self.detect)(logits, deltas, proposals, valid, sizes)
        return MaskedDetections(*found, self.masks(levels, found))

    def propose(
        self,
        logits: Sequence[Float[Array, "_anchors"]],
        deltas: Sequence[Float[Array, "_anchors 4"]],
        *,
        anchors: Sequence[Float32[np.ndarray, "_anchors 4"]],
        size: Float32[Array, "2"],
        candidates: int | None = None,
        number: int | None = None,
    ) -> tuple[Float32[Array, "proposals 4"], Bool[Array, "proposals"]]:
        """The regions of one image that something may be in, by falling score, and whether there is one.

        They are no function of the parameters, as far as gradients go.

        Args:
          logits: of each level's anchors, by `head.rpn`, as are the deltas.
          deltas: box deltas.
          anchors: by `anchors`.
          size: (height, width) of the image in its padding.
          candidates: other than the config's: in training mmdetection takes 2000.
          number: of proposals, other than the config's.
        """
        boxes, scores = [], []
        for logit, delta, anchor in zip(*jax.lax.stop_gradient((logits, deltas)), anchors, strict=True):
            best, place, _ = best_scores(jax.nn.sigmoid(logit)[:, None], candidates or self.config.candidates)
            decoded = clip(decode(delta[place], jnp.asarray(anchor)[place], PROPOSAL_STD), *size)
            best = jnp.where(area(decoded) > 0, best, -jnp.inf)
            # Boxes of different levels do not suppress each other.
            kept, valid = nms(decoded, best, jnp.zeros_like(place), self.config.proposal_threshold, len(best))
            boxes.append(decoded[kept])
            scores.append(jnp.where(valid, best[kept], -jnp.inf))
        boxes, scores = jnp.concatenate(boxes), jnp.concatenate(scores)
        best, order = jax.lax.top_k(scores, min(number or self.config.proposals, len(scores)))
        valid = best > -jnp.inf
        return jnp.where(valid[:, None], boxes[order], 0), valid

    def regions(
        self, levels: Sequence[Level], boxes: Float32[Array, "batch n 4"], side: int
    ) -> Float[Array, "batch n {side} {side} channels"]:
        """What the pyramid has in boxes, each on the level of its size; its levels after the backbone's maps have none.

        Every box is cut out of every level, and the others are thrown away: on the finest level that costs three
        quarters of it all in any case.
        """
        strides = self.config.strides[: len(self.config.maps) - self.config.first_map]
        first = int(math.log2(strides[0]))
        of_level = roi_levels(boxes, first, first + len(strides) - 1)
        regions = 0
        for number, (level, stride) in enumerate(zip(levels, strides, strict=False), start=first):
            align = partial(roi_align, output_size=side, scale=1 / stride)
            here = (of_level == number)[..., None, None, None]
            regions = jnp.where(here, jax.vmap(align)(level, boxes), regions)
        return regions

    def detect(
        self,
        logits: Float[Array, "n classes_and_background"],
        deltas: Float[Array, "n classes 4"],
        proposals: Float32[Array, "n 4"],
        valid: Bool[Array, "n"],
        size: Float32[Array, "2"],
    ) -> Detections:
        """What one image's proposals, and what `head.box` says of them, come to."""
        scores = jnp.where(valid[:, None], jax.nn.softmax(logits)[:, :-1], 0)
        best, place, label = best_scores(scores, CANDIDATES)
        return best_detections(
            clip(decode(deltas[place, label], proposals[place], BOX_STD), *size),
            best,
            label,
            score_threshold=self.config.score_threshold,
            nms_threshold=self.config.nms_threshold,
            number=self.config.max_detections,
        )

    def masks(self, levels: Sequence[Level], found: Detections) -> Float32[Array, "batch n side side"]:
        """The masks of what was found, each by the class that it was found to be."""
        regions = self.regions(levels, found.boxes, self.config.mask_side)
        logits = self.head.mask(regions.reshape(-1, *regions.shape[2:]))
        own = jnp.take_along_axis(logits, found.classes.reshape(-1, 1, 1, 1).clip(0), axis=-1)[..., 0]
        return jax.nn.sigmoid(own).reshape(*found.valid.shape, *own.shape[1:])
