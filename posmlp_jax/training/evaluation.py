"""Accuracy of a model over the whole evaluation split."""

import functools
import math
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import NamedTuple, Protocol

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.evaluations import WHOSE, better_split
from posmlp_jax.checkpoints.pretrained import open_together
from posmlp_jax.checkpoints.state import Weights, create_weights
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.data import eval_batches
from posmlp_jax.data.fingerprint import fingerprint
from posmlp_jax.devices.hosts import from_host_0, together
from posmlp_jax.devices.mesh import place, replicated, to_devices
from posmlp_jax.errors import CheckpointError
from posmlp_jax.tasks.classification.metrics import METRICS
from posmlp_jax.tasks.classification.outcomes import Outcomes, class_names
from posmlp_jax.tasks.classification.report import report_by_class
from posmlp_jax.training.experiment import Experiment, check_class_names, open_evaluation
from posmlp_jax.training.records.metrics import EvaluationProgress, report
from posmlp_jax.training.saved_config import evaluated, get_config
from posmlp_jax.training.step.step import make_eval_step
from posmlp_jax.training.stopping import Interrupted
from posmlp_jax.training.workdir import data_changes


class Evaluation(NamedTuple):
    """What some weights make of the whole evaluation split.

    Attributes:
      metrics: mean `loss` (nats), `top1` and, of more than five classes, `top5` (shares), `balanced_accuracy` (the mean
        of the classes' own top-1) and `count`. All but the count are NaN where the loss is not a number.
      outcomes: example by example.
    """

    metrics: dict[str, float]
    outcomes: Outcomes


class Evaluator(Protocol):
    """`evaluator(weights)`, as `make_evaluator` makes it."""

    def __call__(self, weights: Weights, stop: Callable[[], int] = ...) -> Evaluation:
        """Evaluates on the whole split.

        Args:
          weights: the model's.
          stop: is asked before each batch for the number of a signal that has come, or 0; on several hosts the same
            number on all of them.

        Raises:
          Interrupted: when there was one.
        """


def make_evaluator(experiment: Experiment, *, clips: int = 1, crops: int = 1) -> Evaluator:
    """Builds `evaluator(weights)`, which shows how far it is.

    Every example counts once, whatever the batch size, the number of hosts and that of its views (`eval_batches`).
    """
    report_once = functools.cache(report)
    step = jax.jit(make_eval_step(experiment.bind, experiment.options), out_shardings=replicated(experiment.mesh))

    names = class_names(experiment.eval_source.class_names, experiment.model.num_classes)

    def evaluator(weights: Weights, stop: Callable[[], int] = lambda: 0) -> Evaluation:
        batches = eval_batches(
            experiment.eval_source,
            experiment.config.data,
            experiment.model.input_size,
            batch_size=experiment.eval_batch_size,
            clips=clips,
            crops=crops,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            report=report_once,
        )
        totals = _Totals()
        pending = []
        progress = EvaluationProgress(len(experiment.eval_source), experiment.unit)
        with closing(progress), closing(batches):
            for batch in to_devices(batches, experiment.mesh):
                if signum := stop():
                    raise Interrupted(signum)
                pending.append(step(weights, batch))
                if len(pending) > 2:
                    totals.add(pending.pop(0))
                    progress.advance(experiment.eval_batch_size)
        for result in pending:
            totals.add(result)
        return totals.evaluation(names)

    return evaluator


