"""The results by class at the end of a run and of `--mode=eval`: on the terminal, and in files.

`WORKDIR/evaluation/step900_ema/` is about the moving average of step 900, and `step900_eval/` about its weights; what
sets an evaluation apart from the run's own comes behind that, as in `step900_ema_4x3_views/`. `classes.csv` has a row
for each class, `confusion.csv` and `confusion.png` which class was taken for which.
"""

import io
import math
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from posmlp_jax.checkpoints.evaluations import WHOSE, better_split
from posmlp_jax.errors import CheckpointError
from posmlp_jax.tasks.classification.outcomes import METRICS, Outcomes, class_table, confusion_table, format_table
from posmlp_jax.terminal import report
from posmlp_jax.writing import atomic_write, writing_to

# A confusion matrix of more classes is not written: its file has this number squared of cells, 2 MB.
_MOST_IN_TABLE = 1000
_FILES = ("classes.csv", "confusion.csv", "confusion.png")


def report_by_class(
    workdir: epath.Path | None, step: int, evaluations: Mapping[str, Any], kind: str, protocol: str = ""
) -> None:
    """Prints and writes what the better one of some `Evaluation`s says of each class; nothing where all are NaN.

    Args:
      workdir: the working directory, or where else files go. Where it cannot be written to, a line says so. None: there
        are no files.
      step: whose weights these are.
      evaluations: by split, 'eval' and 'ema'.
      kind: of the source's examples.
      protocol: what sets them apart from the run's own evaluations, or ''.
    """
    if jax.process_index():
        return
    split = better_split({split: each.metrics for split, each in evaluations.items()}, METRICS[0])
    metrics, outcomes = evaluations[split]
    if math.isnan(metrics["loss"]):
        return
    present, classes = int((outcomes.counts > 0).sum()), len(outcomes.class_names)
    over = f" (over the {present} of {classes} classes that there are {kind}s of)" if present < classes else ""
    title = f"balanced accuracy {100 * metrics['balanced_accuracy']:.2f} %{over}, {WHOSE[split]} of step {step}"
    report(f"{title}, class by class:\n{format_table(outcomes, kind)}")
    if workdir is None:
        return
    folder = workdir / "evaluation" / "_".join(filter(None, (f"step{step}", split, protocol)))
    try:
        files = _write(folder, outcomes, f"top-1 {100 * metrics['top1']:.2f} %, {title}")
        left_out = [name for name in _FILES if name not in files]
        why = f"; no {' and no '.join(left_out)} of {len(outcomes.class_names)} classes" if left_out else ""
        report(f"wrote {', '.join(files)} to {folder}{why}")
    except CheckpointError as error:
        report(f"the results by class are not kept: {error}")


def _write(folder: epath.Path, outcomes: Outcomes, title: str) -> list[str]:
    """Writes what there is to write for so many classes; returns the names of the files."""
    # Not above: Matplotlib takes a third of a second, which a run should not wait for.
    from posmlp_jax.tasks.classification.confusion import MOST_CLASSES, draw_confusion

    # A folder's name may be no UTF-8, and then stays as it is.
    files = {"classes.csv": class_table(outcomes).encode(errors="surrogateescape")}
    classes = len(outcomes.class_names)
    if classes <= _MOST_IN_TABLE:
        files["confusion.csv"] = confusion_table(outcomes).encode(errors="surrogateescape")
    if classes <= MOST_CLASSES:
        picture = io.BytesIO()
        draw_confusion(outcomes.confusion_matrix(), outcomes.class_names, title).savefig(picture, dpi=120)
        files["confusion.png"] = picture.getvalue()
    with writing_to(folder.parent.parent):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            atomic_write(folder / name, content)
    return list(files)
