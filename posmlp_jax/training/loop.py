"""The training loop."""

import contextlib
import itertools
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.architecture import different_fields
from posmlp_jax.checkpoints.evaluations import WHOSE, Criterion, Evaluations, Results
from posmlp_jax.checkpoints.folders import has_checkpoint
from posmlp_jax.checkpoints.run import read_model
from posmlp_jax.checkpoints.state import TrainState, Weights
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.checkpoints.transfer import Transferred
from posmlp_jax.data import Batches, train_batches
from posmlp_jax.data.decoding.decodable import check_decodable
from posmlp_jax.data.fingerprint import fingerprint
from posmlp_jax.devices.hosts import AgreedMaximum, from_host_0, together
from posmlp_jax.devices.memory import check_step_memory, out_of_memory
from posmlp_jax.devices.mesh import batch_sharding, replicated, shardings, to_devices
from posmlp_jax.errors import CheckpointError, DamagedCheckpointError
from posmlp_jax.models.cost import count_macs
from posmlp_jax.paths import as_path
from posmlp_jax.tasks.classification.counts import describe_counts, is_unbalanced
from posmlp_jax.tasks.classification.metrics import METRICS
from posmlp_jax.tasks.classification.outcomes import class_names
from posmlp_jax.tasks.classification.report import report_by_class
from posmlp_jax.tasks.pixels import normalize_images
from posmlp_jax.training.config import as_begun, check_fields, plain
from posmlp_jax.training.evaluation import Evaluation, Evaluator, format_result, make_evaluator
from posmlp_jax.training.experiment import Training, check_class_names, open_training
from posmlp_jax.training.lock import WorkdirLock
from posmlp_jax.training.non_finite import stop_at
from posmlp_jax.training.records.metrics import (
    MetricsWriter,
    ProgressBar,
    StepClock,
    format_log_line,
    report,
)
from posmlp_jax.training.step.moving_average import has_average
from posmlp_jax.training.step.probe import with_statistics
from posmlp_jax.training.step.schedules import is_due
from posmlp_jax.training.step.step import batch_shapes, make_train_step
from posmlp_jax.training.stopping import Interrupted, Stopped, StopSignals
from posmlp_jax.training.workdir import check_experiment, claim_workdir, data_changes, read_config

# The fields of its model that may change when a run goes on: those that have no part in what its weights mean.
_MAY_CHANGE = ("dtype", "remat", "dropout", "drop_path")
# The share of its start that a moving average may hold at the end of a run before the run says so.
_FORGOTTEN = 0.05
# How many samples say what a linear probe's features are.
_STANDARDIZED = 4096


def train(config: ConfigDict, workdir: epath.PathLike) -> dict[str, dict[str, float]]:
    """Trains a model, or goes on from the working directory's newest checkpoint.

    Args:
      config: from `default_config()` or a file in `configs/`.
      workdir: where checkpoints, metrics and the resolved config go: on a disk, or in a bucket (gs://…).

    Returns:
      The last evaluation: `{'eval': …, 'ema': …}`, as `evaluate` gives it.

    Raises:
      PosMLPError: for a mistake in the config, the data or the working directory, and for a disk that is full.
      Stopped: after SIGINT or SIGTERM, once a checkpoint is written.
      NonFiniteLoss: when the loss or its gradient is infinite or not a number; such a state is not saved.
    """
    workdir = as_path(workdir)
    with contextlib.closing(WorkdirLock(workdir)) as lock:
        # Before data are looked at, which may take minutes.
        from_host_0(lock.acquire)
        with out_of_memory():
            return _train(config, workdir)


