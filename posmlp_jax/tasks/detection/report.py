"""The results by class at the end of a run and of `--mode=eval`: on the terminal, and in files.

`WORKDIR/evaluation/step900_ema/` is about the moving average of step 900, and `step900_eval/` about its weights.
`classes.csv` has a row for each class. `detections.json` is all that was found, in COCO's result format, `masks.json`
the masks of it, and `groundtruth.json` what they were compared with: by these any implementation of the metric can
score them again. Masks are a file of their own, without boxes, as COCO's server takes them: the metric would take the
area of a box beside it for the mask's.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from posmlp_jax.checkpoints.evaluations import WHOSE
from posmlp_jax.data import AnnotatedSource
from posmlp_jax.tasks.detection.scoring import KINDS, METRICS, Scores, detections_of, ground_truth
from posmlp_jax.tasks.reporting import find_better, percent, precision_rows, precision_table, write_files
from posmlp_jax.terminal import report

_SIZES = {"ap_s": "small", "ap_m": "medium", "ap_l": "large"}


def report_detections(
    workdir: epath.Path | None, step: int, evaluations: Mapping[str, Any], source: AnnotatedSource, protocol: str = ""
) -> None:
    """Prints and writes what the better one of some `Evaluation`s says of each class; nothing where all are NaN.

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
    metrics, scores = evaluations[split]
    kinds = [kind for kind in KINDS if f"{kind}_ap" in scores.by_class]
    for kind in kinds:
        report(f"{describe_precision(metrics, kind)}, {WHOSE[split]} of step {step}")
    truth = ground_truth(source)
    counts = count_objects(truth)
    report(f"class by class:\n{format_table(scores, source.class_names, counts)}")
    if workdir is None:
        return
    files = {
        "classes.csv": class_table(scores, source, counts),
        "detections.json": json.dumps(detections_of(scores.detections, "box")),
        "groundtruth.json": json.dumps(truth),
    }
    if "mask" in kinds:
        files["masks.json"] = json.dumps(detections_of(scores.detections, "mask"))
    write_files(workdir, step, split, protocol, files)


def describe_precision(metrics: Mapping[str, float], kind: str) -> str:
    """All that is measured of boxes, or of masks: 'box AP 41.90 %, AP50 63.20 %, …'."""
    if f"{kind}_ap" not in metrics:
        return f"there is no {kind} AP, as there are no objects"
    names = {"ap": f"{kind} AP", "ap50": "AP50", "ap75": "AP75"} | _SIZES
    shown = [
        f"{label} {percent(metrics[f'{kind}_{name}'])}" if f"{kind}_{name}" in metrics else f"no {label} objects"
        for name, label in names.items()
    ]
    return ", ".join(shown)


def count_objects(truth: Mapping[str, Any]) -> np.ndarray:
    """How many objects that are no crowds each class has in what `ground_truth` gives, int64 [K]."""
    number = {category["id"]: index for index, category in enumerate(truth["categories"])}
    classes = [number[each["category_id"]] for each in truth["annotations"] if not each["iscrowd"]]
    return np.bincount(np.array(classes, np.int64), minlength=len(number))


def format_table(scores: Scores, class_names: Sequence[str], counts: np.ndarray) -> str:
    """A table for the terminal: of each class that there are objects of, these and what `Scores.by_class` has."""
    labels = {metric.name: metric.label for metric in METRICS}
    values = {labels[name]: column for name, column in scores.by_class.items()}
    return precision_table(values, class_names, counts, "objects")


def class_table(scores: Scores, source: AnnotatedSource, counts: np.ndarray) -> str:
    """CSV: class, id, objects, and what `Scores.by_class` has, empty where there are no objects."""
    names, ids = zip(*((category.name, category.id) for category in source.categories), strict=True)
    return precision_rows(scores.by_class, names, ids, counts, "objects")
