"""The weights of a trained model as those of another: other classes, another image size, other windows."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from posmlp_jax.errors import CheckpointError
from posmlp_jax.models import registry
from posmlp_jax.models.backbone import Backbone, BackboneConfig
from posmlp_jax.resizing import resizes
from posmlp_jax.training.pretrained import Pretrained, open_pretrained
from posmlp_jax.training.state import Arrays, Weights, create_weights, model_merge, parameter_name

Names = tuple[str, ...]
INTERPOLATES_DENSE = (
    "dense relations are interpolated to another grid: their entries were learned for pairs of places, so train the "
    "model further"
)
# The fields of a model's config in which its parameters can go along.
_MAY_DIFFER = {"image_size", "num_classes", "windows", "dropout", "drop_path", "dtype", "remat", "gate_norm"}


@dataclass(frozen=True)
class Transferred:
    """Weights for another model.

    Attributes:
      weights: NumPy arrays.
      resized: the parameters, by dotted name, that were interpolated to another grid.
      new: those that start at their initial values.
      names_compared: whether the classes' names, and not only their number, decided about the head.
    """

    weights: Weights
    resized: Names
    new: Names
    names_compared: bool

    @property
    def summary(self) -> str:
        """One line: how many parameters were taken, interpolated and made new, and where the new ones are."""
        total = len(_flat(self.weights.params))
        parts = [f"{total - len(self.new)} of {total} parameters taken"]
        if self.resized:
            parts.append(f"{len(self.resized)} of them interpolated")
        if self.interpolates_dense:
            parts.append(INTERPOLATES_DENSE)
        if self.new:
            parts.append(f"new: {', '.join(self.new)}")
        elif not self.names_compared:
            parts.append("the head is kept: there are as many classes, and no names on both sides to compare")
        return "; ".join(parts)

    @property
    def interpolates_dense(self) -> bool:
        """Whether dense relations are among what was interpolated."""
        return any(name.endswith(("relation.weight", "relation.dense.weight")) for name in self.resized)


def transfer(
    pretrained: Pretrained, config: BackboneConfig, *, class_names: Sequence[str] | None = None, seed: int = 0
) -> Transferred:
    """Weights for `config` from a trained model.

    The head is new where the classes are others, by number or by name; all else must be the same architecture, but for
    image size and windows (`resizing`).

    Args:
      pretrained: the trained model.
      config: the model that the weights are for.
      class_names: its classes, if they have names.
      seed: of the initial values of what is new.

    Raises:
      CheckpointError: lists all parameters that differ.
    """
    _check_meaning(pretrained, config)
    source, target = _abstract(pretrained.config), _abstract(config)
    resize = {_dotted(path): function for path, function in resizes(source, target)}
    wanted = jax.eval_shape(lambda: create_weights(config, seed))
    named = pretrained.class_names is not None and class_names is not None
    same_classes = not (named and tuple(class_names) != tuple(pretrained.class_names))
    new, resized, differing = [], [], []

    def take(kind: str, have: Arrays, want: Arrays) -> Arrays:
        arrays, shapes = _flat(have), _flat(want)
        taken = {}
        for name, shape in shapes.items():
            array = arrays.get(name)
            if _in_head(name) and (array is None or array.shape != shape.shape or not same_classes):
                new.append(name)
                continue
            if array is not None and name in resize and kind == "params":
                array = resize[name](np.asarray(array))
                resized.append(name)
            if array is None or array.shape != shape.shape:
                there = "missing" if array is None else array.shape
                differing.append(f"{name} {there} there, {shape.shape} here")
                continue
            taken[name] = np.asarray(array)
        left = [name for name in arrays if name not in shapes and not _in_head(name)]
        differing.extend(f"{name} {arrays[name].shape} there, missing here" for name in left)
        return taken

    params = take("params", pretrained.weights.params, wanted.params)
    batch_stats = take("batch_stats", pretrained.weights.batch_stats, wanted.batch_stats)
    if differing:
        raise CheckpointError(
            f"the model is of another architecture than the {pretrained.description}: {'; '.join(differing)}"
        )
    params |= _initial(config, seed, new)
    weights = Weights(_like(wanted.params, params), _like(wanted.batch_stats, batch_stats))
    return Transferred(weights, tuple(resized), tuple(new), named)


def _check_meaning(pretrained: Pretrained, config: BackboneConfig) -> None:
    """Raises a CheckpointError where parameters of the same shapes would compute something else."""
    if type(config) is not type(pretrained.config):
        raise CheckpointError(
            f"the model is a {type(config).__name__.removesuffix('Config')}, and the {pretrained.description} are of a "
            f"{type(pretrained.config).__name__.removesuffix('Config')}"
        )
    fields = [*(field for field in config.__dataclass_fields__ if field not in _MAY_DIFFER), "normalizes_gate"]
    differing = [
        f"{field} {getattr(pretrained.config, field)!r} there, {getattr(config, field)!r} here"
        for field in fields
        if getattr(pretrained.config, field) != getattr(config, field)
    ]
    if differing:
        raise CheckpointError(
            f"the model is of another architecture than the {pretrained.description}: {'; '.join(differing)}"
        )


def _abstract(config: BackboneConfig) -> Backbone:
    return nnx.eval_shape(lambda: registry.build(config, nnx.Rngs(0)))


def _initial(config: BackboneConfig, seed: int, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The initial values of some parameters; XLA leaves the computation of the others out."""
    names = set(names)
    if not names:
        return {}

    def create() -> dict[str, jax.Array]:
        return {name: x for name, x in _flat(create_weights(config, seed).params).items() if name in names}

    return jax.device_get(jax.jit(create)())


