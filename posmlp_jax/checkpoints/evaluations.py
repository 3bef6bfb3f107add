"""What evaluations measure, how two of them compare, and a run's record of them, `evaluations.json`.

That is kept beside the checkpoints and not in them: a checkpoint is written before it is evaluated.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
from etils import epath

from posmlp_jax.paths import list_folder
from posmlp_jax.writing import atomic_write, writing_to

# Of one evaluation: {'eval': {'top1': …, …}, 'ema': {…}}, the raw weights' and, where there is one, the average's.
Results = Mapping[str, Mapping[str, float]]
# What its splits are of.
WHOSE = {"eval": "weights", "ema": "moving average"}


@dataclass(frozen=True)
class Metric:
    """A number that an evaluation gives.

    Attributes:
      name: what logs and files call it, as 'top1'.
      label: what people call it, as 'top-1'.
      percent: whether it is a share, which is shown as a percentage.
      higher_is_better: whether more of it is better.
      brief: whether a log's lines, which have room for few, show it.
    """

    name: str
    label: str
    percent: bool = True
    higher_is_better: bool = True
    brief: bool = True

    def format(self, value: float, digits: int = 2) -> str:
        """As '76.10 %', a percentage of so many digits, or as '0.1234'."""
        return f"{100 * value:.{digits}f} %" if self.percent else f"{value:.4f}"


# What every task has; between equals it decides.
LOSS = Metric("loss", "loss", percent=False, higher_is_better=False)


class Criterion(NamedTuple):
    """By what evaluations are compared: a metric of the weights, split 'eval', or of their moving average, 'ema'."""

    split: str
    metric: Metric


def criteria(metrics: Sequence[Metric]) -> dict[str, Criterion]:
    """What `keep_best` can be, as 'ema/top1', where these and the loss are measured."""
    return {f"{split}/{metric.name}": Criterion(split, metric) for split in WHOSE for metric in (*metrics, LOSS)}


def deciding(metrics: Sequence[Metric], keep_best: str = "") -> Metric:
    """The metric by which weights and their moving average compare: that of `keep_best`, or else the first there is."""
    criterion = criteria(metrics).get(keep_best)
    return criterion.metric if criterion else (*metrics, LOSS)[0]


def score(criterion: Criterion, results: Results | None) -> float:
    """How good an evaluation is: more is better, and without the metric it is the worst."""
    value = (results or {}).get(criterion.split, {}).get(criterion.metric.name)
    if value is None or math.isnan(value):
        return -math.inf
    return value if criterion.metric.higher_is_better else -value


def better_split(results: Results, metric: Metric) -> str:
    """'eval' or 'ema', whichever is better by a metric or, where both are as good, by the loss; else the average."""
    splits = [split for split in ("ema", "eval") if split in results]
    return max(splits, key=lambda split: [score(Criterion(split, each), results) for each in (metric, LOSS)])


class Evaluations:
    """The evaluations of one working directory, by step.

    What the record lacks, because it is damaged or was cut off by a kill, is taken from the metrics log and from the
    checkpoints themselves, which is where earlier versions kept them.

    Args:
      workdir: the working directory.
    """

    def __init__(self, workdir: epath.PathLike):
        self._workdir = epath.Path(workdir)
        self._path = self._workdir / "evaluations.json"
        self._results = _logged(self._workdir) | _by_step(_read_json(self._path) or {})

    def __getitem__(self, step: int) -> Results | None:
        """The results of one step, or None."""
        return self._results.get(step)

    def last(self, step: int) -> int | None:
        """The last step up to `step` that was evaluated, or None."""
        return max((each for each in self._results if each <= step), default=None)

    def best(self, criterion: Criterion, steps: Iterable[int] | None = None) -> int | None:
        """The step that is best, the later one of two that are equal, or None where none has the metric.

        Args:
          criterion: by what.
          steps: which to look at; None: all.
        """
        scores = {step: score(criterion, self[step]) for step in (self._results if steps is None else steps)}
        found = [step for step, value in scores.items() if value > -math.inf]
        return max(found, key=lambda step: (scores[step], step), default=None)

    def record(self, step: int, results: Results) -> None:
        """Keeps the numbers of an evaluation; the first host writes them.

        Raises:
          CheckpointError: if the disk refuses them.
        """
        self._results[step] = _numbers(results)
        self._write()

    def forget_after(self, step: int) -> None:
        """Drops what an interrupted run has evaluated beyond the step that it goes on from."""
        self._results = {each: results for each, results in self._results.items() if each <= step}
        if self._results or self._path.exists():
            self._write()

    def _write(self) -> None:
        if jax.process_index():
            return
        # JSON has no word for what is not a number.
        finite = {
            step: {
                split: {name: value if math.isfinite(value) else None for name, value in values.items()}
                for split, values in results.items()
            }
            for step, results in sorted(self._results.items())
        }
        with writing_to(self._workdir):
            atomic_write(self._path, json.dumps(finite, indent=1) + "\n")


def _read_json(path: epath.Path) -> dict | None:
    """What a file says, or None where it is missing or damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _by_step(recorded: Mapping) -> dict[int, Results]:
    steps = {step: results for step, results in recorded.items() if step.isdecimal() and isinstance(results, Mapping)}
    return {int(step): _numbers(results) for step, results in steps.items()}


def _numbers(results: Mapping) -> Results:
    """The numbers alone: what was none is null in JSON."""
    return {
        split: {name: float(value) for name, value in results[split].items() if isinstance(value, int | float)}
        for split in WHOSE
        if isinstance(results.get(split), Mapping)
    }


def _logged(workdir: epath.Path) -> dict[int, Results]:
    """The evaluations in `metrics.jsonl`, and before them those in checkpoints that were saved with a metric."""
    found = {}
    log = workdir / "metrics.jsonl"
    for text in log.read_bytes().decode(errors="replace").splitlines() if log.exists() else ():
        try:
            line = json.loads(text)
            step, split = line.pop("step"), line.pop("split")
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # The end of a line that a kill cut off.
        if split in WHOSE and isinstance(step, int):
            found.setdefault(step, {})[split] = line
    checkpoints = workdir / "checkpoints"
    for step in list_folder(checkpoints)[0] if checkpoints.is_dir() else ():
        if step.isdecimal():
            for name, value in (_read_json(checkpoints / step / "metrics/metrics") or {}).items():
                split, _, metric = name.partition("/")
                found.setdefault(int(step), {}).setdefault(split, {})[metric] = value
    return {step: _numbers(results) for step, results in found.items()}
