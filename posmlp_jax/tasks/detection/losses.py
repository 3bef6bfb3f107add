"""What the losses of RetinaNet and Mask R-CNN have in common: parts with what divides them, and who learns what."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Float32, Int, Int32

from posmlp_jax.detection.boxes import iou, nonempty
from posmlp_jax.detection.matching import IGNORED, match

# mmdetection pads each image by itself to multiples of this, before a batch pads it further.
_PADDED = 32


class Term(NamedTuple):
    """One part of a loss, of each image of a batch: how it is divided is decided when it is known of what it is.

    Attributes:
      sums: over what an image learns from.
      counts: how many that are, or what stands for their number.
    """

    sums: Float32[Array, "*batch"]
    counts: Float32[Array, "*batch"]


Terms = Mapping[str, Term]


def of_batch(terms: Terms) -> dict[str, Float32[Array, ""]]:
    """Each part as training has it: all images' sums over all of their counts, which are 1 at least.

    An image with many objects counts more than one with few, as in mmdetection on one GPU. There every GPU divides by
    the counts of its own images; here the whole batch has one divisor, whatever the devices are, and with `accumulate`
    each part of the batch its own.
    """
    return {name: jnp.sum(term.sums) / jnp.maximum(jnp.sum(term.counts), 1) for name, term in terms.items()}


def of_images(terms: Terms) -> Float32[Array, "batch"]:
    """Each image's loss by itself, whatever it shares a batch with: that of an evaluation."""
    return sum(term.sums / jnp.maximum(term.counts, 1) for term in terms.values())


def match_anchors(
    boxes: Float[ArrayLike, "objects 4"],
    classes: Int[ArrayLike, "objects"],
    anchors: Float[ArrayLike, "anchors 4"],
    size: Int[ArrayLike, "2"],
    *,
    positive: float,
    negative: float,
    low_quality: float,
) -> Int32[Array, "anchors"]:
    """The object of an image that each anchor is to be trained on, as `matching.match` has it.

    Args:
      boxes: in pixels; where there is no object they may be anything.
      classes: −1 where there is no object.
      anchors: of all levels.
      size: (height, width) of the image in its padding. Anchors of cells beyond it are ignored: those that begin after
        its last pixel, in multiples of 32 pixels, mmdetection's `valid_flags`.
      positive: the IoU from which on an anchor learns an object.
      negative: below this it learns that there is nothing.
      low_quality: the least IoU from which on an object has those anchors that it overlaps most.
    """
    inside = _inside(anchors, size)
    overlaps = jnp.where(inside, overlaps_of_objects(boxes, classes, anchors), -1)
    return jnp.where(inside, match(overlaps, positive, negative, low_quality), IGNORED)


def overlaps_of_objects(
    boxes: Float[ArrayLike, "objects 4"], classes: Int[ArrayLike, "objects"], others: Float[ArrayLike, "others 4"]
) -> Float32[Array, "objects others"]:
    """The IoU of objects with boxes; −1, which `match` takes for none, where there is no object or it is empty."""
    exist = (jnp.asarray(classes) >= 0) & nonempty(boxes)
    return jnp.where(exist[:, None], iou(boxes, others), -1)


def _inside(anchors: Float[ArrayLike, "anchors 4"], size: Int[ArrayLike, "2"]) -> Bool[Array, "anchors"]:
    x1, y1, x2, y2 = np.asarray(anchors).T
    # An anchor's centre is its cell's beginning, a whole number but for what rounding leaves of it.
    y, x = np.round((y1 + y2) / 2), np.round((x1 + x2) / 2)
    height, width = (jnp.asarray(size) + _PADDED - 1) // _PADDED * _PADDED
    return (y < height) & (x < width)
