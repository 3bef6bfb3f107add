"""Boxes: their areas and overlaps, and as deltas from other boxes, which is what a detector's heads predict."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Float32

# A delta makes an anchor at most so many times as wide or high: the exponential of one that has gone astray would
# overflow.
MAX_ENLARGEMENT = 1000 / 16
# What is computed with instead of boxes that are empty, or not of numbers, so that gradients are finite, too.
POINT, UNIT = (0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 1.0)

Deviations = Sequence[float | int] | ArrayLike


def area(boxes: Float[ArrayLike, "*boxes 4"]) -> Float32[Array, "*boxes"]:
    """In square pixels; 0 of what is empty, has its corners exchanged, or is not of numbers."""
    x1, y1, x2, y2 = _coordinates(_where(nonempty(boxes), boxes, POINT))
    return (x2 - x1) * (y2 - y1)


def nonempty(boxes: Float[ArrayLike, "*boxes 4"]) -> Bool[Array, "*boxes"]:
    """Whether boxes have a width and a height."""
    x1, y1, x2, y2 = _coordinates(boxes)
    return (x2 > x1) & (y2 > y1)


def clip(boxes: Float[ArrayLike, "*boxes 4"], height: ArrayLike, width: ArrayLike) -> Float32[Array, "*boxes 4"]:
    """The parts of boxes that lie in an image of a size in pixels."""
    x1, y1, x2, y2 = _coordinates(boxes)
    return jnp.stack([x1.clip(0, width), y1.clip(0, height), x2.clip(0, width), y2.clip(0, height)], axis=-1)


def iou(a: Float[ArrayLike, "n 4"], b: Float[ArrayLike, "m 4"]) -> Float32[Array, "n m"]:
    """Area of the intersection over that of the union, of each box of `a` with each of `b`; 0 with an empty box."""
    a, b = (_where(nonempty(boxes), boxes, POINT) for boxes in (a, b))
    ax1, ay1, ax2, ay2 = (values[:, None] for values in _coordinates(a))
    bx1, by1, bx2, by2 = _coordinates(b)
    width = jnp.maximum(jnp.minimum(ax2, bx2) - jnp.maximum(ax1, bx1), 0)
    height = jnp.maximum(jnp.minimum(ay2, by2) - jnp.maximum(ay1, by1), 0)
    intersection = width * height
    union = area(a)[:, None] + area(b) - intersection
    return intersection / jnp.where(union > 0, union, 1)


def encode(
    boxes: Float[ArrayLike, "*boxes 4"], anchors: Float[ArrayLike, "*boxes 4"], std: Deviations
) -> Float32[Array, "*boxes 4"]:
    """The deltas that take each anchor to its box: the inverse of `decode`.

    Args:
      boxes: what shall be predicted.
      anchors: one for each.
      std: what each of the four deltas is divided by, (1, 1, 1, 1) or, for regions, mmdetection's (0.1, 0.1, 0.2, 0.2).

    Returns:
      (x_b − x_a) / w_a, (y_b − y_a) / h_a, log(w_b / w_a), log(h_b / h_a), over `std`, with x and y of the centres;
      zeros where either box is empty.
    """
    exist = nonempty(boxes) & nonempty(anchors)
    x, y, width, height = _centers(_where(exist, boxes, UNIT))
    anchor_x, anchor_y, anchor_width, anchor_height = _centers(_where(exist, anchors, UNIT))
    deltas = (
        (x - anchor_x) / anchor_width,
        (y - anchor_y) / anchor_height,
        jnp.log(width / anchor_width),
        jnp.log(height / anchor_height),
    )
    return jnp.stack(deltas, axis=-1) / jnp.asarray(std, jnp.float32)


def decode(
    deltas: Float[ArrayLike, "*boxes 4"], anchors: Float[ArrayLike, "*boxes 4"], std: Deviations
) -> Float32[Array, "*boxes 4"]:
    """The boxes that deltas (see `encode`) take anchors to, enlarged at most `MAX_ENLARGEMENT` times.

    As in torchvision, nothing limits how small they become; mmdetection has the same factor there.
    """
    dx, dy, dw, dh = _coordinates(jnp.asarray(deltas, jnp.float32) * jnp.asarray(std, jnp.float32))
    x, y, width, height = _centers(anchors)
    x, y = x + dx * width, y + dy * height
    largest = math.log(MAX_ENLARGEMENT)
    width, height = width * jnp.exp(jnp.minimum(dw, largest)), height * jnp.exp(jnp.minimum(dh, largest))
    return jnp.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=-1)


def _where(
    exist: Bool[Array, "*boxes"], boxes: Float[ArrayLike, "*boxes 4"], other: tuple[float, ...]
) -> Float32[Array, "*boxes 4"]:
    """Boxes where they exist, and another where not."""
    return jnp.where(exist[..., None], jnp.asarray(boxes, jnp.float32), jnp.array(other))


def _coordinates(boxes: Float[ArrayLike, "*boxes 4"]) -> tuple[Float32[Array, "*boxes"], ...]:
    """x1, y1, x2, y2, or another four of a last axis."""
    return tuple(jnp.moveaxis(jnp.asarray(boxes, jnp.float32), -1, 0))


def _centers(boxes: Float[ArrayLike, "*boxes 4"]) -> tuple[Float32[Array, "*boxes"], ...]:
    """The centres' x and y, widths, heights."""
    x1, y1, x2, y2 = _coordinates(boxes)
    width, height = x2 - x1, y2 - y1
    return x1 + width / 2, y1 + height / 2, width, height
