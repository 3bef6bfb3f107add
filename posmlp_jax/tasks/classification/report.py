"""The results by class at the end of a run and of `--mode=eval`: on the terminal, and in files.

`WORKDIR/evaluation/step900_ema/` is about the moving average of step 900, and `step900_eval/` about its weights; what
sets an evaluation apart from the run's own comes behind that, as in `step900_ema_4x3_views/`. `classes.csv` has a row
for each class, `confusion.csv` and `confusion.png` which class was taken for which.
"""

import io
from collections.abc import Mapping
from typing import Any

from etils import epath

from posmlp_jax.checkpoints.evaluations import WHOSE
from posmlp_jax.tasks.classification.outcomes import METRICS, Outcomes, class_table, confusion_table, format_table
from posmlp_jax.tasks.reporting import find_better, write_files
from posmlp_jax.terminal import report

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
    split = find_better(evaluations, METRICS[0])
    if split is None:
        return
    metrics, outcomes = evaluations[split]
    present, classes = int((outcomes.counts > 0).sum()), len(outcomes.class_names)
    over = f" (over the {present} of {classes} classes that there are {kind}s of)" if present < classes else ""
    title = f"balanced accuracy {100 * metrics['balanced_accuracy']:.2f} %{over}, {WHOSE[split]} of step {step}"
    report(f"{title}, class by class:\n{format_table(outcomes, kind)}")
    if workdir is None:
        return
    files = _files(outcomes, f"top-1 {100 * metrics['top1']:.2f} %, {title}")
    left_out = [name for name in _FILES if name not in files]
    why = f"; no {' and no '.join(left_out)} of {classes} classes" if left_out else ""
    write_files(workdir, step, split, protocol, files, why)


def _files(outcomes: Outcomes, title: str) -> dict[str, str | bytes]:
    """What there is to write for so many classes, by the files' names."""
    # Not above: Matplotlib takes a third of a second, which a run should not wait for.
    from posmlp_jax.tasks.classification.confusion import MOST_CLASSES, draw_confusion

    files = {"classes.csv": class_table(outcomes)}
    classes = len(outcomes.class_names)
    if classes <= _MOST_IN_TABLE:
        files["confusion.csv"] = confusion_table(outcomes)
    if classes <= MOST_CLASSES:
        picture = io.BytesIO()
        draw_confusion(outcomes.confusion_matrix(), outcomes.class_names, title).savefig(picture, dpi=120)
        files["confusion.png"] = picture.getvalue()
    return files