class _Totals:
    """Adds up what `make_eval_step`'s function gives batch by batch."""

    def __init__(self):
        self._sums = defaultdict(float)
        self._labels, self._predictions = [], []

    def add(self, result: dict[str, jax.Array]) -> None:
        result = jax.device_get(result)
        labels, predictions = result.pop("label"), result.pop("prediction")
        self._labels.append(labels[labels >= 0].astype(np.int64))
        self._predictions.append(predictions[labels >= 0].astype(np.int64))
        for name, value in result.items():
            self._sums[name] += float(value)

    def evaluation(self, names: tuple[str, ...]) -> Evaluation:
        outcomes = Outcomes(np.concatenate(self._labels), np.concatenate(self._predictions), names)
        count = self._sums["count"]
        means = {name: total / count for name, total in self._sums.items() if name != "count"}
        means["balanced_accuracy"] = outcomes.balanced_accuracy
        if not math.isfinite(means["loss"]):
            # Logits that are no numbers choose no class.
            means = dict.fromkeys(means, math.nan)
        return Evaluation(means | {"count": count}, outcomes)


def evaluate(
    config: ConfigDict | None, workdir: epath.PathLike, step: str | int = "latest", weights: str | None = None
) -> dict[str, dict[str, float]]:
    """Evaluates a checkpoint of a working directory, its raw weights and their moving average.

    `data.test_clips` × `data.test_crops` views are averaged as `data.test_average` says. The better one's results by
    class are printed, and written to the working directory (`class_report`).

    Args:
      config: names the data; None: as the run's own. The model, and the pixels' mean and std, are the checkpoint's, and
        what a config says of them must be the same or left open (`saved_config`).
      workdir: where `train` wrote.
      step: 'latest', 'best' (by the `keep_best` it was trained with) or a step.
      weights: only 'raw', 'ema' or 'best' (`open_pretrained`); None: both.

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
    together(partial(check_class_names, pretrained.class_names, experiment.eval_source))
    for line in from_host_0(lambda: data_changes(workdir, {"evaluation": fingerprint(experiment.eval_source)})) or ():
        report(f"not what the run was evaluated on: {line}; what is new here may have been trained on")
    checkpoints = Checkpoints(workdir)
    if weights:
        items, what = (pretrained.item,), f"the {pretrained.choice}"
    else:
        items, what = ("weights", "ema") if checkpoints.has_ema(step) else ("weights",), f"step {step} of {workdir}"
    target = place(jax.eval_shape(lambda: create_weights(experiment.model, 0)), experiment.mesh)
    clips, crops = config.data.test_clips, config.data.test_crops
    evaluator = make_evaluator(experiment, clips=clips, crops=crops)
    views = f", {clips} clips × {crops} crops of each" if clips * crops > 1 else ""
    report(f"evaluating {what} on {experiment.eval_source.description}{views}")
    evaluations = {}
    for item in items:
        split = "ema" if item == "ema" else "eval"
        evaluations[split] = evaluator(checkpoints.restore_weights(step, item, target))
        report(format_result(split, evaluations[split].metrics, experiment.eval_source.kind))
    if len(evaluations) > 1:
        better = better_split({split: each.metrics for split, each in evaluations.items()}, METRICS[0])
        report(f"better: the {WHOSE[better]}")
    checkpoints.close()
    if all(math.isnan(evaluation.metrics["loss"]) for evaluation in evaluations.values()):
        raise CheckpointError(f"{what} cannot be evaluated, the loss is not a number; take another --step")
    report_by_class(workdir, step, evaluations, experiment.eval_source.kind)
    return {split: evaluation.metrics for split, evaluation in evaluations.items()}


def format_result(split: str, result: dict[str, float], kind: str) -> str:
    """One line: top-1, top-5 where there is one, loss, and over how many examples of a `Source.kind`.

    Or that there is no accuracy, where the loss is not a number.
    """
    if math.isnan(result["loss"]):
        return f"evaluation of the {WHOSE[split]}: the loss is not a number  ({result['count']:.0f} {kind}s)"
    top5 = f"top-5 {100 * result['top5']:.2f} %  " if "top5" in result else ""
    return (
        f"evaluation of the {WHOSE[split]}: top-1 {100 * result['top1']:.2f} %  {top5}"
        f"loss {result['loss']:.4f}  ({result['count']:.0f} {kind}s)"
    )
