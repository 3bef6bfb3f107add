"""What several test files need of runs: `main.py` as a process, and what a run leaves in its working directory."""

import atexit
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import warm_python

from posmlp_jax.checkpoints.state import module_weights
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.data.sources.synthetic import SyntheticSource
from posmlp_jax.models.registry import NamedModel
from posmlp_jax.tasks.classification.task import Classification
from posmlp_jax.training import default_config
from posmlp_jax.training.config import plain

ROOT = Path(__file__).parent.parent
# A two-stage PosMLP on generated images, in seconds; the batches of 16 go across the borders of epochs of 40 images.
TINY = [
    "--config=configs/digits.py",
    "--config.data.name=synthetic",
    "--config.data.num_examples=40",
    "--config.data.num_classes=4",
    "--config.data.threads=1",
    "--config.model.image_size=16",
    "--config.model.widths=(8,16)",
    "--config.model.depths=(1,1)",
    "--config.model.windows=(4,2)",
    "--config.model.groups=(2,4)",
    "--config.batch_size=16",
    "--config.length=3 steps",
    "--config.optimizer.warmup=1 steps",
    "--config.optimizer.constant=0 steps",
    "--config.log_every=1 steps",
    "--config.devices=1",
]
RATES = ("images_per_second", "images_per_second_per_chip", "clips_per_second", "clips_per_second_per_chip")
TIMINGS = (*RATES, "step_seconds", "data_wait", "tflops")


def on_devices(count: int) -> str:
    """The tests' `XLA_FLAGS`, for a program with another number of devices."""
    return re.sub(r"(device_count=)\d+", rf"\g<1>{count}", os.environ["XLA_FLAGS"])


class Process:
    """A program under way, whose lines are collected as they come.

    Args:
      *arguments: the program's.
      python: the name of the `warm_python` that it starts as a fork of, or 'new' for an interpreter of its own.
      **environment: variables besides this process's; with one that Python itself reads, it has its own interpreter.
    """

    def __init__(self, *arguments: str, program: Path = ROOT / "main.py", python: str = "ours", **environment: str):
        new = python == "new" or any(name.startswith("PYTHON") for name in environment)
        command, environment = [str(program), *arguments], os.environ | environment
        (output, writes_output), (errors, writes_errors) = os.pipe(), os.pipe()
        with open(os.devnull) as nothing, open(writes_output, "w") as out, open(writes_errors, "w") as err:
            if new:
                self._process = subprocess.Popen(
                    [sys.executable, *command], cwd=ROOT, env=environment, stdin=nothing, stdout=out, stderr=err
                )
            else:
                files = nothing.fileno(), out.fileno(), err.fileno()
                self._process = warm_python.Program(
                    warm_python.server(environment, python), command, environment, str(ROOT), files
                )
        atexit.register(self._process.kill)  # Of a test that failed half-way.
        self.lines, self._errors = [], []
        self._readers = [
            threading.Thread(target=self._read, args=(output, self.lines), daemon=True),
            threading.Thread(target=self._read, args=(errors, self._errors), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(pipe: int, lines: list[str]) -> None:
        with open(pipe) as stream:
            lines.extend(iter(stream.readline, ""))

    def wait_for(self, start: str, seconds: float = 300) -> None:
        """Returns when a line starts with `start`."""
        self.wait_until(lambda: any(line.startswith(start) for line in list(self.lines)), seconds)

    def wait_until(self, holds, seconds: float = 300) -> None:
        """Returns when `holds()`; an error when the program ends before."""
        end = time.monotonic() + seconds
        while not holds():
            assert self._process.poll() is None, f"ended with {self._process.returncode}: {self.output} {self.errors}"
            assert time.monotonic() < end, f"still waiting: {self.output} {self.errors}"
            time.sleep(0.002)

    def send(self, signum: int) -> None:
        self._process.send_signal(signum)

    def end(self, seconds: float = 300) -> int:
        """Waits for the end and gives the exit code."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            for reader in self._readers:
                reader.join()
        return code

    @property
    def output(self) -> str:
        return "".join(self.lines)

    @property
    def errors(self) -> str:
        return "".join(self._errors)

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.errors.splitlines() if line]


def classification(model, **changes) -> Classification:
    """The task for a model's config and a data set of as many nameless classes; changes of fields, 'data.mean' too."""
    config = default_config()
    config.label_smoothing = 0.0
    config.update_from_flattened_dict(changes)
    return Classification(config, model, SyntheticSource(0, model.num_classes))


def run(*arguments: str, **options: str) -> Process:
    """A program from start to end, `main.py` unless `options`, those of `Process`, say which."""
    process = Process(*arguments, **options)
    process.code = process.end()
    return process


def metrics(workdir: Path) -> list[dict]:
    """The lines of `metrics.jsonl` without times."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMINGS} for line in lines]


def losses(workdir: Path, split: str = "train") -> list[float]:
    """The losses of a split, step by step."""
    return [line["loss"] for line in metrics(workdir) if line["split"] == split]


def steps(workdir: Path) -> list[int]:
    """The steps of the complete checkpoints."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal())


def save_model(workdir: Path, name: str, model, class_names=None, class_ids=None) -> None:
    """A working directory with a checkpoint of step 0: `model`, whose config started from the registry's `name`."""
    config = default_config(name, "detection" if model.config.is_detector else "classification")
    if model.config.is_detector:
        config.data.crop = "fit"
    checkpoints = Checkpoints(workdir, keep=1)
    named = NamedModel(name, model.config)
    checkpoints.save_weights(module_weights(model), plain(config), named, class_names, class_ids)
    checkpoints.close()


def saved_arrays(workdir: Path, step: int) -> dict:
    """Everything that a checkpoint holds, as Orbax reads it without our help."""
    folder = workdir.absolute() / "checkpoints" / str(step)
    with ocp.StandardCheckpointer() as checkpointer:
        return {item: checkpointer.restore(folder / item) for item in ("weights", "ema", "optimizer")}


def assert_equal(left, right) -> None:
    """Two trees of arrays, to the last bit."""
    jax.tree.map(np.testing.assert_array_equal, left, right)
