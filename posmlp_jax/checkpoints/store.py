"""The checkpoints of a run.

A checkpoint is a folder `checkpoints/<step>/`, written by Orbax. It has four parts, so that each can be loaded without
the others: `weights`, `ema`, `optimizer` and `run`, which says what they are of. It gets its name only when all of it
is written, with checksums, so what was killed on the way is never loaded, and what has changed since is noticed.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint import checkpoint_managers as policies

from posmlp_jax.checkpoints.architecture import different_shapes
from posmlp_jax.checkpoints.checksums import find_damage, has_checksums, write_checksums
from posmlp_jax.checkpoints.evaluations import Criterion, Evaluations, Metric, criteria, score
from posmlp_jax.checkpoints.folders import checkpoints_folder, rename_damaged
from posmlp_jax.checkpoints.run import describe_run
from posmlp_jax.checkpoints.state import TrainState, Weights, as_dict
from posmlp_jax.devices.hosts import from_host_0
from posmlp_jax.errors import CheckpointError, DamagedCheckpointError, PosMLPError
from posmlp_jax.models.registry import NamedModel
from posmlp_jax.terminal import report
from posmlp_jax.writing import writing_to


class Checkpoints:
    """The checkpoints of one working directory.

    Args:
      workdir: holds `checkpoints/`.
      keep: how many of the newest to keep; None opens them for reading.
      keep_best: one of the `criteria`, as 'eval/top1', by which the best checkpoint is kept besides; '': none.
      metrics: what the run's evaluations measure besides the loss, to be kept in its checkpoints.
      alone: whether this process reads by itself; otherwise all processes of a run on several hosts have to open and
        read the same checkpoints at the same time.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        keep: int | None = None,
        keep_best: str = "",
        metrics: Sequence[Metric] = (),
        *,
        alone: bool = False,
    ):
        self.directory = checkpoints_folder(workdir)
        self._metrics = metrics
        self._best = criteria(metrics)[keep_best] if keep_best else None
        self._manager = None
        if keep is None and not self.directory.is_dir():
            return
        preserved = [policies.LatestN(keep)]
        if self._best:
            preserved.append(_Best(self.evaluations, self._best))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(preserved),
            cleanup_tmp_directories=keep is not None,
            create=keep is not None,
            read_only=keep is None,
            save_interval_steps=int(keep is not None),
            # Without the metrics that earlier versions kept in their checkpoints, which may be damaged.
            lightweight_initialize=True,
            multiprocessing_options=_processes(alone),
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
        )
        self._alone, self._whole, self._under_way = alone, set(), None
        self._handlers = {
            name: ocp.StandardCheckpointHandler(multiprocessing_options=_processes(alone))
            for name in ("weights", "ema", "optimizer")
        } | {"run": ocp.JsonCheckpointHandler(multiprocessing_options=_processes(alone))}
        # Orbax warns of what it was asked for, that it opens the directory for reading only.
        with writing_to(self.directory.parent), _quiet(keep is None):
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=self._handlers)

    @functools.cached_property
    def evaluations(self) -> Evaluations:
        """The results of the run's evaluations."""
        return Evaluations(self.directory.parent)

    def latest_step(self) -> int | None:
        """The newest complete checkpoint's step, or None."""
        return None if self._manager is None else self._manager.latest_step()

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, sorted."""
        return [] if self._manager is None else sorted(self._manager.all_steps())

    def is_best(self, step: int) -> bool:
        """Whether a step's evaluation is better than those of all checkpoints of other steps, by `keep_best`."""
        if not self._best:
            return False
        others = (score(self._best, self.evaluations[each]) for each in self.steps() if each != step)
        return score(self._best, self.evaluations[step]) > max(others, default=-math.inf)

    def save(
        self,
        state: TrainState,
        config: Mapping,
        model: NamedModel,
        class_names: Sequence[str] | None,
        pending: Sequence[Mapping[str, float]] = (),
        class_ids: Sequence[int] | None = None,
    ) -> None:
        """Starts to write a checkpoint; returns when the arrays are copied, before they are on disk.

        `config` is the run's, as JSON has it. `pending` are the metrics of the steps that no log line has had yet.
        `class_ids` are the data set's own numbers of the classes, where it has such.

        Raises:
          CheckpointError: if the disk refuses it, or the one before it.
        """
        step = int(state.step)
        if step == self.latest_step():
            return
        more = {"has_ema": state.ema is not None, "pending_metrics": list(pending)}
        items = {
            "weights": ocp.args.StandardSave(as_dict(state.weights)),
            "optimizer": ocp.args.StandardSave(state.optimizer),
            "run": ocp.args.JsonSave(describe_run(step, config, model, class_names, self._metrics, class_ids) | more),
        }
        if state.ema is not None:
            items["ema"] = ocp.args.StandardSave(as_dict(state.ema))
        self._save(step, items)

    def save_weights(
        self,
        weights: Weights,
        config: Mapping,
        model: NamedModel,
        class_names: Sequence[str] | None,
        class_ids: Sequence[int] | None = None,
    ) -> None:
        """A checkpoint of step 0 with weights alone, from which models are loaded but no run goes on."""
        items = {
            "weights": ocp.args.StandardSave(as_dict(weights)),
            "run": ocp.args.JsonSave(describe_run(0, config, model, class_names, self._metrics, class_ids)),
        }
        self._save(0, items)

    def _save(self, step: int, items: dict[str, ocp.args.CheckpointArgs]) -> None:
        with self._writing():
            self._manager.wait_until_finished()
            self._under_way = step
            self._manager.save(step, args=ocp.args.Composite(**items))

    def _write_checksums(self) -> None:
        """Is called on the first host, when all that all hosts write of a checkpoint is there, before it counts."""
        folder = epath.Path(self.directory) / str(self._under_way)
        unnamed = folder.with_name(folder.name + ocp.utils.TMP_DIR_SUFFIX)
        # In a bucket a checkpoint has its name from the start, and a file more when it is complete.
        write_checksums(unnamed if unnamed.exists() else folder)

    def restore(self, step: int, target: TrainState) -> TrainState:
        """A checkpoint, on the devices that the abstract `target` names.

        Raises:
          CheckpointError: if its architecture is another (names the first differing parameters).
          DamagedCheckpointError: if its files are not what was written.
        """
        weights = self.restore_weights(step, "weights", target.weights)
        ema = None if target.ema is None else self.restore_weights(step, "ema", target.ema)
        optimizer = self._read(step, "optimizer", ocp.args.StandardRestore(target.optimizer))
        count = jax.make_array_from_callback((), target.step.sharding, lambda _: np.int32(step))
        return TrainState(count, weights, optimizer, ema)

    def restore_weights(self, step: int, item: str, target: Weights) -> Weights:
        """Only 'weights' or 'ema' of a checkpoint, checked and placed like `restore`'s."""
        self._check_files(step, item)
        self._check_architecture(step, item, target)
        tree = self._read(step, item, ocp.args.StandardRestore(as_dict(target)))
        return Weights(tree["params"], tree["batch_stats"])

    def run(self, step: int) -> dict:
        """A checkpoint's `run`, as `describe_run` made it.

        Raises:
          DamagedCheckpointError: if it cannot be read, or the checkpoint's checksums are gone.
        """
        content = self._read(step, "run", ocp.args.JsonRestore())
        if content.get("has_checksums") and not has_checksums(epath.Path(self.directory) / str(step)):
            raise self._damaged(step, "its checksums.json is gone")
        return content

    def holds(self, step: int, item: str) -> bool:
        """Whether a checkpoint holds 'weights', which all do, or a moving average, 'ema'.

        Raises:
          DamagedCheckpointError: if it once did.
        """
        if item == "weights":
            return True
        holds = (self.directory / str(step) / "ema").is_dir()
        if not holds and self.run(step).get("has_ema"):
            raise self._damaged(step, "its moving average is gone")
        return holds

    def _check_files(self, step: int, item: str) -> None:
        """Raises a DamagedCheckpointError for a file of an item that is not what was written; looks at each once."""
        if (step, item) in self._whole:
            return
        look = functools.partial(find_damage, epath.Path(self.directory) / str(step), item)
        # Of the arrays, which are large, the first host's word is enough.
        damage = look() if self._alone or item == "run" else from_host_0(look)
        if damage:
            raise self._damaged(step, damage)
        self._whole.add((step, item))
        if item != "run":
            self.run(step)  # Which says whether there should be checksums.

    def _damaged(self, step: int, damage: str) -> DamagedCheckpointError:
        others = [each for each in self.steps() if each != step]
        return DamagedCheckpointError(
            f"the checkpoint {self.directory / str(step)} is damaged: {damage}",
            f"delete that folder and take one of the steps {others}" if others else "there is no other",
        )

    def set_aside(self, error: DamagedCheckpointError) -> None:
        """Renames the newest checkpoint, which is damaged, so that the one before is the newest, and says so.

        Raises:
          DamagedCheckpointError: `error`, if there is no other.
        """
        *others, step = self.steps()
        if not others:
            raise error
        renamed = from_host_0(functools.partial(rename_damaged, epath.Path(self.directory) / str(step)))
        report(f"{error.damage}; it is kept as {renamed}, and the run goes on from step {others[-1]}")
        self._manager.reload()

    def _read(self, step: int, item: str, args: ocp.args.CheckpointArgs):
        self._check_files(step, item)
        with self.damaged(step, item):
            return self._manager.restore(step, args=ocp.args.Composite(**{item: args}))[item]

    @contextmanager
    def damaged(self, step: int, item: str) -> Iterator[None]:
        """Turns what Orbax and TensorStore raise of missing and broken files into a DamagedCheckpointError."""
        try:
            yield
        except PosMLPError:
            raise
        except Exception as error:  # Orbax raises bare ones, too.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise self._damaged(step, f"its {item} cannot be read ({reason})") from error

    def check(self) -> None:
        """Raises the CheckpointError of a save that has failed since; does not wait for one that is under way."""
        if not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Returns when everything saved is on disk.

        Raises:
          CheckpointError: if the disk refused it.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and frees the threads that write."""
        if self._manager is not None:
            with self._writing():
                self._manager.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with writing_to(self.directory.parent):
                yield
        except CheckpointError as error:
            # Orbax takes a checkpoint that failed off its list, and removes old ones only once a new one is complete.
            step = self.latest_step()
            kept = "there was no checkpoint before" if step is None else f"the checkpoint of step {step} is intact"
            raise CheckpointError(f"{error} while saving a checkpoint; {kept}") from error

    def _check_architecture(self, step: int, item: str, target: Weights) -> None:
        with self.damaged(step, item):
            # Not the manager's, which reads the metadata of everything else as well.
            metadata = self._handlers[item].metadata(self.directory / str(step) / item)
            differing = different_shapes(dict(metadata.tree), as_dict(target))
        if differing:
            raise CheckpointError(
                f"the checkpoint {self.directory / str(step)} is of another architecture, "
                f"{len(differing)} parameters differ: {'; '.join(differing[:3])}"
            )


@dataclass(frozen=True)
class _Best(policies.PreservationPolicy):
    """Keeps the checkpoint whose evaluation is the best."""

    evaluations: Evaluations
    criterion: Criterion

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        best = self.evaluations.best(self.criterion, [checkpoint.step for checkpoint in checkpoints])
        return [checkpoint.step == best for checkpoint in checkpoints]


@contextmanager
def _quiet(holds: bool) -> Iterator[None]:
    """Keeps absl's log down inside, if `holds`."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL if holds else before)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _processes(alone: bool) -> ocp.options.MultiprocessingOptions:
    """Who reads and writes together."""
    if not alone or jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process_{index}"
    )
