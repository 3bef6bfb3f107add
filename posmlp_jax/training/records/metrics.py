"""What a run writes down: `metrics.jsonl`, TensorBoard events, and the lines and the bar on the terminal."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from etils import epath
from tqdm import tqdm

from posmlp_jax.terminal import report
from posmlp_jax.training.records.tensorboard import ScalarEvents
from posmlp_jax.writing import LineWriter, atomic_write, writing_to


class EvaluationProgress:
    """How far an evaluation has come: a bar where stderr is a terminal, else a line every 30 seconds.

    Args:
      total: how many examples there are.
      unit: what they are, 'images' or 'clips'.
      report: takes the lines.
      seconds: between two lines.
    """

    def __init__(self, total: int, unit: str, report: Callable[[str], None] = report, seconds: float = 30):
        self._total, self._unit, self._report, self._seconds = total, unit, report, seconds
        self._done, self._start = 0, time.perf_counter()
        self._reported = self._start
        self._bar = tqdm(
            desc="evaluating",
            total=total,
            unit=f" {unit}",
            unit_scale=True,
            dynamic_ncols=True,
            leave=False,
            delay=1,
            disable=None if jax.process_index() == 0 else True,
        )

    def advance(self, count: int) -> None:
        """Counts some examples."""
        self._done = min(self._done + count, self._total)
        self._bar.update(self._done - self._bar.n)
        now = time.perf_counter()
        if self._bar.disable and now - self._reported > self._seconds:
            self._reported = now
            rate = self._done / (now - self._start)
            self._report(f"evaluated {self._done} of {self._total} {self._unit}, {rate:.0f} {self._unit}/s")

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.close()


class MetricsWriter:
    """Appends metrics to a working directory's `metrics.jsonl` and `tensorboard/`; does nothing on other hosts.

    Each line of the file is a JSON object with `step`, `split` ('train', 'eval' or 'ema') and the values.

    Args:
      workdir: the working directory.
      start_step: the step that the run goes on from; what an interrupted run wrote beyond it is dropped.
      evaluated: whether that step was evaluated; if not, what there is of an evaluation of it is dropped too.
    """

    def __init__(self, workdir: epath.Path, start_step: int, evaluated: bool = True):
        self._workdir = workdir
        self._lines = self._events = None
        if jax.process_index():
            return
        path = workdir / "metrics.jsonl"
        with writing_to(workdir):
            if path.exists():
                # A machine that lost its power may leave any bytes.
                lines = path.read_bytes().decode(errors="replace").splitlines()
                kept = [line for line in lines if _place(line) <= (start_step, evaluated)]
                atomic_write(path, "".join(f"{line}\n" for line in kept))
            self._events = ScalarEvents(workdir / "tensorboard", start_step)
            self._lines = LineWriter(path)

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Writes one set of values.

        Raises:
          CheckpointError: if the disk refuses them.
        """
        if self._lines is None:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with writing_to(self._workdir):
            # A run that goes on looks for its evaluations.
            self._lines.write(json.dumps({"step": step, "split": split, **finite}), flush=split != "train")
            self._events.write(step, {f"{split}/{name}": value for name, value in values.items()})

    def close(self) -> None:
        """Flushes and closes both."""
        if self._lines is not None:
            with writing_to(self._workdir):
                self._lines.close()
                self._events.close()


def _place(line: str) -> tuple[float, bool]:
    """A line's step, and whether it is of an evaluation."""
    try:
        content = json.loads(line)
        return float(content["step"]), content["split"] != "train"
    except (ValueError, KeyError, TypeError):
        return math.inf, True  # The end of a line that a kill cut off.


