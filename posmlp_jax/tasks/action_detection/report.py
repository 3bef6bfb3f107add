"""The results by action at the end of a run and of `--mode=eval`: on the terminal, and in files.

`WORKDIR/evaluation/step900_ema/` is about the moving average of step 900, and `step900_eval/` about its weights.
`classes.csv` has a row for each action. `detections.csv`, in AVA's format, has the scores of all actions in all boxes,
unrounded, and `groundtruth.csv` what they were compared with: `python -m posmlp_jax.tasks.action_detection.frame_map`,
or any other implementation of the metric, scores them again.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from posmlp_jax.checkpoints.evaluations import WHOSE
from posmlp_jax.data.sources.ava_tables import Boxes, boxes_csv
from posmlp_jax.data.sources.films import ActionSource
from posmlp_jax.tasks.action_detection.scoring import METRICS, ActionScores, class_ids
from posmlp_jax.tasks.reporting import find_better, percent, precision_rows, precision_table, write_files
from posmlp_jax.terminal import report


def report_actions(
    workdir: epath.Path | None, step: int, evaluations: Mapping[str, Any], source: ActionSource, protocol: str = ""
) -> None:
    """Prints and writes what the better one of some `Evaluation`s says of each action; nothing where all are NaN.

    Args:
      workdir: the working directory, or where else files go. Where it cannot be written to, a line says so. None: there
        are no files.
      step: whose weights these are.
      evaluations: by split, 'eval' and 'ema'.
      source: what they are of.
      protocol: what sets them apart from the run's own evaluations, or ''.
    """
    split = find_better(evaluations, METRICS[0])
    if split is None:
        return
    scores: ActionScores = evaluations[split].details
    names, values, counts = by_class(scores, source)
    whose = f"{WHOSE[split]} of step {step}"
    over = f"over {len(scores.result.classes)} of {len(names)} actions (protocol {scores.protocol}), {whose}"
    table = precision_table(values, names, counts, "boxes")
    report(f"mAP {percent(scores.result.map)} {over}, action by action:\n{table}")
    if workdir is None:
        return
    files = {
        "classes.csv": precision_rows({"ap": values["AP"]}, names, class_ids(source), counts, "boxes"),
        "detections.csv": boxes_csv(scores.detections),
        "groundtruth.csv": boxes_csv(source.truth),
    }
    write_files(workdir, step, split, protocol, files)


def by_class(scores: ActionScores, source: ActionSource) -> tuple[list[str], dict[str, np.ndarray], np.ndarray]:
    """Of each action of the label map its name, its average precision, NaN of one without, and its boxes' number."""
    ids = class_ids(source)
    names = {int(category.id): category.name for category in source.categories}
    precision = np.array([scores.result.classes.get(number, np.nan) for number in ids])
    counted = counted_truth(source)
    counts = np.array([int((counted.actions == number).sum()) for number in ids])
    return [names[number] for number in ids], {"AP": precision}, counts


def counted_truth(source: ActionSource) -> Boxes:
    """The ground truth without that of excluded key frames."""
    return source.truth.take(~source.truth.are_of(source.excluded))
