"""One mesh for every machine, from one CPU to many hosts, and how state and batches lie on it."""

from collections import deque
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from posmlp_jax.errors import ConfigError


def create_mesh(devices: int = 0) -> Mesh:
    """A mesh with one axis, `data`, over the first `devices` devices (0: all, on all hosts).

    Raises:
      ConfigError: if the machine has fewer.
    """
    available = jax.devices()
    if devices > len(available):
        raise ConfigError(f"devices is {devices}, but JAX sees only {len(available)} ({available[0].platform})")
    chosen = np.array(available[: devices or None])
    # Auto axes: with JAX's newer default, explicit types, cutting a sharded map into windows is an error.
    return Mesh(chosen, ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same values on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(name: str, batch_size: int, mesh: Mesh) -> None:
    """Raises a ConfigError unless every device gets the same whole number of examples."""
    if batch_size % mesh.size:
        raise ConfigError(
            f"{name} {batch_size} cannot be shared equally by {mesh.size} devices; "
            f"{max(batch_size // mesh.size, 1) * mesh.size} could"
        )


def to_devices(batches: Iterable[dict[str, np.ndarray]], mesh: Mesh, ahead: int = 2) -> Iterator[dict[str, jax.Array]]:
    """Puts host batches on the devices, `ahead` of their use, so that copying overlaps with computing.

    Args:
      batches: this host's share of each batch, `[B / hosts, …]` arrays.
      mesh: what to spread them over.
      ahead: batches on the devices at a time, the one in use included.
    """
    sharding = batch_sharding(mesh)
    queue = deque()
    for batch in batches:
        queue.append(
            {name: jax.make_array_from_process_local_data(sharding, x) for name, x in batch.items() if name != "index"}
        )
        if len(queue) >= ahead:
            yield queue.popleft()
    yield from queue