def _train(config: ConfigDict, workdir: epath.Path) -> dict[str, dict[str, float]]:
    saved = from_host_0(partial(read_config, workdir))
    check_fields(config)
    config, asked = as_begun(config, saved), config
    if has_average(config) and config.ema_warmup != asked.ema_warmup:
        report(f"{workdir} began before there was ema_warmup, and goes on as it began: ema_warmup=False")
    from_host_0(partial(check_experiment, workdir, saved, config))
    goes_on = from_host_0(partial(has_checkpoint, workdir))
    run = together(partial(open_training, config, workdir if goes_on else None))
    # Read before anything is written, so that a mistake leaves nothing behind.
    first = None if goes_on else together(run.first_weights)
    data = from_host_0(partial(_fingerprints, run))
    changed = from_host_0(partial(data_changes, workdir, data)) if goes_on else []
    if changed and not config.accept_changed_data:
        raise CheckpointError(
            f"{workdir} began with other data: {'; '.join(changed)}; put them back, choose another --workdir, or go on "
            "with these by --config.accept_changed_data=True"
        )
    if changed is None or changed or not goes_on:
        together(partial(_check_evaluation, run))
    _report_run(run)
    compiled, macs, memory = _compile(run)
    together(partial(check_step_memory, memory, run.mesh))
    from_host_0(partial(claim_workdir, workdir, config, data))
    if changed is None:
        report(f"there is no record of the data that {workdir} began with; from now on it is today's")
    for line in changed or ():
        report(f"going on with other {line}")
    with ExitStack() as closing:
        checkpoints = Checkpoints(workdir, config.keep_checkpoints, config.keep_best, METRICS)
        closing.callback(checkpoints.close)
        state = _first_state(run, checkpoints, first)
        step = int(state.step)
        if not goes_on and config.optimizer.standardize_head:
            state = _standardized(run, state)
        report(f"{'going on from step ' + str(step) + ' of' if step else 'writing to'} {workdir}")
        evaluator = make_evaluator(run)
        evaluated = from_host_0(lambda: _whole(checkpoints.evaluations[step], state))
        writer = closing.enter_context(contextlib.closing(MetricsWriter(workdir, step, evaluated)))
        earlier = checkpoints.run(step).get("pending_metrics", ()) if step else ()
        clock = StepClock(config.batch_size, macs, run.mesh.size, run.unit, earlier)
        lengths, evaluations = run.lengths, {}
        bar = closing.enter_context(contextlib.closing(ProgressBar(step, lengths.total, config.batch_size, run.unit)))
        host_batches = closing.enter_context(contextlib.closing(_host_batches(run, step)))
        batches = to_devices(host_batches, run.mesh)
        signals, agreed = closing.enter_context(StopSignals()), AgreedMaximum(run.mesh)
        stop = 0

        def due(every: float) -> bool:
            return is_due(step, every, lengths.total)

        def evaluation_due() -> bool:
            # Not when the last one comes a step later.
            return due(lengths.evaluate) and not (step == lengths.total - 1 and lengths.evaluate > 1)

        def check_finite() -> None:
            back = clock.first_non_finite()
            if back is not None:
                raise stop_at(step - back, run, workdir, checkpoints.latest_step())

        def save() -> None:
            """Saves the newest state, if that has not been done."""
            check_finite()
            named, classes = run.named_model, run.train_source.class_names
            checkpoints.save(state, plain(run.config), named, classes, clock.pending())
            clock.restart()

        def evaluate_step() -> int:
            """Evaluates the newest state; gives the number of a signal that cut it short, or 0."""
            nonlocal evaluations
            try:
                kind = run.eval_source.kind
                evaluations = _evaluate(evaluator, state, step, writer, kind, lambda: agreed(signals.received))
            except Interrupted as end:
                return end.signum
            except Exception:
                # Whatever ends an evaluation loses no steps. Several hosts could only save together.
                if jax.process_count() == 1:
                    save()
                raise
            checkpoints.evaluations.record(step, {split: each.metrics for split, each in evaluations.items()})
            return 0

        # A kill or a signal in an evaluation leaves a checkpoint that lacks it.
        if step and evaluation_due() and not evaluated:
            stop = evaluate_step()
        clock.restart()
        while step < lengths.total and not stop:
            asked = time.perf_counter()
            batch = next(batches)
            clock.waited(time.perf_counter() - asked)
            state, metrics = compiled(state, batch)
            clock.add(metrics)
            step += 1
            bar.advance()
            if due(lengths.log):
                check_finite()
                values = clock.collect()
                epoch = step * config.batch_size / run.epoch
                writer.write(step, "train", {"epoch": epoch, **values})
                bar.show(values["loss"])
                report(format_log_line(step, lengths.total, epoch, values, memory, run.unit))
                checkpoints.check()
            stop = agreed(signals.received)
            # First, so that no evaluation loses steps, however it ends.
            if due(lengths.checkpoint) or stop:
                save()
            if evaluation_due() and not stop:
                stop = evaluate_step()
                if stop or from_host_0(partial(checkpoints.is_best, step)):
                    save()
                clock.restart()
        checkpoints.wait()
        if stop:
            raise Stopped(stop, step)
    # A finished run that is started again has nothing left to train, and still answers.
    evaluations = evaluations or {split: evaluator(weights) for split, weights in _variants(state)}
    _report_best(run, checkpoints.evaluations)
    report_by_class(workdir, step, evaluations, run.eval_source.kind)
    return {split: evaluation.metrics for split, evaluation in evaluations.items()}


def _fingerprints(run: Training) -> dict[str, dict]:
    return {"training": fingerprint(run.train_source), "evaluation": fingerprint(run.eval_source)}


def _check_evaluation(run: Training) -> None:
    check_decodable(
        run.eval_source,
        threads=run.config.data.threads,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        report=report,
    )


def _first_state(run: Training, checkpoints: Checkpoints, first: Transferred | None) -> TrainState:
    while (step := checkpoints.latest_step()) is not None:
        try:
            return _restore(run, checkpoints, step)
        except DamagedCheckpointError as error:
            checkpoints.set_aside(error)
    # A run that was killed before its first checkpoint may have been evaluated.
    checkpoints.evaluations.forget_after(0)
    if first is not None:
        report(f"starting from the {first.source}: {first.summary}")
    return run.new_state(first)