def _in_head(name: str) -> bool:
    return name.startswith("head.")


def _flat(tree: Arrays) -> dict[str, jax.Array]:
    """The leaves of nested dicts by dotted name."""
    return {parameter_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _like(tree: Arrays, arrays: dict[str, np.ndarray]) -> Arrays:
    return jax.tree_util.tree_map_with_path(lambda path, _: arrays[parameter_name(path)], tree)


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path))


def from_pretrained(
    path: str | Path,
    *,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    ema: bool = True,
    checkpoint: str | int = "latest",
    seed: int = 0,
    **overrides,
) -> Backbone:
    """A trained model, as it is or changed, on this process's first device.

    Args:
      path: a working directory, its `checkpoints/` or one checkpoint in it, as `main.py` or `posmlp_jax.convert` wrote
        it, on however many devices.
      num_classes: another number of classes gives a new head, 0 none.
      image_size: pixels, an integer or (height, width). Learned positions and relations are interpolated where the
        grids of tokens change.
      ema: the moving average where the checkpoint has one, else the raw weights.
      checkpoint: 'latest', 'best' (by the config's `keep_best`) or a step.
      seed: of a new head's initial values.
      **overrides: other fields of the model's config that do not change what its parameters mean: `windows`, `dtype`,
        `dropout`, `drop_path`, `remat`.

    Raises:
      ConfigError: for a field or value that the model cannot have.
      CheckpointError: if there is no such checkpoint, or the changes make another architecture of it.
    """
    pretrained = open_pretrained(path, ema=ema, checkpoint=checkpoint)
    changes = {"num_classes": num_classes, "image_size": image_size}
    overrides |= {field: value for field, value in changes.items() if value is not None}
    config = pretrained.config.replace(**overrides)
    if config == pretrained.config:
        return pretrained.model()
    transferred = transfer(pretrained, config, seed=seed)
    if transferred.interpolates_dense:
        warnings.warn(INTERPOLATES_DENSE, stacklevel=2)
    return model_merge(config)(jax.device_put(transferred.weights, jax.local_devices()[0]))
