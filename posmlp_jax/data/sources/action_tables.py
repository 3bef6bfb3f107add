"""What a config's tables say of a split of films: `data.films`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from posmlp_jax.data.sources.ava_tables import (
    Boxes,
    read_detections,
    read_excluded,
    read_ground_truth,
    read_label_map,
)
from posmlp_jax.data.sources.objects import Category
from posmlp_jax.errors import DataError

_OTHER = {"train": "eval", "eval": "train"}
_OPTIONAL = ("excluded", "boxes")


class ActionTables(NamedTuple):
    """The tables of a split.

    Attributes:
      files: those that were read, the labels first.
      categories: the label map's actions.
      num_classes: the highest id of an action there or in the labels of either split.
      truth: the labels.
      detected: a detector's boxes, of the films of `truth` and with scores that are high enough; None: there are none.
      excluded: key frames, (video, second), that are left out.
      remarks: lines about what is left out.
    """

    files: tuple[Path, ...]
    categories: tuple[Category, ...]
    num_classes: int
    truth: Boxes
    detected: Boxes | None
    excluded: frozenset[tuple[str, int]]
    remarks: tuple[str, ...]


def read_action_tables(folder: Path, films: Mapping[str, Any], split: Literal["train", "eval"]) -> ActionTables:
    """Reads the tables of a split.

    Args:
      folder: in which they are.
      films: `data.films` of a config.
      split: 'train' or 'eval'.

    Raises:
      DataError: when one is missing or broken, or the detector's boxes are not of the labels' films.
    """
    labels, label_map = _find(folder, films, f"{split}_labels"), _find(folder, films, "label_map")
    truth, categories = read_ground_truth(labels), read_label_map(label_map)
    # A model that is trained on one split and evaluated on the other has outputs for both.
    other = _highest_id(folder / films[f"{_OTHER[split]}_labels"])
    excluded, boxes = (_find(folder, films, f"{split}_{name}") for name in _OPTIONAL)
    num_classes = max(categories[-1].id, int(truth.actions.max()), other)
    detected, remarks = None, []
    if boxes is not None:
        detected, remarks = _read_detected(boxes, films[f"{split}_score"], labels, truth)
        if (highest := int(detected.actions.max())) > num_classes:
            raise DataError(f"{boxes} has action {highest}, but those of labels and label map go up to {num_classes}")
        if split == "train" and not highest:
            remarks.append(
                f"warning: no box of {boxes.name} has an action, so that nothing is done in any, also where people of "
                f"{labels.name} do something; lists to train on, as SlowFast's with 'include_negative', have actions"
            )
    return ActionTables(
        files=tuple(file for file in (labels, label_map, excluded, boxes) if file is not None),
        categories=categories,
        num_classes=num_classes,
        truth=truth,
        detected=detected,
        excluded=frozenset() if excluded is None else read_excluded(excluded),
        remarks=tuple(remarks),
    )


def _find(folder: Path, films: Mapping[str, Any], field: str) -> Path | None:
    """The file that a field names; None for '', which those may be that a data set can do without."""
    optional = field.endswith(_OPTIONAL)
    if not films[field] and optional:
        return None
    path = folder / films[field]
    if not films[field] or not path.is_file():
        raise DataError(
            f"no file {path}: set --config.data.films.{field} to its place in {folder}"
            f"{', or to nothing where there is none' if optional else ''}"
        )
    return path


def _highest_id(path: Path) -> int:
    """The highest action of labels, 0 where there are none; in a second, as all else of a million rows takes many."""
    if not path.is_file():
        return 0
    # What is wrong with the file shows when it is read for its own sake.
    with path.open(encoding="utf-8-sig", errors="replace") as opened:
        columns = (line.split(",", 7)[6:7] for line in opened)
        return max((int(action) for (action,) in filter(None, columns) if action.strip().isdecimal()), default=0)


def _read_detected(path: Path, least: float, labels: Path, truth: Boxes) -> tuple[Boxes, list[str]]:
    found = read_detections(path)
    names = set(truth.videos)
    ours = np.fromiter((video in names for video in found.videos), bool, len(found.videos))
    if not ours.any():
        raise DataError(f"{path} has boxes of other films than {labels}: none of '{found.videos[0]}', for one")
    good = ours & (found.scores >= least)
    if not good.any():
        raise DataError(
            f"{path} has no box with a score of {least:g} or more: the best has {found.scores[ours].max():g}"
        )
    remarks = [f"{np.sum(good)} of the {np.sum(ours)} boxes of {path.name} have a score of {least:g} or more"]
    if not ours.all():
        remarks.append(f"{np.sum(~ours)} boxes of {path.name} are of films that {labels.name} has not")
    found = found.take(good)
    labelled, detected = ({*zip(boxes.videos, boxes.seconds.tolist(), strict=True)} for boxes in (truth, found))
    lacking = len(labelled - detected)
    if lacking == len(labelled):
        first = f"'{found.videos[0]},{found.seconds[0]:04d}'"
        raise DataError(f"{path} has no box on a key frame of {labels}, but on others, as {first}")
    if lacking:
        remarks.append(f"{lacking} of the {len(labelled)} key frames of {labels.name} have no box in {path.name}")
    return found, remarks
