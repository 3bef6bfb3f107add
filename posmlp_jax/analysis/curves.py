"""Draws the curves of training runs: `python -m posmlp_jax.analysis.curves WORKDIR … [--output=curves.png]`.

`--published=posmlp_t` (or posmlp_s) lays them over the log of the authors' own run on ImageNet, epoch by epoch, as far
as the runs have come and a little further, and says how far they are apart.
"""

import json
import sys
from collections.abc import Iterator

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

import numpy as np
from etils import epath
from matplotlib.figure import Figure

from posmlp_jax.analysis.published_logs import published_log
from posmlp_jax.checkpoints.evaluations import WHOSE, Metric
from posmlp_jax.checkpoints.run import task_of
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.errors import ConfigError, DataError
from posmlp_jax.figures import add_legend, save_figure
from posmlp_jax.paths import as_path
from posmlp_jax.tasks import find_task
from posmlp_jax.training.workdir import read_config

# What `metrics.jsonl` calls its splits.
_LINES = {"train": ("training", ":"), "eval": ("evaluation", "-"), "ema": ("evaluation, moving average", "--")}
# Of a published log there is shown so much more than of the runs, and so many epochs at least.
_FURTHER, _AT_LEAST = 1.5, 5
# The classes of the published logs.
_IMAGENET = 1000
# Up to so many values are shown as points as well.
_FEW = 12


def read_metrics(workdir: epath.Path) -> list[dict]:
    """The lines of a working directory's `metrics.jsonl`; one that a kill or a crash spoilt is named and left out.

    Raises:
      DataError: if there is no such file.
    """
    path = workdir / "metrics.jsonl"
    if not path.is_file():
        raise DataError(f"{workdir} has no metrics.jsonl; name the --workdir of a training run")
    rows = []
    for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), 1):
        if (row := _row(line)) is None:
            print(f"{path}: line {number} is not whole and is passed over", file=sys.stderr)
        else:
            rows.append(row)
    return rows


def _row(line: str) -> dict | None:
    """What a line says; None of one that `MetricsWriter` cannot have written."""
    try:
        row = json.loads(line)
        numbers = [row["step"], *(value for name, value in row.items() if name != "split" and value is not None)]
        known = row["split"] in _LINES
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return row if known and all(isinstance(number, int | float) for number in numbers) else None


def deciding_metric(workdir: epath.Path) -> Metric:
    """The metric that decides in a run's task; runs before there were tasks were of classification.

    Raises:
      ConfigError: for a task that this version does not know.
      CheckpointError: if the run's config cannot be read.
    """
    return find_task(task_of(read_config(workdir) or {})).metrics[0]


def steps_per_epoch(workdir: epath.Path, metrics: list[dict]) -> float:
    """How many steps a run's epoch has, by what its training lines say of both.

    Raises:
      DataError: if there is none yet.
    """
    for row in metrics:
        if row["split"] == "train" and row.get("epoch"):
            return row["step"] / row["epoch"]
    raise DataError(f"{workdir} has no line of training yet that says how many steps its epochs have")


