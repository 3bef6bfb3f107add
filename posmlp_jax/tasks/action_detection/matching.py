"""Which detections are right, and the precision that comes of it: what all evaluators of AVA have in common."""

import itertools

import numpy as np
from jaxtyping import Bool, Float, Int

from posmlp_jax.data.sources.ava_tables import Boxes

# The least IoU at which a detection finds a box.
OVERLAP = 0.5


def number_frames(first: Boxes, second: Boxes) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """The key frame of each row as a number that is the same in both tables."""
    videos: dict[str, int] = {}
    named = itertools.chain(first.videos, second.videos)
    films = np.fromiter((videos.setdefault(name, len(videos)) for name in named), np.int64)
    seconds, which = np.unique(np.concatenate([first.seconds, second.seconds]), return_inverse=True)
    frames = films * len(seconds) + which
    return frames[: len(first.videos)], frames[len(first.videos) :]


def are_right(
    groups: Int[np.ndarray, " m"],
    boxes: Float[np.ndarray, "m 4"],
    true_groups: Int[np.ndarray, " n"],
    true_boxes: Float[np.ndarray, "n 4"],
) -> Bool[np.ndarray, " m"]:
    """Which detections, in the order in which they take their boxes, find one of their group that nobody has taken.

    Args:
      groups: of each detection; a group is a frame and a class.
      boxes: of each detection.
      true_groups: of each box of ground truth.
      true_boxes: the boxes of ground truth.
    """
    order = np.argsort(true_groups, kind="stable")
    true_groups, true_boxes = true_groups[order], true_boxes[order]
    begin, end = (np.searchsorted(true_groups, groups, side) for side in ("left", "right"))
    nearest_box, overlap = np.full(len(groups), -1), np.full(len(groups), -1.0)
    # The k-th box of every group at once: there are few in one.
    for number in range(int((end - begin).max(initial=0))):
        rows = np.flatnonzero(end - begin > number)
        there = begin[rows] + number
        overlaps = ious(boxes[rows], true_boxes[there])
        more = overlaps > overlap[rows]
        nearest_box[rows[more]], overlap[rows[more]] = there[more], overlaps[more]
    found = np.flatnonzero(overlap >= OVERLAP)
    _, first = np.unique(nearest_box[found], return_index=True)
    right = np.zeros(len(groups), bool)
    right[found[first]] = True
    return right


def ious(first: Float[np.ndarray, "n 4"], second: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """The IoU of each pair of boxes; NaN of two that are both without area."""
    shared = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    # As the originals compute it, where the corners are float32: sides and areas are, what is shared is not.
    intersection = np.maximum(shared, 0).astype(np.float64).prod(axis=1)
    areas = (first[:, 2:] - first[:, :2]).prod(axis=1) + (second[:, 2:] - second[:, :2]).prod(axis=1)
    with np.errstate(invalid="ignore"):
        return intersection / (areas - intersection)


def average_precision(right: Bool[np.ndarray, " n"], number: int) -> float:
    """The area below the envelope of precision over recall.

    Args:
      right: of each detection, by descending score, whether it is.
      number: of boxes there are to find.
    """
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall rises by 1 / number where a detection is right, and nowhere else.
    return float(envelope[right].sum() / number)
