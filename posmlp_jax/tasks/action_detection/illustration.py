"""Training clips with the boxes that are learned from, for the preview."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8

from posmlp_jax.tasks.detection.illustration import count_names, shrink
from posmlp_jax.tasks.detection.pictures import draw_objects, label_text


def illustrate_actions(
    batch: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> tuple[UInt8[np.ndarray, "batch frames height width 3"], list[str]]:
    """A batch's clips, small, with boxes and what is done in them; captions count the actions.

    A box is that of the frame in the middle, and drawn where the model looks: at the same place in all frames.

    Args:
      batch: as `targets.ActionTargets` makes it.
      class_names: of all actions.
    """
    drawn, captions = [], []
    for clip, boxes, labels, valid in zip(
        *(batch[name] for name in ("image", "boxes", "labels", "valid")), strict=True
    ):
        there = valid > 0
        done = [np.flatnonzero(row).tolist() for row in labels[there]]
        texts = [", ".join(label_text(class_names[index], index + 1) for index in row) or "nothing" for row in done]
        drawn.append([_draw(frame, boxes[there], texts) for frame in clip])
        captions.append(count_names([class_names[index] for row in done for index in row], "(no actions)"))
    return np.array(drawn), captions


def _draw(frame: np.ndarray, boxes: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    small = shrink(frame)
    scale = small.shape[1] / frame.shape[1], small.shape[0] / frame.shape[0]
    # A colour for each person.
    return draw_objects(small, boxes * np.array([*scale, *scale]), np.arange(len(boxes)), texts)
