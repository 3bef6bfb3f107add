"""Trained models from disk: working directories of runs and what `posmlp_jax.convert` wrote."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from etils import epath

from posmlp_jax.checkpoints import zoo
from posmlp_jax.checkpoints.evaluations import deciding
from posmlp_jax.checkpoints.folders import locate
from posmlp_jax.checkpoints.packed import Packed, is_packed
from posmlp_jax.checkpoints.run import read_keep_best, read_metrics, read_model, task_of
from posmlp_jax.checkpoints.selection import ASKED, NAMES, check_selection, choose_weights, select_step
from posmlp_jax.checkpoints.state import Weights, abstract_weights, bind_model
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.devices.hosts import from_host_0, together
from posmlp_jax.errors import DamagedCheckpointError
from posmlp_jax.models.backbone import Backbone, BackboneConfig


@dataclass(frozen=True)
class Pretrained:
    """A checkpoint's model. Its weights are read when they are first asked for.

    Attributes:
      name: of the model that its config started from, as `create_model` has it.
      config: its architecture.
      class_names: in the order of the logits, or None where the data set had no names.
      class_ids: the data set's own numbers of the classes, or None where these are their places in it.
      task: what it was trained for, as `tasks.find_task` has it.
      data: the `data` section of the config that it was trained with: `mean`, `std`, `eval_crop` and more.
      workdir, step, item: which checkpoint it is, and 'weights' or 'ema' of it.
      reason: why that item, in words.
    """

    name: str
    config: BackboneConfig
    class_names: tuple[str, ...] | None
    class_ids: tuple[int, ...] | None
    task: str
    data: Mapping[str, Any]
    workdir: epath.Path
    step: int
    item: str
    reason: str

    @property
    def place(self) -> str:
        """Which checkpoint it is, in words."""
        name = zoo.name_of(self.workdir)
        return f"{name} of the zoo" if name else f"step {self.step} in {self.workdir}"

    @property
    def description(self) -> str:
        """Which weights of which checkpoint."""
        return f"{NAMES[self.item]} of {self.place}"

    @property
    def choice(self) -> str:
        """`description`, and why these."""
        return f"{self.description} ({self.reason})"

    @functools.cached_property
    def weights(self) -> Weights:
        """The weights, on this process's first device."""
        target = abstract_weights(self.config)
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), target)
        with contextlib.closing(open_checkpoints(self.workdir, alone=True)) as checkpoints:
            return checkpoints.restore_weights(self.step, self.item, target)

    def model(self) -> Backbone:
        """The model, as it was trained."""
        return bind_model(self.config)(self.weights)


def open_checkpoints(workdir: epath.Path, *, alone: bool = False) -> Checkpoints | Packed:
    """The checkpoints of a working directory or, of a packed one, it alone; to be read.

    Args:
      workdir: as `locate` gives it.
      alone: whether this process reads by itself (`Checkpoints`).
    """
    return Packed(workdir) if is_packed(workdir) else Checkpoints(workdir, alone=alone)


def open_pretrained(path: epath.PathLike, *, step: str | int = "latest", weights: str = "best") -> Pretrained:
    """Reads a trained model, however many devices and hosts it was trained on.

    What was trained in bfloat16 computes in float32 on CPUs, which only imitate bfloat16. Each process reads by itself.

    Args:
      path: a working directory, its `checkpoints/`, or one checkpoint `checkpoints/<step>`; on a disk or in a bucket.
        Or the name of a trained model that comes with this package (`list_pretrained`); a folder of that name goes
        first, and `Pretrained.description` says which it was.
      step: 'latest', 'best' (by the config's `keep_best`) or a step.
      weights: 'raw', 'ema' (the moving average), or 'best': those that the run's last evaluation up to this checkpoint
        found better or, where none is on record, the average if there is one (`selection.choose_weights`).

    Raises:
      ConfigError: for another `step` or `weights`.
      CheckpointError: if there is no such checkpoint, or model of that name.
    """
    check_selection(step, weights)
    workdir, step = locate(path, step)
    with contextlib.closing(open_checkpoints(workdir, alone=True)) as checkpoints:
        step = select_step(checkpoints, step)
        run = checkpoints.run(step)
        with checkpoints.damaged(step, "run"):
            (name, config), names = read_model(run), run["class_names"]
            ids = run.get("class_ids")  # Earlier versions knew none.
            data, metric = run["config"]["data"], deciding(read_metrics(run), read_keep_best(run))
        choice = choose_weights(weights, step, partial(checkpoints.holds, step), checkpoints.evaluations, metric)
    if config.dtype == "bfloat16" and jax.default_backend() == "cpu":
        config = config.replace(dtype="float32")
    return Pretrained(
        name=name,
        config=config,
        class_names=None if names is None else tuple(names),
        class_ids=None if ids is None else tuple(ids),
        task=task_of(run["config"]),
        data=data,
        workdir=workdir,
        step=step,
        item=choice.item,
        reason=choice.reason,
    )


def open_together(path: epath.PathLike, *, step: str | int = "latest", weights: str = "best") -> Pretrained:
    """`open_pretrained` by all hosts of a run at once: they take what the first one chooses.

    By themselves they might see different checkpoints as the latest, of a run that is still writing them.

    Raises:
      PosMLPError: on all hosts, if any cannot open it.
    """
    if jax.process_count() == 1:
        return open_pretrained(path, step=step, weights=weights)

    def choose() -> list:
        chosen = open_pretrained(path, step=step, weights=weights)
        return [chosen.step, chosen.item, chosen.reason]

    step, item, reason = from_host_0(choose)
    pretrained = together(partial(open_pretrained, path, step=step, weights=ASKED[item]))
    return dataclasses.replace(pretrained, reason=reason)


def open_newest(workdir: epath.Path) -> Pretrained:
    """The newest checkpoint of a run that says what it is: one that does not is damaged, and set aside later.

    Raises:
      CheckpointError: if there is none.
    """
    with contextlib.closing(Checkpoints(workdir, alone=True)) as checkpoints:
        steps = checkpoints.steps()
    for step in reversed(steps[1:]):
        with contextlib.suppress(DamagedCheckpointError):
            return open_pretrained(workdir, step=step, weights="raw")
    return open_pretrained(workdir, step=min(steps, default="latest"), weights="raw")
