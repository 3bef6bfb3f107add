"""What is printed and written of micro-expressions: of one person who was left out, and of all of them together.

Of one, `WORKDIR/evaluation/step300_ema/predictions.csv` has a row for each clip. Of all, `WORKDIR/leave_one_out/` has
`predictions.csv` likewise; `scores.json`, the scores of all and of each data set; `classes.csv`, a row for each class;
and `confusion.csv` and `confusion.png`, which class was taken for which.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

from etils import epath
from rich.table import Table

from posmlp_jax.checkpoints.evaluations import WHOSE
from posmlp_jax.tasks.classification.outcomes import class_table, confusion_table, format_table
from posmlp_jax.tasks.micro_expressions.predictions import Predictions
from posmlp_jax.tasks.micro_expressions.scoring import METRICS, PooledScores
from posmlp_jax.tasks.reporting import write_files
from posmlp_jax.terminal import as_text, report
from posmlp_jax.writing import atomic_write, writing_to


def counted(evaluations: Mapping[str, Any]) -> str:
    """Which weights count, 'ema' or 'eval': the moving average where there is one, whatever it makes of the clips."""
    return "ema" if "ema" in evaluations else "eval"


def report_fold(workdir: epath.Path | None, step: int, evaluations: Mapping[str, Any], protocol: str = "") -> None:
    """Prints how many of the left-out person's clips were recognised, and writes what each was taken for.

    Args:
      workdir: the working directory, or where else files go. None: there are no files.
      step: whose weights these are.
      evaluations: by split, 'eval' and 'ema'.
      protocol: what sets them apart from the run's own evaluations, or ''.
    """
    split = counted(evaluations)
    found: Predictions | None = evaluations[split].details
    if found is None:  # On other hosts, and where there are no finite numbers.
        return
    right = int((found.labels == found.predictions).sum())
    people = ", ".join(sorted(set(found.subjects)))
    report(f"{people}, left out: {right} of {len(found.clips)} clips right ({WHOSE[split]} of step {step})")
    if workdir is not None:
        write_files(workdir, step, split, protocol, {"predictions.csv": found.table()})


def report_folds(folder: epath.Path, found: Predictions) -> PooledScores:
    """Prints and writes what the predictions of all folds, put together, come to.

    Args:
      folder: for the files.
      found: the predictions.

    Returns:
      The scores of all of them.

    Raises:
      CheckpointError: if the files cannot be written.
    """
    # Not above: Matplotlib takes a third of a second.
    from posmlp_jax.tasks.classification.confusion import draw_confusion

    parts = {name: found.of_dataset(name) for name in dict.fromkeys(found.datasets)}
    if len(parts) > 1:
        parts["all"] = found
    judged = {name: part.judged() for name, part in parts.items()}
    report(f"leaving out each of {len(set(found.subjects))} subjects in turn:\n{_score_table(parts, judged)}")
    report(f"class by class:\n{format_table(found.outcomes, 'video')}")
    whole = found.judged()
    outcomes, picture = found.outcomes, io.BytesIO()
    title = ", ".join(f"{metric.label} {metric.format(value)}" for metric, value in zip(METRICS, whole, strict=True))
    draw_confusion(outcomes.confusion_matrix(), outcomes.class_names, title).savefig(picture, dpi=120)
    files = {
        "scores.json": json.dumps(_as_json(found, whole) | {"datasets": _datasets(parts, judged)}, indent=2) + "\n",
        "predictions.csv": found.table(),
        "classes.csv": class_table(outcomes),
        "confusion.csv": confusion_table(outcomes),
        "confusion.png": picture.getvalue(),
    }
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            atomic_write(folder / name, content)
    report(f"wrote {', '.join(files)} to {folder}")
    return whole


def _score_table(parts: Mapping[str, Predictions], judged: Mapping[str, PooledScores]) -> str:
    table = Table(box=None, header_style="none", padding=(0, 0, 0, 2), pad_edge=True)
    table.add_column("clips of", no_wrap=True)
    for column in ("subjects", "clips", *(metric.label for metric in METRICS)):
        table.add_column(column, justify="right", no_wrap=True)
    for name, part in parts.items():
        shown = (metric.format(value) for metric, value in zip(METRICS, judged[name], strict=True))
        table.add_row(name, str(len(set(part.subjects))), str(len(part.clips)), *shown)
    return as_text(table)


def _as_json(part: Predictions, judged: PooledScores) -> dict[str, Any]:
    return {"subjects": len(set(part.subjects)), "clips": len(part.clips), **judged._asdict()}


def _datasets(parts: Mapping[str, Predictions], judged: Mapping[str, PooledScores]) -> dict[str, Any]:
    return {name: _as_json(part, judged[name]) for name, part in parts.items() if name != "all"}
