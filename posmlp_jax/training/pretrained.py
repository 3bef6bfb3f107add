"""Trained models from disk: working directories of runs and what `posmlp_jax.convert` wrote."""

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from posmlp_jax.errors import CheckpointError
from posmlp_jax.models import registry
from posmlp_jax.models.backbone import Backbone, BackboneConfig
from posmlp_jax.training.checkpoints import Checkpoints
from posmlp_jax.training.state import Weights, create_weights, model_merge


@dataclass(frozen=True)
class Pretrained:
    """A checkpoint's model. Its weights are read when they are first asked for.

    Attributes:
      name: of the model that its config started from, as `create_model` has it.
      config: its architecture.
      class_names: in the order of the logits, or None where the data set had no names.
      data: the `data` section of the config that it was trained with: `mean`, `std`, `eval_crop` and more.
      workdir, step, item: which checkpoint it is, and 'weights' or 'ema' of it.
    """

    name: str
    config: BackboneConfig
    class_names: tuple[str, ...] | None
    data: Mapping[str, Any]
    workdir: Path
    step: int
    item: str

    @property
    def description(self) -> str:
        """Which weights of which checkpoint."""
        return f"{'moving average' if self.item == 'ema' else 'weights'} of step {self.step} in {self.workdir}"

    @functools.cached_property
    def weights(self) -> Weights:
        """The weights, on this process's first device."""
        target = jax.eval_shape(lambda: create_weights(self.config, 0))
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), target)
        with contextlib.closing(Checkpoints(self.workdir, alone=True)) as checkpoints:
            return checkpoints.restore_weights(self.step, self.item, target)

    def model(self) -> Backbone:
        """The model, as it was trained."""
        return model_merge(self.config)(self.weights)


def open_pretrained(path: str | Path, *, ema: bool = True, checkpoint: str | int = "latest") -> Pretrained:
    """Reads a trained model, however many devices and hosts it was trained on.

    What was trained in bfloat16 computes in float32 on CPUs, which only imitate bfloat16. Each process reads by itself.

    Args:
      path: a working directory, its `checkpoints/`, or one checkpoint `checkpoints/<step>`.
      ema: the moving average where the checkpoint has one, else the raw weights.
      checkpoint: 'latest', 'best' (by the config's `keep_best`) or a step; a path of one checkpoint goes before it.

    Raises:
      CheckpointError: if there is no such checkpoint.
    """
    workdir, checkpoint = _locate(Path(path).expanduser(), checkpoint)
    with contextlib.closing(Checkpoints(workdir, alone=True)) as checkpoints:
        step = checkpoints.select(checkpoint)
        run = checkpoints.run(step)
        item = "ema" if ema and checkpoints.has_ema(step) else "weights"
        with checkpoints.damaged(step, "run"):
            fields, names, data = dict(run["model"]), run["class_names"], run["config"]["data"]
            name = fields.pop("name")
    config = registry.model_config(name, **{field: _tuples(value) for field, value in fields.items()})
    if config.dtype == "bfloat16" and jax.default_backend() == "cpu":
        config = config.replace(dtype="float32")
    return Pretrained(
        name=name,
        config=config,
        class_names=None if names is None else tuple(names),
        data=data,
        workdir=workdir,
        step=step,
        item=item,
    )


def _locate(path: Path, checkpoint: str | int) -> tuple[Path, str | int]:
    """The working directory and the checkpoint that a path names."""
    path = path.absolute()
    if path.is_file():
        raise CheckpointError(
            f"{path} is a file; make a checkpoint of it with "
            f"python -m posmlp_jax.convert --source={path} --model=posmlp_t --output=DIR"
        )
    if path.name == "checkpoints" and path.is_dir():
        return path.parent, checkpoint
    if path.parent.name == "checkpoints" and path.name.isdecimal():
        return path.parent.parent, int(path.name)
    return path, checkpoint


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
