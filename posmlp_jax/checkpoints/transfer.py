"""The weights of a trained model as those of another: other classes, another image size or clip length, other windows.

A video model also starts from its own network without temporal parts, which is trained on images.
"""

import dataclasses
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath

from posmlp_jax.checkpoints.architecture import different_fields
from posmlp_jax.checkpoints.pretrained import Pretrained, open_pretrained
from posmlp_jax.checkpoints.resizing import inflates, resizes
from posmlp_jax.checkpoints.state import (
    Arrays,
    Weights,
    abstract_weights,
    bind_model,
    create_weights,
    parameter_name,
)
from posmlp_jax.errors import CheckpointError
from posmlp_jax.models import registry
from posmlp_jax.models.backbone import COMPUTING, Backbone, BackboneConfig
from posmlp_jax.models.detectors.config import FINDING
from posmlp_jax.models.posmlp_video import PosMLPVideoConfig

Names = tuple[str, ...]
INTERPOLATES_DENSE = (
    "dense relations are interpolated to another grid: their entries were learned for pairs of places, so train the "
    "model further"
)
# The fields of a model's config in which its parameters can go along.
_MAY_DIFFER = {
    "image_size",
    "num_frames",
    "num_classes",
    "windows",
    "shift_windows",
    "dropout",
    "drop_path",
    *COMPUTING,
    *FINDING,
}
# So many new parameters of a head are named.
_LISTED = 6
_TEMPORAL = re.compile(r"(stages\.\d+\.blocks\.\d+)\.temporal\.")


@dataclass(frozen=True)
class Transferred:
    """Weights for another model.

    Attributes:
      weights: NumPy arrays.
      resized: the parameters, by dotted name, that were interpolated to another grid.
      inflated: the kernels that are over time here, and were over single frames.
      new: those that start at their initial values.
      silent: whether a branch at its initial values adds nothing to its block.
      names_compared: whether the classes' names, and not only their number, decided about the head.
      source: which weights they come from, and why these.
      data: the `data` section of the config that they were trained with.
    """

    weights: Weights
    resized: Names
    inflated: Names
    new: Names
    silent: bool
    names_compared: bool
    source: str
    data: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """One line: how many parameters were taken, which were interpolated or inflated, and which are new."""
        total = len(_flat(self.weights.params))
        parts = [f"{total - len(self.new)} of {total} parameters taken"]
        if self.resized:
            parts.append(f"{len(self.resized)} of them ({_grouped(self.resized)}) interpolated")
        if self.interpolates_dense:
            parts.append(INTERPOLATES_DENSE)
        if self.inflated:
            parts.append(f"{_grouped(self.inflated)} inflated in time")
        others = [name for name in self.new if not _TEMPORAL.match(name)]
        of_head = [name for name in others if name.startswith("head.")]
        if len(of_head) > _LISTED:  # A detector's, of dozens.
            parts.append(f"new: {len(of_head)} in head")
        elif others:
            parts.append(f"new: {_grouped(others)}")
        temporal = [match[1] for match in map(_TEMPORAL.match, self.new) if match]
        if temporal:
            effect = "add nothing until they learn" if self.silent else "change the result from the start"
            parts.append(
                f"new: {len(temporal)} in the temporal branches of {len(set(temporal))} blocks, which {effect}"
            )
        if not others and not self.names_compared:
            parts.append("the head is kept: there are as many classes, and no names on both sides to compare")
        return "; ".join(parts)

    @property
    def interpolates_dense(self) -> bool:
        """Whether dense relations are among what was interpolated."""
        return any(name.endswith(("relation.weight", "relation.dense.weight")) for name in self.resized)


