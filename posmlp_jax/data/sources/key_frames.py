"""The rows of tables of boxes, brought together: key frames, of these the boxes, of these the actions."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from posmlp_jax.data.sources.ava_tables import Boxes


class ActionBoxes(NamedTuple):
    """The boxes of one key frame, of which there are n, in the order of their tables.

    Attributes:
      boxes: float64 [n, 4], x1, y1, x2, y2 as shares of the frame.
      labels: bool [n, K], whether somebody does action k + 1 there; of a detector's box of which its table says
        nothing, all are False.
      scores: float64 [n], the detector's; 1 of ground truth.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class KeyFrames:
    """The key frames of some tables, by video and second, and their boxes. Boxes with the same corners are one.

    Args:
      truth: labelled boxes.
      detected: a detector's boxes, which may have actions; they are not joined with those of `truth`.
      excluded: key frames, (video, second), that are left out.
      num_classes: K.

    Attributes:
      videos: object [n], texts, sorted.
      seconds: int64 [n], ascending in each video.
      counts: int64 [n], how many boxes each has: one or more.
      num_excluded: how many were left out.
    """

    def __init__(self, truth: Boxes, detected: Boxes, excluded: Collection[tuple[str, int]], num_classes: int):
        self._num_classes = num_classes
        rows = Boxes(*(np.concatenate(columns) for columns in zip(truth, detected, strict=True)))
        labelled = np.arange(len(rows.videos)) < len(truth.videos)
        out = rows.are_of(excluded)
        self.num_excluded = len(set(zip(rows.videos[out], rows.seconds[out].tolist(), strict=True)))
        rows, labelled = rows.take(~out), labelled[~out]
        names, codes = _numbered(rows.videos)
        # A number for each key frame, in their order, which is that of videos and then seconds.
        earliest, latest = rows.seconds.min(initial=0), rows.seconds.max(initial=0)
        span = int(latest - earliest) + 1
        frames, of_row = np.unique(codes * span + (rows.seconds - earliest), return_inverse=True)
        self.videos, self.seconds = names[frames // span], frames % span + earliest
        box, first = _joined(of_row, labelled, rows.boxes)
        self._boxes = rows.boxes[first]
        self._scores = np.where(labelled[first], 1.0, rows.scores[first])
        self.counts = np.bincount(of_row[first], minlength=len(self.seconds))
        self._begins = np.concatenate([[0], np.cumsum(self.counts)])
        # In the order of the boxes, the actions of all their rows.
        done = rows.actions > 0
        self._actions = rows.actions[done][np.argsort(box[done], kind="stable")]
        self._action_begins = np.concatenate([[0], np.cumsum(np.bincount(box[done], minlength=len(first)))])

    def __len__(self) -> int:
        """The number of key frames."""
        return len(self.seconds)

    def boxes(self, index: int) -> ActionBoxes:
        """The boxes of a key frame."""
        start, stop = self._begins[index : index + 2].tolist()
        labels = np.zeros((stop - start, self._num_classes), bool)
        places = self._action_begins[start : stop + 1]
        rows = np.repeat(np.arange(stop - start), np.diff(places))
        labels[rows, self._actions[places[0] : places[-1]] - 1] = True
        return ActionBoxes(self._boxes[start:stop], labels, self._scores[start:stop])


def _numbered(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different texts, sorted, and of each text which of them it is; `np.unique` takes ten times as long."""
    names = np.array(sorted(set(texts)), object)
    numbers = {name: number for number, name in enumerate(names)}
    return names, np.fromiter(map(numbers.__getitem__, texts), np.int64, len(texts))


def _joined(frames: np.ndarray, labelled: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joins rows of the same key frame, kind and corners to boxes.

    Returns:
      (of each row its box, int64 [rows]; of each box its first row, int64 [boxes]). Boxes are in the order of the key
      frames, and in each in that of their first rows.
    """
    keys = [*boxes.T, labelled, frames]
    order = np.lexsort(keys)
    differs = np.zeros(len(order), bool)
    for key in keys:
        ordered = key[order]
        differs[1:] |= ordered[1:] != ordered[:-1]
    differs[:1] = True
    # The sort is stable, so the first of equal rows is the first in the tables.
    first = order[differs]
    by_place = np.lexsort([first, frames[first]])
    place = np.empty(len(first), np.int64)
    place[by_place] = np.arange(len(first))
    box = np.empty(len(order), np.int64)
    box[order] = place[np.cumsum(differs) - 1]
    return box, first[by_place]
