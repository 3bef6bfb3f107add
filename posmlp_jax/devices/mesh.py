"""One mesh for every machine, from one CPU to many hosts, and how state and batches lie on it."""

import math
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from posmlp_jax.errors import ConfigError

AXES = ("data", "fsdp")
# Arrays of fewer elements are kept whole: sharing them saves no memory worth a message.
MIN_SHARDED = 2**14


def create_mesh(devices: int = 0, fsdp: int = 1) -> Mesh:
    """A mesh with the axes `data` and `fsdp` over the first `devices` devices (0: all, on all hosts).

    Batches are split over both axes, parameters and what goes with them over `fsdp`.

    Raises:
      ConfigError: if the machine has fewer, `fsdp` does not divide them, or JAX cannot lay such a mesh on a TPU.
    """
    available = jax.devices()
    if devices > len(available):
        raise ConfigError(f"devices is {devices}, but JAX sees only {len(available)} ({available[0].platform})")
    chosen = available[: devices or None]
    if jax.process_count() > 1 and len(chosen) < len(available):
        raise ConfigError(f"devices is {devices}, and on several hosts should be 0 (all {len(available)})")
    return mesh_of(chosen, fsdp)


def mesh_of(devices: Sequence[jax.Device], fsdp: int = 1) -> Mesh:
    """`create_mesh` over devices that are given, be they here or described to a compiler.

    Raises:
      ConfigError: if `fsdp` does not divide them, or JAX cannot lay such a mesh on a TPU.
    """
    if len(devices) % fsdp:
        fitting = [n for n in range(1, len(devices) + 1) if len(devices) % n == 0]
        raise ConfigError(f"fsdp {fsdp} does not divide the {len(devices)} devices; {fitting} would")
    shape = (len(devices) // fsdp, fsdp)
    try:
        # Auto axes: with JAX's newer default, explicit types, cutting a sharded map into windows is an error.
        return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)
    except (AssertionError, NotImplementedError, ValueError) as error:
        # On a TPU neighbours on the mesh are to be neighbours on the torus, and not every shape is a part of it.
        raise ConfigError(
            f"JAX finds no way to lay {shape[0]} × {shape[1]} devices (data × fsdp) on this {devices[0].device_kind}; "
            "other numbers for devices and fsdp may do"
        ) from error


def replicated(mesh: Mesh) -> NamedSharding:
    """The same values on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def state_spec(shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
    """How an array of the state lies on a mesh with `fsdp` devices along that axis.

    Its largest axis that `fsdp` divides is split; arrays of fewer than `MIN_SHARDED` elements, or without such an axis,
    are on every device. The shape alone decides, so parameters, their moving average and the optimizer's moments agree.
    """
    divisible = [axis for axis, size in enumerate(shape) if size % fsdp == 0]
    if fsdp == 1 or math.prod(shape) < MIN_SHARDED or not divisible:
        return PartitionSpec()
    split = max(divisible, key=lambda axis: shape[axis])
    return PartitionSpec(*[None] * split, "fsdp")


def place(shapes: Any, mesh: Mesh) -> Any:
    """A tree of shapes (`jax.eval_shape`'s) with each one's sharding: what a checkpoint is restored to."""

    def placed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(mesh, state_spec(leaf.shape, mesh.shape["fsdp"]))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(placed, shapes)


def of_whole(function: Callable[[Any], Any], mesh: Mesh) -> Callable[[Any], Any]:
    """`function` of a tree of arrays that `place` may have split, each put together on every device first.

    Left to itself, XLA exchanges what it needs all with all where a computation cuts an array that is split.
    """
    return lambda tree: function(jax.lax.with_sharding_constraint(tree, replicated(mesh)))


def on_mesh(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`function`, traced with its mesh known, as kernels of ours have to be told how a batch is split."""

    def traced(*args):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    return traced


def shardings(tree: Any) -> Any:
    """The shardings of a tree of arrays or shapes."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def check_batch_size(name: str, batch_size: int, mesh: Mesh) -> None:
    """Raises a ConfigError unless every device gets the same whole number of examples."""
    if batch_size % mesh.size:
        raise ConfigError(
            f"{name} {batch_size} cannot be shared equally by {mesh.size} devices; "
            f"{max(batch_size // mesh.size, 1) * mesh.size} could"
        )


def join_hosts(local: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """The array of which each host has its share, on the devices."""
    # A copy that is meant; where there are several hosts, JAX's guard on transfers does not take it for one.
    with jax.transfer_guard("allow"):
        return jax.make_array_from_process_local_data(sharding, local)


def to_devices(
    batches: Iterable[dict[str, np.ndarray]], mesh: Mesh, ahead: int = 2, *, leave: Container[str] = ("index",)
) -> Iterator[dict[str, jax.Array]]:
    """Puts host batches on the devices, `ahead` of their use, so that copying overlaps with computing.

    Args:
      batches: this host's share of each batch, `[B / hosts, …]` arrays.
      mesh: what to spread them over.
      ahead: batches on the devices at a time, the one in use included.
      leave: names of arrays that no step needs.
    """
    sharding = batch_sharding(mesh)
    queue = deque()
    for batch in batches:
        queue.append({name: join_hosts(x, sharding) for name, x in batch.items() if name not in leave})
        if len(queue) >= ahead:
            yield queue.popleft()
    yield from queue
