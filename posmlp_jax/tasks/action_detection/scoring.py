"""What an evaluation of action detection comes to: a table of scored boxes, and the frame mAP of it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from posmlp_jax.checkpoints.evaluations import Metric
from posmlp_jax.data.sources.ava_tables import Boxes
from posmlp_jax.data.sources.films import ActionSource
from posmlp_jax.tasks.action_detection.frame_map import FrameMAP, frame_map

METRICS = (Metric("map", "mAP"),)


@dataclass(frozen=True)
class ActionScores:
    """What an evaluation says beyond its metric.

    Attributes:
      detections: every action of the label map in every box that was looked at.
      result: what they come to.
      protocol: by which of `frame_map.PROTOCOLS`.
    """

    detections: Boxes
    result: FrameMAP
    protocol: str


def class_ids(source: ActionSource) -> tuple[int, ...]:
    """The ids of the actions that are evaluated, the label map's, ascending."""
    return tuple(sorted(int(category.id) for category in source.categories))


def scored_boxes(source: ActionSource, scores: Float[np.ndarray, "examples most classes"]) -> Boxes:
    """The table of all boxes, where they were found and not where augmentation put them, with every action's score.

    Args:
      source: of which each example is a key frame, with its boxes.
      scores: of each example's boxes, in the source's order.
    """
    ids = np.array(class_ids(source))
    boxes = [source[index][1].boxes for index in range(len(source))]
    counts = np.array([len(each) for each in boxes])
    there = np.arange(scores.shape[1]) < counts[:, None]
    # Of each box a row for each class.
    frame, actions = np.repeat(np.arange(len(source)), counts * len(ids)), np.tile(ids, counts.sum())
    return Boxes(
        source.videos[frame],
        source.seconds[frame],
        np.repeat(np.concatenate(boxes), len(ids), axis=0).astype(np.float64),
        actions.astype(np.int64),
        scores[there][:, ids - 1].ravel().astype(np.float64),
        np.full(len(frame), -1, np.int64),
    )


def score(source: ActionSource, scores: Float[np.ndarray, "examples most classes"], protocol: str) -> ActionScores:
    """The frame mAP of the scores of a source's boxes.

    Args:
      source: as of `scored_boxes`, and so are the scores.
      scores: likewise.
      protocol: one of `frame_map.PROTOCOLS`.
    """
    detections = scored_boxes(source, scores)
    ids = class_ids(source)
    result = frame_map(source.truth, detections, ids, excluded=source.excluded, protocol=protocol)
    return ActionScores(detections, result, protocol)