def _restore(run: Training, checkpoints: Checkpoints, step: int) -> TrainState:
    """The state that a run goes on from, once it is sure that it is this run's."""
    saved = checkpoints.run(step)
    together(partial(check_class_names, saved["class_names"], run.train_source))
    differing = different_fields(read_model(saved).config, run.model, _MAY_CHANGE)
    if differing:
        raise CheckpointError(
            f"the checkpoint {checkpoints.directory / str(step)} is of another architecture: {'; '.join(differing)}"
        )
    state = checkpoints.restore(step, run.abstract_state())
    checkpoints.evaluations.forget_after(step)
    return state


def _standardized(run: Training, state: TrainState) -> TrainState:
    """A linear probe's first state, with what the features of an epoch, or of the first samples of a long one, are."""

    def pooled(weights: Weights, images: jax.Array) -> jax.Array:
        model = run.bind(weights)
        model.head = None
        return model(normalize_images(images, run.options.mean, run.options.std))

    pooled = jax.jit(pooled, out_shardings=replicated(run.mesh))
    count = -(-min(run.epoch, _STANDARDIZED) // run.config.batch_size)
    with contextlib.closing(_host_batches(run, 0)) as batches:
        chosen = itertools.islice(to_devices(batches, run.mesh), count)
        return with_statistics(state, [np.asarray(pooled(state.weights, batch["image"])) for batch in chosen])


def _report_run(run: Training) -> None:
    devices = run.mesh.devices.flatten()
    count = sum(leaf.size for leaf in jax.tree.leaves(run.abstract_state().weights.params))
    where = f"{len(devices)} {devices[0].device_kind}"
    report(f"{run.model_name}: {count / 1e6:.2f} M parameters, {run.model.dtype}, on {where}")
    for what, source in (("training", run.train_source), ("evaluation", run.eval_source)):
        report(f"{what} data: {source.description}")
        if (counts := source.class_counts()) is not None:
            report(f"  {describe_counts(counts, class_names(source.class_names, source.num_classes))}")
            if what == "training" and run.config.data.balance == "none" and is_unbalanced(counts):
                report("  classes are unequal: --config.data.balance=classes would draw them equally often")
    if has_average(run.config):
        _report_average(run)


def _report_average(run: Training) -> None:
    """Says so if the moving average cannot have forgotten what it starts from by the end of the run."""
    # With warm-up, the second step leaves less than 2 % of it.
    left = 0.0 if run.options.ema_warmup else run.options.ema_decay**run.lengths.total
    if left > _FORGOTTEN:
        start = "the weights that it starts from" if run.config.init_from else "its random start"
        report(
            f"warning: at the end {100 * left:.0f} % of the moving average will still be {start} "
            f"({run.options.ema_decay:.6g} to the power of {run.lengths.total} steps); in another working directory, "
            "--config.ema_warmup=True lets it forget"
        )


def _report_best(run: Training, evaluations: Evaluations) -> None:
    """Says when the weights and their moving average were best: published accuracies are those of best epochs."""
    metric = METRICS[0]
    for split, whose in WHOSE.items():
        if best := evaluations.best(Criterion(split, metric)):
            value, epoch = evaluations[best][split][metric.name], best * run.config.batch_size / run.epoch
            report(f"best {whose}: {metric.label} {metric.format(value)} at step {best} (epoch {epoch:.1f})")


def _compile(run: Training):
    """The compiled step, its multiply-accumulates, and the memory it needs on each device, in bytes."""
    state, everywhere, split = run.abstract_state(), replicated(run.mesh), batch_sharding(run.mesh)
    step = make_train_step(run.train_bind, run.optimizer, run.schedule, run.options)
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(shardings(state), everywhere))
    start = time.perf_counter()
    traced = jitted.trace(state, batch_shapes(run.config.batch_size, run.model.input_size, split))
    compiled = traced.lower().compile()
    report(f"compiled the training step in {time.perf_counter() - start:.1f} s")
    usage = compiled.memory_analysis()
    memory = usage.argument_size_in_bytes + usage.output_size_in_bytes + usage.temp_size_in_bytes
    return compiled, count_macs(traced.jaxpr), memory - usage.alias_size_in_bytes


def _host_batches(run: Training, start_step: int) -> Batches:
    return train_batches(
        run.train_source,
        run.config.data,
        run.model.input_size,
        batch_size=run.config.batch_size,
        seed=run.config.seed,
        start_step=start_step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        report=report,
    )


def _variants(state: TrainState):
    """The weights that are evaluated, by the name of their split."""
    yield "eval", state.weights
    if state.ema is not None:
        yield "ema", state.ema


def _whole(results: Results | None, state: TrainState) -> bool:
    """Whether an evaluation on record is of all weights: a kill between two lines of the log leaves those of one."""
    return {split for split, _ in _variants(state)} <= (results or {}).keys()


def _evaluate(
    evaluator: Evaluator, state: TrainState, step: int, writer: MetricsWriter, kind: str, stop: Callable[[], int]
) -> dict[str, Evaluation]:
    evaluations = {}
    for split, weights in _variants(state):
        evaluations[split] = evaluator(weights, stop)
        report(f"step {step}  {format_result(split, evaluations[split].metrics, kind)}")
    # All or nothing: an evaluation that a signal cut short is done again by the run that goes on.
    for split, evaluation in evaluations.items():
        writer.write(step, split, evaluation.metrics)
    return evaluations
