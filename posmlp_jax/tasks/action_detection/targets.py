"""What a batch holds of a key frame: boxes where augmentation has put them, and what is done in them."""

from collections.abc import Mapping, Sequence

import numpy as np

from posmlp_jax.data.augment.placement import Placement
from posmlp_jax.data.sources.films import ActionSource
from posmlp_jax.data.sources.key_frames import ActionBoxes
from posmlp_jax.data.targets import flipped_labels


class ActionTargets:
    """The boxes of each key frame, box j in row j.

    `size` is what of a batch's frames shows the film, (height, width) from the upper left; `boxes` are x1, y1, x2, y2
    in pixels of them and end where that does; `labels` are 1 for each action of a box, `valid` 1 for each box of which
    something is seen. Where no box is, all are 0.

    Args:
      source: the key frames.
      most: how many boxes a batch holds of each. Of a key frame with more, those that are not seen are left out, then
        the smallest, and the others move up.
      label_pairs: of names of actions that a mirror exchanges (`flipped_labels`).

    Raises:
      ConfigError: as `flipped_labels`.
    """

    def __init__(self, source: ActionSource, most: int, label_pairs: Sequence[Sequence[str]] = ()):
        self._most = most
        self._mirrored = flipped_labels(source, label_pairs)
        self.columns = {
            "size": ((2,), np.int32),
            "boxes": ((most, 4), np.float32),
            "labels": ((most, source.num_classes), np.uint8),
            "valid": ((most,), np.uint8),
        }

    def __call__(self, target: ActionBoxes, placement: Placement) -> Mapping[str, np.ndarray]:
        """One key frame's values, by column."""
        boxes, seen = _place(target.boxes, placement)
        chosen = np.arange(len(boxes))
        if len(boxes) > self._most:
            areas = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
            chosen = np.sort(np.lexsort([-areas, ~seen])[: self._most])
        labels = target.labels[chosen]
        values = {name: np.zeros(shape, kind) for name, (shape, kind) in self.columns.items()}
        values["size"][:] = placement.extent
        values["boxes"][: len(chosen)] = boxes[chosen]
        values["labels"][: len(chosen)] = labels[:, self._mirrored] if placement.mirrored else labels
        values["valid"][: len(chosen)] = seen[chosen]
        return values


def _place(boxes: np.ndarray, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Boxes in pixels of a batch's frames, float32 [n, 4], and of which something is seen, bool [n].

    Of one that was turned it is the box around its corners.
    """
    corners = np.stack([boxes[:, [0, 2, 0, 2]], boxes[:, [1, 1, 3, 3]], np.ones((len(boxes), 4))], axis=-1)
    placed = corners @ placement.matrix.T
    least, most = placed.min(1), placed.max(1)
    ends = np.array(placement.extent[::-1])
    seen = ((least < ends) & (most > 0)).all(-1)
    return np.concatenate([np.clip(least, 0, ends), np.clip(most, 0, ends)], axis=1).astype(np.float32), seen
