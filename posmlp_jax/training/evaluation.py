"""What some weights make of the whole evaluation split."""

import functools
import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.evaluations import LOSS, WHOSE, better_split
from posmlp_jax.checkpoints.packed import is_packed
from posmlp_jax.checkpoints.pretrained import open_checkpoints, open_together
from posmlp_jax.checkpoints.selection import NAMES
from posmlp_jax.checkpoints.state import Weights, abstract_weights
from posmlp_jax.data import Batches, eval_batches, evaluation_sizes
from posmlp_jax.data.fingerprint import fingerprint
from posmlp_jax.devices.hosts import from_host_0, together
from posmlp_jax.devices.mesh import of_whole, on_mesh, place, replicated, to_devices
from posmlp_jax.errors import CheckpointError
from posmlp_jax.paths import as_path
from posmlp_jax.tasks.task import Evaluation, Rows, Scalars, Task
from posmlp_jax.terminal import report
from posmlp_jax.training.experiment import Experiment, open_evaluation
from posmlp_jax.training.records.metrics import EvaluationProgress
from posmlp_jax.training.saved_config import evaluated, get_config, protocol
from posmlp_jax.training.step.step import make_eval_step
from posmlp_jax.training.stopping import Interrupted
from posmlp_jax.training.workdir import data_changes


class Evaluator:
    """Evaluates weights on the whole evaluation split, and shows how far it is; to be closed.

    Every example counts once, whatever the batch size, the number of hosts and that of its views (`eval_batches`). The
    step is compiled once a canvas.

    Args:
      experiment: what the weights are of.
      clips, crops: views of each example.
    """

    def __init__(self, experiment: Experiment, *, clips: int = 1, crops: int = 1):
        bind = of_whole(experiment.bind, experiment.mesh)
        step = on_mesh(make_eval_step(bind, experiment.task), experiment.mesh)
        step = jax.jit(step, out_shardings=replicated(experiment.mesh))
        self._step = experiment.programs.shared(step, experiment.mesh)
        self._experiment, self._views = experiment, {"clips": clips, "crops": crops}
        self._report_once = functools.cache(report)
        self._prepared: Batches | None = None

    def prepare(self) -> None:
        """Starts to make the first batches of an evaluation that comes soon, unless that has been done.

        What stands against that is told by the evaluation itself.
        """
        if self._prepared is None:
            with suppress(Exception):
                self._prepared = self._batches()

    def close(self) -> None:
        """Lets go of what is prepared."""
        if self._prepared is not None:
            self._prepared.close()
            self._prepared = None

    def __call__(self, variants: Mapping[str, Weights], stop: Callable[[], int] = lambda: 0) -> dict[str, Evaluation]:
        """Evaluates weights together: reading the examples may well take longer than what is computed of them.

        Args:
          variants: the model's, by names of theirs.
          stop: is asked before each batch for the number of a signal that has come, or 0; on several hosts the same
            number on all of them.

        Raises:
          Interrupted: when there was one.
        """
        experiment = self._experiment
        batches, self._prepared = self._prepared or self._batches(), None
        totals = {name: _Totals() for name in variants}
        pending = deque()

        def add(results: Mapping[str, tuple[Scalars, Rows]]) -> None:
            for name, result in results.items():
                totals[name].add(*result)

        progress = EvaluationProgress(len(experiment.eval_source), experiment.unit)
        with closing(progress), closing(batches):
            for batch in to_devices(batches, experiment.mesh, leave=()):
                if signum := stop():
                    raise Interrupted(signum)
                pending.append({name: self._step(weights, batch) for name, weights in variants.items()})
                if len(pending) > 2:
                    add(pending.popleft())
                    progress.advance(experiment.eval_batch_size)
        for results in pending:
            add(results)
        return {name: each.evaluation(experiment.task) for name, each in totals.items()}

    def _batches(self) -> Batches:
        experiment = self._experiment
        return eval_batches(
            experiment.eval_source,
            experiment.config.data,
            evaluation_sizes(experiment.config.data, experiment.model.input_size),
            targets=experiment.task.targets(experiment.eval_source),
            batch_size=experiment.eval_batch_size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            report=self._report_once,
            **self._views,
        )


