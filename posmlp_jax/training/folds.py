"""Leaves out one part of the examples after the other, as each person's: trains on the others, and evaluates with it.

Each fold is a run of its own, in `WORKDIR/folds/<what is left out>/`, with all that runs have: it is resumed bit by bit
and stopped like any other. All begin with the same weights and take as many steps. A fold that has ended leaves its
`predictions.csv`, and is not trained again; what all of them come to is in `WORKDIR/leave_one_out/`.
"""

import copy
import time
from collections.abc import Sequence
from functools import partial

from etils import epath
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.folders import checkpoints_folder
from posmlp_jax.checkpoints.transfer import Transferred
from posmlp_jax.data.fingerprint import fingerprint
from posmlp_jax.devices.hosts import from_host_0
from posmlp_jax.devices.memory import out_of_memory
from posmlp_jax.errors import CheckpointError, ConfigError
from posmlp_jax.paths import as_path
from posmlp_jax.tasks import find_task
from posmlp_jax.terminal import report
from posmlp_jax.training.beginning import SPLITS, begin, changed_data
from posmlp_jax.training.config import check_fields
from posmlp_jax.training.experiment import Training
from posmlp_jax.training.loop import locked, train_to_end
from posmlp_jax.training.programs import Programs
from posmlp_jax.training.workdir import check_experiment, claim_workdir, read_config
from posmlp_jax.writing import atomic_write, writing_to

_TABLE = "predictions.csv"
# What folds begin with, and so has to be the same in all of them.
_START = ("init_from", "init_step", "init_weights")


def leave_one_out(config: ConfigDict, workdir: epath.PathLike) -> dict[str, float]:
    """Trains a model for each part of the examples that can be left out, or goes on where an earlier call has stopped.

    Args:
      config: from `default_config()` or a file in `configs/`, without a `data.left_out`.
      workdir: where folds, their predictions and what they come to go: on a disk, or in a bucket (gs://…).

    Returns:
      The task's metrics of all folds' predictions together.

    Raises:
      PosMLPError, Stopped, NonFiniteLoss: as `train`.
    """
    workdir = as_path(workdir)
    check_fields(config)
    task = find_task(config.task)
    if config.data.left_out:
        raise ConfigError(
            f"data.left_out is '{config.data.left_out}', and should be '' with --mode=leave_one_out, which leaves out "
            "all in turn; --mode=train trains this fold alone"
        )
    with locked(workdir):
        _check_experiment(config, workdir)
        names = from_host_0(partial(task.left_out, config.data))
        if len(names) < 2:
            raise ConfigError(f"with {names[0]} left out there is nobody to train on; {config.data.name} has no other")
        _Folds(config, workdir, names).train()
        return from_host_0(
            lambda: task.report_folds(config.data, workdir / "leave_one_out", _read(_tables(workdir, names)))
        )


def _check_experiment(config: ConfigDict, workdir: epath.Path) -> None:
    saved = from_host_0(partial(read_config, workdir))
    from_host_0(partial(check_experiment, workdir, saved, config))
    for name in _START if saved is not None else ():
        if saved.get(name, "") != config[name]:
            raise CheckpointError(
                f"the folds in {workdir} begin with {name}={saved.get(name, '')!r}, and all should begin alike: here "
                f"it is {config[name]!r}; choose another --workdir"
            )


def _tables(workdir: epath.Path, names: Sequence[str]) -> list[epath.Path]:
    return [workdir / "folds" / name / _TABLE for name in names]


def _read(files: Sequence[epath.Path]) -> dict[str, str]:
    # What is no UTF-8 is for the task to find.
    return {str(file): file.read_bytes().decode(errors="replace") for file in files}


class _Folds:
    """The folds of an experiment, which share what is compiled and the weights that they begin with.

    Args:
      config: the experiment's.
      workdir: its working directory, which is locked.
      names: what is left out, one in each fold.
    """

    def __init__(self, config: ConfigDict, workdir: epath.Path, names: Sequence[str]):
        self._config, self._workdir, self._names = config, workdir, names
        self._programs, self._first, self._claimed = Programs(), [], False

    def train(self) -> None:
        """Trains those that have not ended."""
        for number, (name, file) in enumerate(zip(self._names, _tables(self._workdir, self._names), strict=True)):
            if not from_host_0(file.exists):
                report(f"\nfold {number + 1} of {len(self._names)}, without {name}")
                self._train(name, file)
            # After the table is there: whatever ends the program between the two, nothing is trained again.
            from_host_0(partial(_remove_checkpoints, file.parent, self._workdir))

    def _train(self, name: str, file: epath.Path) -> None:
        started, config = time.perf_counter(), copy.deepcopy(self._config)
        config.data.left_out = name
        with locked(file.parent), out_of_memory():
            beginning = begin(config, file.parent, self._programs, self._first_weights)
            self._claim(beginning.run)
            evaluations = train_to_end(beginning, file.parent, started)
            from_host_0(partial(_write, file, self._workdir, partial(beginning.run.task.fold_table, evaluations)))

    def _first_weights(self, run: Training) -> Transferred | None:
        """Read once: what they are read from may be a run under way."""
        if not self._first:
            self._first.append(run.first_weights())
        return self._first[0]

    def _claim(self, run: Training) -> None:
        """Makes the working directory this experiment's, once a fold can take its first step.

        Raises:
          CheckpointError: if the folds before had other data, or another experiment has begun there since.
        """
        if not self._claimed:
            data = from_host_0(partial(self._fingerprints, run.model.kind))
            if from_host_0((self._workdir / "config.json").exists):
                from_host_0(partial(changed_data, self._workdir, data, self._config))
            from_host_0(partial(claim_workdir, self._workdir, self._config, data))
            self._claimed = True

    def _fingerprints(self, kind: str) -> dict[str, dict]:
        """Of all examples, which are the same ones whoever is left out."""
        data, task = copy.deepcopy(self._config.data), find_task(self._config.task)
        data.left_out = self._names[0]
        sources = {what: task.open_source(data, split, kind) for what, split in SPLITS.items()}
        return {what: fingerprint(source) for what, source in sources.items()}


def _write(file: epath.Path, workdir: epath.Path, table) -> None:
    with writing_to(workdir):
        atomic_write(file, table())


def _remove_checkpoints(fold: epath.Path, workdir: epath.Path) -> None:
    """Removes a fold's checkpoints, unless the program that trained it was to keep them."""
    if (read_config(fold) or {}).get("keep_folds", False):
        return
    with writing_to(workdir):
        if (folder := checkpoints_folder(fold)).exists():
            folder.rmtree()
