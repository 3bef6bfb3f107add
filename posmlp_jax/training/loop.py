"""The training loop."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import jax
from etils import epath
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.evaluations import WHOSE, Criterion, Results
from posmlp_jax.checkpoints.state import TrainState, Weights
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.devices.hosts import AgreedMaximum, from_host_0
from posmlp_jax.devices.memory import out_of_memory
from posmlp_jax.devices.mesh import to_devices
from posmlp_jax.paths import as_path
from posmlp_jax.tasks.task import Evaluation
from posmlp_jax.terminal import report
from posmlp_jax.training.beginning import Beginning, begin
from posmlp_jax.training.config import plain
from posmlp_jax.training.evaluation import Evaluator, format_result
from posmlp_jax.training.first_state import first_state
from posmlp_jax.training.lock import WorkdirLock
from posmlp_jax.training.non_finite import stop_at
from posmlp_jax.training.records.metrics import MetricsWriter, ProgressBar, StepClock, format_log_line
from posmlp_jax.training.records.profile import Profiler
from posmlp_jax.training.step.schedules import is_due
from posmlp_jax.training.stopping import Interrupted, Stopped, StopSignals

# How many steps before an evaluation its first batches begin to be made.
_AHEAD = 16


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
    started, workdir = time.perf_counter(), as_path(workdir)
    with locked(workdir), out_of_memory():
        evaluations = train_to_end(begin(config, workdir), workdir, started)
    return {split: evaluation.metrics for split, evaluation in evaluations.items()}


@contextlib.contextmanager
def locked(workdir: epath.Path) -> Iterator[None]:
    """Holds a working directory inside, on all hosts.

    Raises:
      CheckpointError: as `WorkdirLock.acquire`.
    """
    with contextlib.closing(WorkdirLock(workdir)) as lock:
        # Before data are looked at, which may take minutes.
        from_host_0(lock.acquire)
        yield


def train_to_end(beginning: Beginning, workdir: epath.Path, started: float) -> dict[str, Evaluation]:
    """Takes the steps of a run that are left, in its working directory, which is locked.

    Args:
      beginning: the run.
      workdir: its working directory.
      started: when the program began with the run, by `time.perf_counter`.

    Returns:
      The last evaluation, of the weights, 'eval', and of their moving average, 'ema', if there is one.

    Raises:
      PosMLPError, Stopped, NonFiniteLoss: as `train`.
    """
    run = beginning.run
    with ExitStack() as closing:
        kept = {"keep": run.config.keep_checkpoints, "keep_best": run.config.keep_best}
        checkpoints = Checkpoints(workdir, **kept, metrics=run.task.metrics)
        closing.callback(checkpoints.close)
        state = first_state(run, checkpoints, beginning.first)
        step = int(state.step)
        report(f"{'going on from step ' + str(step) + ' of' if step else 'writing to'} {workdir}")
        loop = _Loop(beginning, workdir, checkpoints, state, closing)
        with jax.transfer_guard("disallow"):
            stop = loop.go(started)
        checkpoints.wait()
        if stop:
            raise Stopped(stop, loop.step)
    return loop.results()


class _Loop:
    """A run under way: its newest state, and what is done with it when.

    Args:
      beginning: the run.
      workdir: its working directory.
      checkpoints: that one's.
      state: the one to go on from.
      closing: closes what the loop opens.

    Attributes:
      step: how many steps the state has taken.
    """

    def __init__(
        self, beginning: Beginning, workdir: epath.Path, checkpoints: Checkpoints, state: TrainState, closing: ExitStack
    ):
        run, step = beginning.run, int(state.step)
        self._run, self._compiled, self._workdir = run, beginning.steps, workdir
        self._checkpoints, self._state, self.step = checkpoints, state, step
        self._evaluator = closing.enter_context(contextlib.closing(Evaluator(run)))
        self._evaluations: dict[str, Evaluation] = {}
        # A kill or a signal in an evaluation leaves a checkpoint that lacks it.
        self._evaluated = from_host_0(lambda: _whole(checkpoints.evaluations[step], state))
        self._writer = closing.enter_context(contextlib.closing(MetricsWriter(workdir, step, self._evaluated)))
        earlier = checkpoints.run(step).get("pending_metrics", ()) if step else ()
        self._clock = StepClock(run.config.batch_size, run.mesh.size, run.unit, earlier)
        bar = ProgressBar(step, run.lengths.total, run.config.batch_size, run.unit)
        self._bar = closing.enter_context(contextlib.closing(bar))
        self._batches = to_devices(closing.enter_context(contextlib.closing(run.batches(step))), run.mesh)
        self._profiler = closing.enter_context(contextlib.closing(Profiler(workdir, run.config.profile)))
        self._signals, self._agreed = closing.enter_context(StopSignals()), AgreedMaximum(run.mesh)

    def go(self, started: float) -> int:
        """Takes all steps that are left; gives the number of a signal that came in between, or 0.

        Args:
          started: when the program began with the run, by `time.perf_counter`.
        """
        lengths, stop, first = self._run.lengths, 0, True
        if self.step and self._evaluation_due(self.step) and not self._evaluated:
            stop = self._evaluate()
        self._clock.restart()
        while self.step < lengths.total and not stop:
            if any(self._evaluation_due(self.step + ahead) for ahead in range(1, _AHEAD + 1)):
                self._evaluator.prepare()
            self._take_step()
            if first:
                jax.block_until_ready(self._state)
                seconds = time.perf_counter() - started
                report(f"the first step ended {seconds:.1f} s after the start, compiling included")
                first = False
            if self._due(lengths.log):
                self._log()
            stop = self._signal()
            # First, so that no evaluation loses steps, however it ends.
            if self._due(lengths.checkpoint) or stop:
                self._save()
            if self._evaluation_due(self.step) and not stop:
                stop = self._evaluate()
                if stop or from_host_0(partial(self._checkpoints.is_best, self.step)):
                    self._save()
                self._clock.restart()
        return stop

    def results(self) -> dict[str, Evaluation]:
        """The last evaluation, once the run has said what there is to say of it."""
        run, task = self._run, self._run.task
        # A finished run that is started again has nothing left to train, and still answers.
        found = self._evaluations or self._evaluator(_variants(self._state))
        record, metric = self._checkpoints.evaluations, task.metrics[0]
        for split, whose in WHOSE.items() if task.chooses_weights else ():
            # What is published of a model is of its best epoch.
            if step := record.best(Criterion(split, metric)):
                value, epoch = metric.format(record[step][split][metric.name]), step * run.config.batch_size / run.epoch
                report(f"best {whose}: {metric.label} {value} at step {step} (epoch {epoch:.1f})")
        task.report(self._workdir, self.step, found)
        return found

    def _due(self, every: float) -> bool:
        return is_due(self.step, every, self._run.lengths.total)

    def _evaluation_due(self, step: int) -> bool:
        # Not when the last one comes a step later.
        every, total = self._run.lengths.evaluate, self._run.lengths.total
        return is_due(step, every, total) and not (step == total - 1 and every > 1)

    def _signal(self) -> int:
        return self._agreed(self._signals.received)

    def _take_step(self) -> None:
        asked = time.perf_counter()
        batch = next(self._batches)
        self._clock.waited(time.perf_counter() - asked)
        self._profiler.before(self.step + 1, self._state)
        self._state, metrics = self._compiled(self._state, batch)
        self._clock.add(metrics, self._compiled.macs(batch))
        self.step += 1
        self._bar.advance()

    def _log(self) -> None:
        self._check_finite()
        run, values = self._run, self._clock.collect()
        epoch = self.step * run.config.batch_size / run.epoch
        self._writer.write(self.step, "train", {"epoch": epoch, **values})
        self._bar.show(values["loss"])
        shown, memory = run.task.format_metrics(values, digits=1), self._compiled.memory
        report(format_log_line(self.step, run.lengths.total, epoch, values, shown, memory, run.unit))
        self._checkpoints.check()

    def _check_finite(self) -> None:
        back = self._clock.first_non_finite()
        if back is not None:
            raise stop_at(self.step - back, self._run, self._workdir, self._checkpoints.latest_step())

    def _save(self) -> None:
        """Saves the newest state, if that has not been done."""
        self._check_finite()
        run = self._run
        # Orbax copies as it sees fit.
        with jax.transfer_guard("allow"):
            names, ids = run.task.names(run.train_source), run.task.ids(run.train_source)
            pending = self._clock.pending()
            self._checkpoints.save(self._state, plain(run.config), run.named_model, names, pending, ids)
        self._clock.restart()

    def _evaluate(self) -> int:
        """Evaluates the newest state; gives the number of a signal that cut it short, or 0."""
        try:
            evaluations = self._evaluator(_variants(self._state), self._signal)
            for split, evaluation in evaluations.items():
                report(f"step {self.step}  {format_result(self._run.task, split, evaluation.metrics)}")
            # All or nothing: an evaluation that a signal cut short is done again by the run that goes on.
            for split, evaluation in evaluations.items():
                self._writer.write(self.step, split, evaluation.metrics)
        except Interrupted as end:
            return end.signum
        except Exception:
            # Whatever ends an evaluation loses no steps. Several hosts could only save together.
            if jax.process_count() == 1:
                self._save()
            raise
        self._evaluations = evaluations
        results = {split: evaluation.metrics for split, evaluation in evaluations.items()}
        self._checkpoints.evaluations.record(self.step, results)
        return 0


def _variants(state: TrainState) -> dict[str, Weights]:
    """The weights that are evaluated, by the name of their split."""
    return {"eval": state.weights} | ({} if state.ema is None else {"ema": state.ema})


def _whole(results: Results | None, state: TrainState) -> bool:
    """Whether an evaluation on record is of all weights: a kill between two lines of the log leaves those of one."""
    return _variants(state).keys() <= (results or {}).keys()