class _Totals:
    """Puts together what `make_eval_step`'s function gives batch by batch: of all hosts, on each of them.

    Rows come canvas by canvas, and on a TPU neighbours on the mesh may be of different hosts in turns; in the end they
    are in the order of the source.
    """

    def __init__(self):
        self._sums = defaultdict(float)
        self._rows = defaultdict(list)

    def add(self, sums: Scalars, rows: Rows) -> None:
        sums, rows = jax.device_get((sums, rows))
        for name, value in sums.items():
            self._sums[name] += float(value)
        kept = rows.pop("weight") > 0
        for name, values in rows.items():
            self._rows[name].append(values[kept])

    def evaluation(self, task: Task) -> Evaluation:
        count = self._sums.pop("count")
        means = {name: total / count for name, total in self._sums.items()}
        if not math.isfinite(means["loss"]):
            # What a model says in numbers that are none is not worth scoring.
            nothing = dict.fromkeys(("loss", *(metric.name for metric in task.metrics)), math.nan)
            return Evaluation(nothing | {"count": count}, None)
        order = np.argsort(np.concatenate(self._rows.pop("index")))
        # One after the other: of a large split all masks are most of a gigabyte.
        rows = {name: np.concatenate(self._rows.pop(name))[order] for name in list(self._rows)}
        details = None

        def score() -> dict[str, float]:
            nonlocal details
            # Within the loop, too, it may use the devices as it likes.
            with jax.transfer_guard("allow"):
                values, details = task.score(means, rows)
                return {name: float(value) for name, value in values.items()}

        # A library that scores may be slow, or have a random order: there is one answer.
        return Evaluation({"loss": means["loss"], **from_host_0(score), "count": count}, details)


def evaluate(
    config: ConfigDict | None,
    workdir: epath.PathLike,
    step: str | int = "latest",
    weights: str | None = None,
    *,
    output: epath.PathLike | None = None,
) -> dict[str, dict[str, float]]:
    """Evaluates a checkpoint of a working directory, its raw weights and their moving average.

    `data.test_clips` × `data.test_crops` views of each example are looked at. What the task has to say beyond its
    metrics is printed, and written to the working directory (`Task.report`). Nothing is written into a packed
    checkpoint, as a model of the zoo is.

    Args:
      config: names the data; None: as the run's own. The model, and the pixels' mean and std, are the checkpoint's, and
        what a config says of them must be the same or left open (`saved_config`).
      workdir: where `train` wrote, or what else `open_pretrained` takes.
      step: 'latest', 'best' (by the `keep_best` it was trained with) or a step.
      weights: only 'raw', 'ema' or 'best' (`open_pretrained`); None: all that there are.
      output: a folder for what is written, in place of the working directory.

    Returns:
      `{'eval': …, 'ema': …}`, each an `Evaluation.metrics`; 'ema' only where the checkpoint has one.

    Raises:
      PosMLPError: for a mistake in the config, missing data, or a checkpoint that does not fit or whose loss is not a
        number.
    """
    pretrained = open_together(workdir, step=step, weights=weights or "best")
    workdir, step = pretrained.workdir, pretrained.step
    config = together(partial(get_config, workdir)) if config is None else config
    config, model = together(partial(evaluated, config, pretrained))
    experiment = together(partial(open_evaluation, config, model))
    source, task = experiment.eval_source, experiment.task
    together(partial(task.check_names, pretrained.class_names, source))
    for line in from_host_0(lambda: data_changes(workdir, {"evaluation": fingerprint(source)})) or ():
        report(f"not what the run was evaluated on: {line}; what is new here may have been trained on")
    checkpoints, packed = open_checkpoints(workdir), is_packed(workdir)
    if weights or packed:
        items, what = (pretrained.item,), f"the {pretrained.choice}"
    else:
        items, what = [item for item in NAMES if checkpoints.holds(step, item)], f"step {step} of {workdir}"
    target = place(abstract_weights(experiment.model), experiment.mesh)
    clips, crops = config.data.test_clips, config.data.test_crops
    evaluator = Evaluator(experiment, clips=clips, crops=crops)
    views = f", {clips} clips × {crops} crops of each" if clips * crops > 1 else ""
    report(f"evaluating {what} on {source.description}{views}")
    evaluations = evaluator(
        {"ema" if item == "ema" else "eval": checkpoints.restore_weights(step, item, target) for item in items}
    )
    for split, evaluation in evaluations.items():
        report(format_result(task, split, evaluation.metrics))
    if len(evaluations) > 1 and task.chooses_weights:
        results = {split: evaluation.metrics for split, evaluation in evaluations.items()}
        better = better_split(results, task.metrics[0])
        report(f"better: the {WHOSE[better]}")
    checkpoints.close()
    if all(math.isnan(evaluation.metrics["loss"]) for evaluation in evaluations.values()):
        raise CheckpointError(f"{what} cannot be evaluated, the loss is not a number; take another --step")
    folder = as_path(output) if output is not None else None if packed else workdir
    task.report(folder, step, evaluations, from_host_0(partial(protocol, config, pretrained, source)))
    return {split: evaluation.metrics for split, evaluation in evaluations.items()}


def format_result(task: Task, split: str, result: Mapping[str, float]) -> str:
    """One line: the task's metrics, the loss, and over how many examples.

    Or that there is nothing to say, where the loss is not a number.
    """
    head, kind = f"evaluation of the {WHOSE[split]}", task.source.kind
    if math.isnan(result["loss"]):
        return f"{head}: the loss is not a number  ({result['count']:.0f} {kind}s)"
    shown = [*task.format_metrics(result), f"loss {LOSS.format(result['loss'])}", f"({result['count']:.0f} {kind}s)"]
    return f"{head}: {'  '.join(shown)}"
