"""Whether a run fits into memory: found before its first step where it can be, and else said in one line."""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.sharding import Mesh

from posmlp_jax.errors import ConfigError

# Where Linux says what a container or a job may take at most.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_SMALLER = "a smaller batch_size or model.image_size, or accumulate, takes less"


def host_memory() -> int:
    """How much memory the machine has, in bytes, or this process may have of it."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in map(Path, _LIMITS):
        with contextlib.suppress(OSError, ValueError):
            memory = min(memory, int(file.read_text()))
    return memory


def device_memory(mesh: Mesh) -> float:
    """The memory of each device in bytes; CPU devices share the machine's. Infinite where it is not known."""
    device, *_ = mesh.local_devices
    if device.platform == "cpu":
        return host_memory() / len(mesh.local_devices)
    return (device.memory_stats() or {}).get("bytes_limit", math.inf)


def program_memory(compiled: jax.stages.Compiled) -> int:
    """What a compiled program needs on each of its devices, in bytes."""
    usage = compiled.memory_analysis()
    needed = usage.argument_size_in_bytes + usage.output_size_in_bytes + usage.temp_size_in_bytes
    return needed - usage.alias_size_in_bytes  # Donated arguments that results take the place of.


def check_step_memory(needed: int, mesh: Mesh) -> None:
    """Raises a ConfigError if a step needs more bytes on each device than there are."""
    there = device_memory(mesh)
    if needed > there:
        raise ConfigError(
            f"a training step needs {_gib(needed)} of memory on each device, which has {_gib(there)}; {_SMALLER}"
        )


def check_batch_memory(field: str, batch_size: int, input_size: tuple[int, ...], threads: int) -> None:
    """Raises a ConfigError if the batches that are made ahead do not fit into this machine's memory.

    Args:
      field: what sets the batch size.
      batch_size: this host's examples a step.
      input_size: of an image or a clip.
      threads: that make a batch each; one more is under way and two on the devices.
    """
    needed = (threads + 3) * batch_size * math.prod(input_size) * 3
    if needed > host_memory():
        raise ConfigError(
            f"{threads + 3} batches of {batch_size} × {'×'.join(map(str, input_size))} pixels ({field}, data.threads) "
            f"need {_gib(needed)} of memory, and this machine has {_gib(host_memory())}; {_SMALLER}"
        )


@contextlib.contextmanager
def out_of_memory() -> Iterator[None]:
    """Turns what is raised inside when memory does not suffice into a ConfigError."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"there is not enough memory ({reason}); {_SMALLER}") from error


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"
