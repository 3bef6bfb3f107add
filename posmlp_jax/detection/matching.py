"""Which box each anchor, or each proposed region, is to be trained on."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int32

BACKGROUND, IGNORED = -1, -2


def match(
    iou: Float[ArrayLike, "boxes anchors"], positive: ArrayLike, negative: ArrayLike, low_quality: ArrayLike
) -> Int32[Array, "anchors"]:
    """The box that each anchor overlaps most, if it does so enough.

    Of boxes that an anchor overlaps by the same, the first counts.

    Low-quality matches see to it that boxes are not left without an anchor: those anchors that a box overlaps most, all
    of them where several do so by the same, are matched however little that is. With which box is torchvision's choice:
    the one that the anchor overlaps most, which need not be the box that it is kept for. (mmdetection gives it to the
    latter, and where there are several, to the last.)

    Args:
      iou: of the boxes of an image, in rows, with the anchors. A row of −1 is none: padding, or an empty box, which
        would be overlapped "most", with 0, by every anchor.
      positive: an anchor with at least this IoU is matched.
      negative: one with less than this is background; in between it is ignored.
      low_quality: the least IoU that a low-quality match has to have; True is any, as 0 is, and False has none of them.

    Returns:
      For each anchor the number of its box, or `BACKGROUND` (−1), or `IGNORED` (−2).
    """
    iou = jnp.asarray(iou)
    if iou.shape[0] == 0:
        return jnp.full(iou.shape[1], BACKGROUND, jnp.int32)
    best, box = jnp.max(iou, axis=0), jnp.argmax(iou, axis=0).astype(jnp.int32)
    matched = best >= positive
    if low_quality is not False:
        highest = jnp.max(iou, axis=1, initial=-1.0, keepdims=True)
        is_switch = jnp.result_type(low_quality) == jnp.bool_
        lowest = jnp.where(low_quality, 0.0, jnp.inf) if is_switch else low_quality
        matched |= jnp.any((iou == highest) & (highest >= lowest), axis=0)
    return jnp.where(matched, box, jnp.where(best >= negative, IGNORED, BACKGROUND))
