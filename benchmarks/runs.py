"""Runs that several benchmarks make: each once, and taken up again where it was stopped."""

import contextlib
import json
from pathlib import Path

from ml_collections import ConfigDict

from posmlp_jax import training
from posmlp_jax.checkpoints.evaluations import Results
from posmlp_jax.paths import as_path
from posmlp_jax.training.workdir import check_experiment, read_config
from posmlp_jax.writing import atomic_write, writing_to

# In a working directory: what a finished run ended with.
_RESULT = "result.json"


def read_result(config: ConfigDict, workdir: Path) -> Results | None:
    """The last evaluation of a finished run, `{'eval': …, 'ema': …}`, or None where there is none yet.

    Raises:
      CheckpointError: if another experiment lives in its working directory; names what differs.
    """
    saved = read_config(as_path(workdir))
    if saved is None or not (workdir / _RESULT).exists():
        return None
    check_experiment(as_path(workdir), saved, config)
    return json.loads((workdir / _RESULT).read_text())


def train_once(config: ConfigDict, workdir: Path, log: Path | None = None) -> Results:
    """`read_result`, of a run that is trained, or trained to its end, where it is not finished.

    Args:
      config: the run's.
      workdir: its working directory.
      log: gets the lines that training would print.

    Raises:
      PosMLPError: as `training.train`.
      RunEnded: likewise; the same call goes on from there.
    """
    if (result := read_result(config, workdir)) is None:
        with contextlib.ExitStack() as stack:
            if log is not None:
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(log.open("a"))))
            result = training.train(config, workdir)
        with writing_to(as_path(workdir)):
            atomic_write(as_path(workdir) / _RESULT, json.dumps(result) + "\n")
    return result