def draw_curves(workdirs: list[epath.Path], published: str = "") -> Figure:
    """A figure with the loss, the metric that decides and the learning rate, one colour a run, over steps.

    Args:
      workdirs: of the runs.
      published: a model whose published log is laid under them: then over epochs.

    Raises:
      ConfigError: for a model without such a log, or runs of another task than the log's.
      DataError: for a directory without metrics or, where epochs are to be shown, without those.
    """
    log = published_log(published) if published else {}
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    axes = figure.subplots(1, 3, sharex=True)
    deciding, last = [], 0.0
    for index, workdir in enumerate(workdirs):
        metrics, metric = read_metrics(workdir), deciding_metric(workdir)
        if not metrics:
            raise DataError(f"{workdir / 'metrics.jsonl'} has no metrics yet: a run writes them every log_every")
        if log and metric.name != "top1":
            raise ConfigError(f"the published logs have top-1, and {workdir} is judged by {metric.label}")
        unit = steps_per_epoch(workdir, metrics) if log else 1
        last = max([last, *(row["step"] / unit for row in metrics)])
        deciding.append(f"{metric.label} (%)" if metric.percent else metric.label)
        for split, (label, style) in _LINES.items():
            rows = [row for row in metrics if row["split"] == split and row.get("loss") is not None]
            if not rows:
                continue
            steps = [row["step"] / unit for row in rows]
            name = label if len(workdirs) == 1 and not log else f"{workdir.name}, {label}"
            # A point alone makes no line.
            marker = "." if len(rows) <= _FEW else ""
            options = {"linestyle": style, "marker": marker, "color": f"C{index}", "label": name}
            axes[0].plot(steps, [row["loss"] for row in rows], **options)
            measured = [row for row in rows if row.get(metric.name) is not None]
            values = [row[metric.name] * (100 if metric.percent else 1) for row in measured]
            axes[1].plot([row["step"] / unit for row in measured], values, **options)
            if split == "train":
                axes[2].plot(steps, [row.get("learning_rate") for row in rows], marker=marker, color=f"C{index}")
    for split, curve in log.items():
        label, style = _LINES[split]
        shown = curve.epochs <= max(_FURTHER * last, _AT_LEAST)
        options = {"linestyle": style, "color": "black", "alpha": 0.5, "label": f"{published} as published, {label}"}
        axes[0].plot(curve.epochs[shown], curve.loss[shown], **options)
        if curve.top1 is not None:
            axes[1].plot(curve.epochs[shown], 100 * curve.top1[shown], **options)
    titles = ("loss", " and ".join(dict.fromkeys(deciding)), "learning rate")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xlabel="epoch" if log else "step")
        axis.grid(alpha=0.3)
        axis.set_xlim(left=0)
    # The loss has every line that there is; a column has those of one run.
    columns = min(len(workdirs) + bool(log), 4)
    add_legend(figure, axes[0].get_lines(), loc="outside lower center", ncols=columns)
    return figure


def compare(workdir: epath.Path, published: str) -> Iterator[str]:
    """Lines that say how far a run's last evaluation is from the published log's at the same epoch.

    Between two epochs the log is taken to be a line; before its first and after its last there is nothing to compare.
    A first line says where a run has other classes than ImageNet, and the distance means little.
    """
    log, metrics = published_log(published), read_metrics(workdir)
    if (classes := _class_count(workdir)) not in (None, _IMAGENET):
        yield f"{workdir.name} tells {classes} classes apart, and {published} as published the {_IMAGENET} of ImageNet"
    unit = steps_per_epoch(workdir, metrics)
    for split, whose in WHOSE.items():
        rows = [row for row in metrics if row["split"] == split and row.get("top1") is not None]
        if not rows:
            continue
        epoch, top1, curve = rows[-1]["step"] / unit, 100 * rows[-1]["top1"], log[split]
        line = f"{workdir.name}, epoch {epoch:.1f}: {whose} {top1:.2f} %"
        if curve.epochs[0] <= epoch <= curve.epochs[-1]:
            there = 100 * float(np.interp(epoch, curve.epochs, curve.top1))
            yield f"{line}, {published} as published {there:.2f} % ({top1 - there:+.2f})"
        else:
            yield f"{line}; the log of {published} is of epochs 1 to {curve.epochs[-1]:.0f}"


def _class_count(workdir: epath.Path) -> int | None:
    """How many classes a run's data have, as far as `data.json` says it."""
    try:
        return len(json.loads((workdir / "data.json").read_bytes())["training"]["classes"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def main(arguments: list[str] | None = None) -> None:
    """Writes the figure that the command line asks for."""
    parser = CommandParser("posmlp_jax.analysis.curves", __doc__)
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR")
    parser.add_argument("--output", default="curves.png")
    parser.add_argument(
        "--published", default="", metavar="MODEL", help="a model whose published log to lay under them"
    )
    options = parser.parse_args(arguments)
    workdirs = [as_path(workdir) for workdir in options.workdirs]
    save_figure(draw_curves(workdirs, options.published), options.output)
    for workdir in workdirs if options.published else ():
        for line in compare(workdir, options.published):
            print(line)


if __name__ == "__main__":
    run_program(main, None)
