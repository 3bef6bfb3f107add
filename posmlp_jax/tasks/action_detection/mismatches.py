"""What makes a frame mAP 0, or one that is not to be compared with others: tables that do not belong together."""

from collections.abc import Collection

import numpy as np
from jaxtyping import Int

from posmlp_jax.data.sources.ava_tables import Boxes
from posmlp_jax.errors import DataError
from posmlp_jax.tasks.action_detection.matching import OVERLAP, are_right, number_frames

# What AVA's list of actions names, and how many of them AVA's numbers are about.
_NAMED, _COUNTED = 80, 60


def check_tables(truth: Boxes, detections: Boxes, classes: Collection[int]) -> list[str]:
    """Looks for what makes an mAP 0 or not comparable with others'.

    Args:
      truth: ground truth.
      detections: to be scored.
      classes: the label map's ids.

    Returns:
      What there is to say about tables that can be scored, in lines.

    Raises:
      DataError: for tables that have nothing to do with each other or with the label map.
    """
    if not detections.actions.all():
        row = int(np.flatnonzero(detections.actions == 0)[0])
        raise DataError(
            f"row {row + 1} of the detections has no action: these are a detector's boxes, which are to be classified "
            "before they can be scored"
        )
    ids = np.array(sorted(set(classes)))
    for what, boxes in (("ground truth", truth), ("detections", detections)):
        if not np.isin(boxes.actions, ids).any():
            raise DataError(f"no action of the {what} ({_listed(boxes.actions)}) is in the label map ({_listed(ids)})")
    frames, of_detections = number_frames(truth, detections)
    among = np.isin(of_detections, frames)
    if not among.any():
        raise DataError(
            f"no detection is on a key frame of ground truth, the first being {_key(detections)} and {_key(truth)}: "
            f"the {'seconds' if set(detections.videos) & set(truth.videos) else 'names of the videos'} differ"
        )
    notes = []
    for what, boxes in (("ground truth", truth), ("the detections", detections)):
        if unknown := len(np.setdiff1d(boxes.actions, ids)):
            notes.append(f"{unknown} of the actions of {what} are not in the label map, and do not count")
    if len(ids) == _NAMED and ids[-1] == _NAMED:
        notes.append(
            f"the label map has all {_NAMED} actions of AVA, whose numbers are over the {_COUNTED} of "
            "ava_action_list_…_for_activitynet_….pbtxt"
        )
    lacking = len(np.setdiff1d(frames, of_detections))
    if lacking:
        notes.append(f"{lacking} of {len(np.unique(frames))} key frames of ground truth have no detection")
    if not among.all():
        notes.append(f"{(~among).sum()} of {len(among)} detections are on frames without ground truth")
    if not are_right(of_detections, detections.boxes, frames, truth.boxes).any():
        notes.append(f"no detection overlaps a box of ground truth, of any action, with an IoU of {OVERLAP}")
    return notes


def _listed(ids: Int[np.ndarray, " n"]) -> str:
    shown = np.unique(ids).tolist()
    return ", ".join(map(str, shown[:5])) + (f", … {shown[-1]}" if len(shown) > 5 else "")


def _key(boxes: Boxes) -> str:
    return f"'{boxes.videos[0]},{boxes.seconds[0]:04d}'"