def transfer(
    pretrained: Pretrained,
    config: BackboneConfig,
    *,
    task: str | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Transferred:
    """Weights for `config` from a trained model.

    The head is new where the task is another, or the classes are, by number or by name; of a detector's then only what
    tells classes apart, but all of it where the trained model is none. All else must be the same architecture, but for
    image size, clip length and windows (`resizing`), a first kernel of single frames that is to be over time, and the
    temporal branches of a video model that starts from one with block 'spatial', the image form; those are new.

    Args:
      pretrained: the trained model.
      config: the model that the weights are for.
      task: what that is for; None: the same.
      class_names: its classes, if they have names.
      seed: of the initial values of what is new.

    Raises:
      CheckpointError: lists all fields that differ, or names the two families or kinds of block.
    """
    if config.is_detector and not pretrained.config.is_detector:
        return _with_new_head(transfer(pretrained, config.of_backbone), config, seed)
    gains_time = _gains_time(pretrained, config)
    _check_meaning(pretrained, config, gains_time)
    source, target = registry.abstract_model(pretrained.config), registry.abstract_model(config)
    resize = {_dotted(path): function for path, function in resizes(source, target)}
    inflate = {_dotted(path): function for path, function in inflates(source, target)}
    wanted = abstract_weights(config)
    named = pretrained.class_names is not None and class_names is not None
    same_classes = not (named and tuple(class_names) != tuple(pretrained.class_names))
    same_outputs = task in (None, pretrained.task) and same_classes
    new, resized, inflated = [], [], []

    arrays, params = _flat(pretrained.weights.params), {}
    for name, shape in _flat(wanted.params).items():
        array = arrays.get(name)
        of_classes = name.rsplit(".", 1)[0] in config.class_layers
        in_new_head = of_classes and (array is None or array.shape != shape.shape or not same_outputs)
        if in_new_head or (gains_time and _TEMPORAL.match(name)):
            new.append(name)
            continue
        for functions, names in ((resize, resized), (inflate, inflated)):
            if name in functions:
                array = functions[name](np.asarray(array))
                names.append(name)
        params[name] = np.asarray(array)
    params |= _initial(config, seed, new)
    weights = Weights(_like(wanted.params, params), jax.device_get(pretrained.weights.batch_stats))
    # A learned table starts at 0, and so then does the product that its gate gives.
    silent = config.relation == "lrpe" and config.gate == "multiply"
    changed = (tuple(names) for names in (resized, inflated, new))
    return Transferred(weights, *changed, silent, named, pretrained.choice, pretrained.data)


def _with_new_head(backbone: Transferred, config: BackboneConfig, seed: int) -> Transferred:
    """A backbone's weights with a detector's head."""
    wanted, taken = abstract_weights(config).params, _flat(backbone.weights.params)
    new = tuple(name for name in _flat(wanted) if name not in taken)
    weights = Weights(_like(wanted, taken | _initial(config, seed, new)), backbone.weights.batch_stats)
    return dataclasses.replace(backbone, weights=weights, new=(*backbone.new, *new))


def _check_meaning(pretrained: Pretrained, config: BackboneConfig, gains_time: bool) -> None:
    """Raises a CheckpointError where parameters of the same shapes would compute something else."""
    may_differ = _MAY_DIFFER | ({"block", "version"} if gains_time else set())
    if getattr(config, "stem", None) == "conv3d":  # Filled from single frames.
        may_differ |= {"stem"} if pretrained.config.stem == "conv2d" else set()
    differing = different_fields(pretrained.config, config, may_differ)
    if differing:
        raise CheckpointError(
            f"the model is of another architecture than the {pretrained.description}: {'; '.join(differing)}"
        )


def _gains_time(pretrained: Pretrained, config: BackboneConfig) -> bool:
    """Whether a video model starts from the same network without its temporal branches.

    Raises:
      CheckpointError: if the models are of different families, or the parts of their blocks are others.
    """
    if type(pretrained.config) is not type(config):
        raise CheckpointError(
            f"the {pretrained.description} are of a {pretrained.name}, another family than the model's: "
            f"{type(pretrained.config).__name__} there, {type(config).__name__} here"
        )
    if not isinstance(config, PosMLPVideoConfig):
        return False
    before, after = ({name for names in each.branches for name in names} for each in (pretrained.config, config))
    if (before, after) == ({"spatial"}, {"temporal", "spatial"}):
        return True
    if before != after:
        raise CheckpointError(
            f"a model with {_block_name(config)} cannot start from one with {_block_name(pretrained.config)}, the "
            f"{pretrained.description}: its parts are others. An image model's (block 'spatial') fill those of block "
            "'parallel' in version 'v1', 'temporal_spatial' and 'spatial_temporal'"
        )
    return False


def _block_name(config: PosMLPVideoConfig) -> str:
    return f"block '{config.block}'" + (f" in version '{config.version}'" if config.block == "parallel" else "")


def _initial(config: BackboneConfig, seed: int, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The initial values of some parameters; XLA leaves the computation of the others out."""
    names = set(names)
    if not names:
        return {}

    def create() -> dict[str, jax.Array]:
        return {name: x for name, x in _flat(create_weights(config, seed).params).items() if name in names}

    return jax.device_get(jax.jit(create)())


def _flat(tree: Arrays) -> dict[str, jax.Array]:
    """The leaves of nested dicts by dotted name."""
    return {parameter_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _like(tree: Arrays, arrays: dict[str, np.ndarray]) -> Arrays:
    return jax.tree_util.tree_map_with_path(lambda path, _: arrays[parameter_name(path)], tree)


def _grouped(names: Iterable[str]) -> str:
    """Names in words, those that differ in their numbers alone as one, as '4 stages.*.blocks.*.gate.bias'."""
    counts = Counter(re.sub(r"\.\d+\b", ".*", name) for name in names)
    alone = {re.sub(r"\.\d+\b", ".*", name): name for name in names}
    return ", ".join(alone[group] if count == 1 else f"{count} {group}" for group, count in counts.items())


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path))


def from_pretrained(
    path: epath.PathLike,
    *,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    step: str | int = "latest",
    weights: str = "best",
    seed: int = 0,
    **overrides,
) -> Backbone:
    """A trained model, as it is or changed, on this process's first device.

    Args:
      path: one of `list_pretrained()`; or a working directory, its `checkpoints/` or one checkpoint in it, as `main.py`
        or `posmlp_jax.convert` wrote it, on however many devices. Where a folder has the name of a model, it is meant.
      num_classes: another number of classes gives a new head, 0 none.
      image_size: pixels, an integer or (height, width). Learned positions and relations are interpolated where the
        grids of tokens change, as with another `num_frames`.
      step: 'latest', 'best' (by the config's `keep_best`) or a step.
      weights: 'raw', 'ema' or 'best', as for `open_pretrained`.
      seed: of a new head's initial values.
      **overrides: other fields of the model's config that do not change what its parameters mean: `windows`,
        `shift_windows`, `num_frames`, `dtype`, `dropout`, `drop_path`, `remat`, `kernel`, and of a detector those that
        say which of its detections are given, as `score_threshold`. An image model of the video family becomes one of
        clips with `num_frames=16, block='parallel'` (`transfer`).

    Raises:
      ConfigError: for a field or value that the model cannot have.
      CheckpointError: if there is no such checkpoint, or the changes make another architecture of it.
    """
    pretrained = open_pretrained(path, step=step, weights=weights)
    changes = {"num_classes": num_classes, "image_size": image_size}
    overrides |= {field: value for field, value in changes.items() if value is not None}
    config = pretrained.config.replace(**overrides)
    if config == pretrained.config:
        return pretrained.model()
    transferred = transfer(pretrained, config, seed=seed)
    if transferred.interpolates_dense:
        warnings.warn(INTERPOLATES_DENSE, stacklevel=2)
    return bind_model(config)(jax.device_put(transferred.weights, jax.local_devices()[0]))