class StepClock:
    """Collects the steps' metrics, on the devices until they are asked for, and measures where the time goes.

    Args:
      batch_size: examples a step.
      devices: how many share them.
      unit: what the examples are, 'images' or 'clips'.
      earlier: the `pending` ones of the run that this one goes on from.
    """

    # Steps that may be on their way at once; without a bound the host would run ahead and fill the devices' memory.
    _IN_FLIGHT = 2

    def __init__(
        self,
        batch_size: int,
        devices: int,
        unit: str = "images",
        earlier: Sequence[Mapping[str, float]] = (),
    ):
        self.batch_size, self.devices, self.unit = batch_size, devices, unit
        self._pending = [{name: np.float32(value) for name, value in metrics.items()} for metrics in earlier]
        self.restart()

    def restart(self) -> None:
        """Starts to measure from now, as after an evaluation."""
        self._start, self._waited, self._timed_steps, self._macs = time.perf_counter(), 0.0, 0, 0

    def waited(self, seconds: float) -> None:
        """Counts time spent waiting for data."""
        self._waited += seconds

    def add(self, metrics: Mapping[str, jax.Array], macs: int) -> None:
        """Takes a step's metrics and its multiply-accumulates, and waits while too many steps are on their way."""
        self._pending.append(metrics)
        self._timed_steps += 1
        self._macs += macs
        if len(self._pending) > self._IN_FLIGHT:
            jax.block_until_ready(self._pending[-1 - self._IN_FLIGHT])

    def pending(self) -> list[dict[str, float]]:
        """The metrics of each step since `collect`: a run that goes on from here averages over these too."""
        return [{name: float(value) for name, value in each.items()} for each in jax.device_get(self._pending)]

    def first_non_finite(self) -> int | None:
        """Counted back from the newest step (0), the first since `collect` whose loss or gradient is not finite."""
        for back, metrics in zip(range(len(self._pending))[::-1], jax.device_get(self._pending), strict=True):
            if not (math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])):
                return back
        return None

    def collect(self) -> dict[str, float]:
        """Means since the last call: the steps' metrics, then rates and times since then or `restart`.

        `learning_rate` is the last step's. Keys: the metrics', `images_per_second` and `images_per_second_per_chip`
        (of clips `clips_…`), `step_seconds`, `data_wait` (a share) and `tflops` (10¹² operations a second, two a
        multiply-accumulate).
        """
        fetched = jax.device_get(self._pending)
        self._pending = []
        values = {name: float(np.mean([metrics[name] for metrics in fetched])) for name in fetched[0]}
        values["learning_rate"] = float(fetched[-1]["learning_rate"])
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        step_seconds = elapsed / max(self._timed_steps, 1)
        values |= {
            f"{self.unit}_per_second": self.batch_size / step_seconds,
            f"{self.unit}_per_second_per_chip": self.batch_size / step_seconds / self.devices,
            "step_seconds": step_seconds,
            "data_wait": self._waited / elapsed,
            "tflops": 2e-12 * self._macs / elapsed,
        }
        self.restart()
        return values


def format_log_line(
    step: int,
    total: int,
    epoch: float,
    values: Mapping[str, float],
    shown: Sequence[str],
    memory_bytes: int,
    unit: str,
) -> str:
    """The training line: `step 100/1000 (epoch 0.8)  loss 2.31  top-1 10.2 %  …`; `shown` are the task's metrics."""
    return "  ".join(
        [
            f"step {step}/{total} (epoch {epoch:.1f})",
            f"loss {values['loss']:.4f}",
            *shown,
            f"rate {values['learning_rate']:.2e}",
            f"{values[f'{unit}_per_second']:.0f} {unit}/s ({values[f'{unit}_per_second_per_chip']:.0f}/chip)",
            f"{1e3 * values['step_seconds']:.0f} ms/step",
            f"data wait {100 * values['data_wait']:.0f} %",
            f"{values['tflops']:.3g} TFLOP/s",
            f"{memory_bytes / 2**30:.2f} GiB/chip",
        ]
    )


class ProgressBar:
    """A bar on the terminal (nothing where stderr is not one): loss, images or clips a second, time left."""

    def __init__(self, start_step: int, total_steps: int, batch_size: int, unit: str):
        self._batch_size = batch_size
        self._bar = tqdm(
            total=total_steps * batch_size,
            initial=start_step * batch_size,
            unit=f" {unit}",
            unit_scale=True,
            dynamic_ncols=True,
            smoothing=0.05,
            disable=None if jax.process_index() == 0 else True,
        )

    def advance(self) -> None:
        """Counts one step."""
        self._bar.update(self._batch_size)

    def show(self, loss: float) -> None:
        """Shows the newest loss."""
        self._bar.set_postfix_str(f"loss {loss:.3f}")

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()
