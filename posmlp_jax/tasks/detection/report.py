"""The results by class at the end of a run and of `--mode=eval`: on the terminal, and in files.

`WORKDIR/evaluation/step900_ema/` is about the moving average of step 900, and `step900_eval/` about its weights.
`classes.csv` has a row for each class. `detections.json` is all that was found, in COCO's result format, `masks.json`
the masks of it, and `groundtruth.json` what they were compared with: by these any implementation of the metric can
score them again. Masks are a file of their own, without boxes, as COCO's server takes them: the metric would take the
area of a box beside it for the mask's.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from rich.table import Table

from posmlp_jax.checkpoints.evaluations import WHOSE
from posmlp_jax.data import AnnotatedSource
from posmlp_jax.tasks.detection.scoring import KINDS, METRICS, Scores, detections_of, ground_truth
from posmlp_jax.tasks.reporting import csv_table, find_better, shortened, write_files
from posmlp_jax.terminal import as_text, report

# A table has all classes where there are no more than so many, and else so many of the worst.
_LISTED, _WORST = 20, 10
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
        f"{label} {_percent(metrics[f'{kind}_{name}'])}" if f"{kind}_{name}" in metrics else f"no {label} objects"
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
    shown = np.flatnonzero(counts)
    head = "class"
    if len(shown) > _LISTED:
        shown = shown[np.argsort(scores.by_class["box_ap"][shown], kind="stable")][:_WORST]
        head = f"worst {len(shown)} classes"
    table = Table(box=None, header_style="none", padding=(0, 0, 0, 2), pad_edge=True)
    table.add_column(head, overflow="fold")
    table.add_column("objects", justify="right", no_wrap=True)
    for name in scores.by_class:
        label = next(metric.label for metric in METRICS if metric.name == name)
        table.add_column(label, justify="right", no_wrap=True)
    for label in shown:
        values = (_percent(values[label], 1) for values in scores.by_class.values())
        table.add_row(shortened(class_names[label]), str(counts[label]), *values)
    return as_text(table)


def class_table(scores: Scores, source: AnnotatedSource, counts: np.ndarray) -> str:
    """CSV: class, id, objects, and what `Scores.by_class` has, empty where there are no objects."""
    rows = [("class", "id", "objects", *scores.by_class)]
    for label, (category, count) in enumerate(zip(source.categories, counts, strict=True)):
        values = [values[label] for values in scores.by_class.values()]
        shown = ("" if math.isnan(value) else f"{value:.6g}" for value in values)
        rows.append((category.name, category.id, count, *shown))
    return csv_table(rows)


def _percent(value: float, digits: int = 2) -> str:
    return "none" if math.isnan(value) else f"{100 * value:.{digits}f} %"
