"""The results of a run's evaluations, in its working directory's `evaluations.json`.

They are kept beside the checkpoints and not in them: a checkpoint is written before it is evaluated.
"""

import json
import math
from collections.abc import Iterable, Mapping

import jax
from etils import epath

from posmlp_jax.paths import list_folder, write_whole
from posmlp_jax.writing import writing_to

# Of one evaluation: {'eval': {'top1': …, …}, 'ema': {…}}, the raw weights' and, where there is one, the average's.
Results = Mapping[str, Mapping[str, float]]
# What its splits are of.
WHOSE = {"eval": "weights", "ema": "moving average"}


def score(metric: str, results: Results | None) -> float:
    """How good an evaluation is by a metric, as 'ema/top1': more is better, and without the metric it is the worst."""
    split, name = metric.split("/")
    value = (results or {}).get(split, {}).get(name)
    if value is None or math.isnan(value):
        return -math.inf
    return -value if name == "loss" else value


def better_split(results: Results, metric: str = "top1") -> str:
    """'eval' or 'ema', whichever is better by a metric or, where both are as good, by the loss; else the average."""
    splits = [split for split in ("ema", "eval") if split in results]
    return max(splits, key=lambda split: [score(f"{split}/{name}", results) for name in (metric, "loss")])


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

    def best(self, metric: str, steps: Iterable[int] | None = None) -> int | None:
        """The step that is best by a metric, the later one of two that are equal, or None where none has the metric.

        Args:
          metric: as 'ema/top1'.
          steps: which to look at; None: all.
        """
        scores = {step: score(metric, self[step]) for step in (self._results if steps is None else steps)}
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
            write_whole(self._path, json.dumps(finite, indent=1) + "\n")


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
    """The numbers alone: an evaluation's results can hold arrays besides."""
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
