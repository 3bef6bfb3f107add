"""How a published parameter and ours are the same numbers: one table, read in both directions."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from flax import nnx

from posmlp_jax.errors import CheckpointError

# How the names end of what published checkpoints store beside what they learned: index tables, and a counter.
_BUFFERS = (".rel_indices", ".window_relative_position_index", ".num_batches_tracked")


@dataclass(frozen=True)
class Layout:
    """A rearrangement of an array's numbers that loses none of them.

    Attributes:
      ours: from a published array to ours.
      published: its inverse.
    """

    ours: Callable[[np.ndarray], np.ndarray]
    published: Callable[[np.ndarray], np.ndarray]

    def then(self, other: "Layout") -> "Layout":
        """The rearrangement that does this one to a published array, then the other."""
        return Layout(lambda x: other.ours(self.ours(x)), lambda x: self.published(other.published(x)))


SAME = Layout(lambda x: x, lambda x: x)


def transposed(*axes: int) -> Layout:
    """Axis i of ours is axis `axes[i]` of the published array."""
    return Layout(lambda x: x.transpose(axes), lambda x: x.transpose(np.argsort(axes)))


def reordered(order: np.ndarray, axis: int = -1) -> Layout:
    """Place i of ours along an axis is place `order[i]` of the published array."""
    inverse = np.argsort(order)
    return Layout(lambda x: np.take(x, order, axis), lambda x: np.take(x, inverse, axis))


def reshaped(published: tuple[int, ...], ours: tuple[int, ...]) -> Layout:
    """The same numbers in the same order, with other axes."""
    return Layout(lambda x: x.reshape(ours), lambda x: x.reshape(published))


@dataclass(frozen=True)
class Row:
    """Published parameters, and the variables of ours that hold the same.

    Attributes:
      shapes: by published name.
      variables: what they fill; none for parameters that the published code keeps without using them.
      ours: the published arrays, in the order of `shapes`, as the variables' values. Raises CheckpointError where ours
        cannot hold them.
      published: the variables' values as the published arrays. Raises CheckpointError where those cannot hold them.
    """

    shapes: Mapping[str, tuple[int, ...]]
    variables: tuple[nnx.Variable, ...]
    ours: Callable[..., tuple[np.ndarray, ...]]
    published: Callable[..., tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class Buffer:
    """What the published code stores without learning it: passed over when read, written for its strict loading.

    Attributes:
      name: the published one.
      value: in the published type.
    """

    name: str
    value: np.ndarray


def row(name: str, variable: nnx.Variable, layout: Layout = SAME) -> Row:
    """One published parameter that is one of ours, its numbers rearranged."""
    shape = layout.published(np.empty(variable.shape, bool)).shape
    return Row({name: shape}, (variable,), lambda x: (layout.ours(x),), lambda x: (layout.published(x),))


def unused(name: str, shape: tuple[int, ...]) -> Row:
    """A published parameter that its model does not use: anything in, zeros out."""
    return Row({name: shape}, (), lambda x: (), lambda: (np.zeros(shape, np.float32),))


def fill(rows: Iterable[Row | Buffer], state_dict: Mapping[str, object]) -> None:
    """Sets every variable of the table from published arrays, or none. Buffers may be there, or not, and say anything.

    Raises:
      CheckpointError: lists all parameters that are missing, left over, or of another shape.
    """
    arrays = {name: value for name, value in without_prefix(state_dict).items() if not _is_buffer(name, value)}
    rows = [one for one in rows if isinstance(one, Row)]
    wanted = {name: tuple(shape) for one in rows for name, shape in one.shapes.items()}
    wrong = [
        f"'{name}' is {tuple(arrays[name].shape)} and should be {shape}"
        for name, shape in wanted.items()
        if name in arrays and tuple(arrays[name].shape) != shape
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names)}"
        for what, names in (
            ("missing", [name for name in wanted if name not in arrays]),
            ("that the model has no place for", sorted(set(arrays) - set(wanted))),
            ("of another shape", wrong),
        )
        if names
    ]
    if problems:
        raise CheckpointError(f"the published parameters are not those of this model; {'; '.join(problems)}")
    infinite = [name for name in wanted if not np.isfinite(as_float32(arrays[name])).all()]
    if infinite:
        raise CheckpointError(f"published parameters are infinite or not numbers: {', '.join(infinite)}")
    values = [one.ours(*(as_float32(arrays[name]) for name in one.shapes)) for one in rows]
    for one, results in zip(rows, values, strict=True):
        for variable, value in zip(one.variables, results, strict=True):
            variable.set_value(jnp.asarray(value))


def _is_buffer(name: str, array) -> bool:
    """Whether it is an index table or a counter: by the end of its name, and because its numbers are whole.

    GQPE's tables are stored as float32, and timm's moving average averages them too: its rounding takes such numbers up
    to half of float32's precision over (1 − decay) away, 4e-4 of them at 0.99992.
    """
    if not name.endswith(_BUFFERS):
        return False
    values = as_float32(array)
    return bool(np.all(np.abs(values - np.round(values)) <= 1e-3 * np.abs(values)))


def publish(rows: Iterable[Row | Buffer]) -> dict[str, np.ndarray]:
    """The variables' values under the published names, float32, and the published buffers.

    Raises:
      CheckpointError: if the published code cannot hold them.
    """
    state_dict = {}
    for one in rows:
        if isinstance(one, Buffer):
            state_dict[one.name] = one.value.copy()
            continue
        arrays = one.published(*(np.asarray(variable[...], np.float32) for variable in one.variables))
        state_dict |= {name: np.ascontiguousarray(x) for name, x in zip(one.shapes, arrays, strict=True)}
    return state_dict


def as_float32(array) -> np.ndarray:
    """A NumPy array of any floating type, or a PyTorch tensor on any device, as float32."""
    if hasattr(array, "detach"):
        array = array.detach().cpu().float().numpy()
    return np.asarray(array).astype(np.float32)


def is_numbers(value) -> bool:
    """Whether a value is a dense NumPy array or PyTorch tensor of real numbers."""
    if hasattr(value, "detach"):
        return str(value.layout) == "torch.strided" and not value.is_complex() and not value.is_quantized
    return isinstance(value, np.ndarray) and (value.dtype.kind in "fiub" or value.dtype.name == "bfloat16")


def without_prefix(state_dict: Mapping[str, object]) -> dict[str, object]:
    """Without what PyTorch puts before every name of a model that was compiled, or trained on several devices."""
    state_dict = dict(state_dict)
    for prefix in ("_orig_mod.", "module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in state_dict):
            state_dict = {name.removeprefix(prefix): value for name, value in state_dict.items()}
    return state_dict
