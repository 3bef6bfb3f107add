"""Draws the curves of training runs: `python -m posmlp_jax.analysis.curves WORKDIR … [--output=curves.png]`."""

import json
import sys

if __name__ == "__main__":
    from posmlp_jax.command_line import end_at_ctrl_c

    end_at_ctrl_c()

import matplotlib.pyplot as plt
from etils import epath

from posmlp_jax.checkpoints.evaluations import Metric
from posmlp_jax.checkpoints.run import task_of
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.errors import DataError
from posmlp_jax.figures import save_figure
from posmlp_jax.paths import as_path
from posmlp_jax.tasks import find_task
from posmlp_jax.training.workdir import read_config

# What `metrics.jsonl` calls its splits.
_LINES = {"train": ("training", ":"), "eval": ("evaluation", "-"), "ema": ("evaluation, moving average", "--")}


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
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"{path}: line {number} is not whole and is passed over", file=sys.stderr)
    return rows


def deciding_metric(workdir: epath.Path) -> Metric:
    """The metric that decides in a run's task; runs before there were tasks were of classification.

    Raises:
      ConfigError: for a task that this version does not know.
      CheckpointError: if the run's config cannot be read.
    """
    return find_task(task_of(read_config(workdir) or {})).metrics[0]


def draw_curves(workdirs: list[epath.Path]) -> plt.Figure:
    """A figure with the loss, the metric that decides and the learning rate over steps, one colour a run."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    deciding = []
    for index, workdir in enumerate(workdirs):
        metrics, metric = read_metrics(workdir), deciding_metric(workdir)
        deciding.append(f"{metric.label} (%)" if metric.percent else metric.label)
        for split, (label, style) in _LINES.items():
            rows = [row for row in metrics if row["split"] == split and row["loss"] is not None]
            if not rows:
                continue
            steps = [row["step"] for row in rows]
            name = label if len(workdirs) == 1 else f"{workdir.name}, {label}"
            options = {"linestyle": style, "color": f"C{index}", "label": name}
            axes[0].plot(steps, [row["loss"] for row in rows], **options)
            measured = [row for row in rows if row.get(metric.name) is not None]
            values = [row[metric.name] * (100 if metric.percent else 1) for row in measured]
            axes[1].plot([row["step"] for row in measured], values, **options)
            if split == "train":
                axes[2].plot(steps, [row["learning_rate"] for row in rows], color=f"C{index}")
    titles = ("loss", " and ".join(dict.fromkeys(deciding)), "learning rate")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        axis.set_xlim(left=0)
    axes[1].legend(loc="lower right")
    return figure


def main(arguments: list[str] | None = None) -> None:
    """Writes the figure that the command line asks for."""
    parser = CommandParser("posmlp_jax.analysis.curves", __doc__)
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR")
    parser.add_argument("--output", default="curves.png")
    options = parser.parse_args(arguments)
    save_figure(draw_curves([as_path(workdir) for workdir in options.workdirs]), options.output)


if __name__ == "__main__":
    run_program(main, None)
