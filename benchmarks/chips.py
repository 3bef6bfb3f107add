"""Accelerators that need not be there: their compilers run on any machine, and their data sheets are known."""

import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
from jax.experimental import topologies

from posmlp_jax.devices.memory import program_memory
from posmlp_jax.errors import ConfigError, nearest

GIB = 2**30
# Where `make compilers` puts them.
COMPILERS = Path(__file__).parent.parent / ".compilers"
_INSTALL = "`pip install --no-deps --target=.compilers -r requirements-compilers.txt`, or `make compilers`, installs it"


@dataclass(frozen=True)
class Chip:
    """What a data sheet says of a chip, and what its compiler is called by.

    Attributes:
      platform: JAX's.
      topology: the name of the smallest topology that the compiler takes, or '' of one that `target` describes.
      memory: bytes.
      bandwidth: of its memory, bytes a second.
      flops: dense bfloat16 operations a second.
      clock: cycles a second, by which the compiler's estimates become times; 0 where it makes none.
      target: a file beside this one, for compilers that are told of their device.
      kinds: what JAX calls such a device where there is one (`jax.Device.device_kind`).
    """

    platform: str
    topology: str
    memory: float
    bandwidth: float
    flops: float
    clock: float = 0.0
    target: str = ""
    kinds: tuple[str, ...] = ()


CHIPS = {
    "tpu-v5e": Chip("tpu", "v5e:2x4", 16 * GIB, 819e9, 197e12, 1.5e9, kinds=("TPU v5 lite", "TPU v5e")),
    "tpu-v5p": Chip("tpu", "v5p:2x2x2", 95 * GIB, 2765e9, 459e12, 1.75e9, kinds=("TPU v5", "TPU v5p")),
    "tpu-v6e": Chip("tpu", "v6e:2x4", 32 * GIB, 1640e9, 918e12, 1.75e9, kinds=("TPU v6 lite", "TPU v6e")),
    "cuda-h100": Chip("cuda", "", 84.9e9, 3.35e12, 990e12, target="h100.txt", kinds=("NVIDIA H100 80GB HBM3",)),
    "cuda-h200": Chip("cuda", "", 150.1e9, 4.8e12, 990e12, target="h200.txt", kinds=("NVIDIA H200",)),
}
_PACKAGES = {"tpu": "libtpu", "cuda": "jax_cuda13_plugin"}
# Without these libtpu asks the machine that it is on which TPU that has.
_TPU_VARIABLES = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def find_chip(name: str) -> Chip:
    """The chip of a name.

    Raises:
      ConfigError: for an unknown one (names the nearest), or one whose compiler is not installed.
    """
    if name not in CHIPS:
        raise ConfigError(f"unknown platform '{name}'; {nearest(name, CHIPS)}")
    chip = CHIPS[name]
    if not has_compiler(chip):
        raise ConfigError(f"the compiler for {name}, {_PACKAGES[chip.platform]}, is not installed: {_INSTALL}")
    return chip


def has_compiler(chip: Chip) -> bool:
    """Whether the compiler for a chip is installed: in this environment or in `COMPILERS`, which becomes part of it."""
    if str(COMPILERS) not in sys.path:
        sys.path.append(str(COMPILERS))
    return importlib.util.find_spec(_PACKAGES[chip.platform]) is not None


def dump_schedules(folder: str) -> None:
    """Has the TPU's compiler write down what it schedules; only before the first of `chip_devices`."""
    os.environ["LIBTPU_INIT_ARGS"] = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"


def chip_devices(chip: Chip, count: int, topology: str = "") -> list[jax.Device]:
    """Devices to compile for, of which there are none here.

    Args:
      chip: of which kind.
      count: how many.
      topology: another than the chip's own, as `v5e:4x4`.

    Raises:
      ConfigError: for a topology that the compiler does not know, or one of fewer devices.
    """
    if chip.platform == "tpu":
        for name, value in _TPU_VARIABLES.items():
            os.environ.setdefault(name, value)
    topology = topology or chip.topology or f"1x1x{count}"
    options = {"topology_name": topology}
    if chip.target:
        target = (Path(__file__).parent / "targets" / chip.target).read_text()
        options = {"topology": topology, "target_config": target}
    try:
        found = topologies.get_topology_desc(platform=chip.platform, **options).devices
    except (RuntimeError, ValueError, NotImplementedError, AssertionError) as error:
        reason = " ".join(str(error).split())[:150]
        raise ConfigError(f"the compiler knows no topology '{topology}': {reason}") from error
    if count > len(found):
        raise ConfigError(f"topology '{topology}' has {len(found)} devices, not {count}; give a larger --topology")
    return found[:count]


def compile_for(chip: Chip, traced: jax.stages.Traced, remedies: str) -> jax.stages.Compiled:
    """Compiles a program whose mesh is of such chips.

    Args:
      chip: what they are.
      traced: the program.
      remedies: what would make it need less, besides a smaller batch; '' if nothing would.

    Raises:
      ConfigError: if it does not fit into a chip's memory (says by how much).
    """
    remedies = f"; {remedies} or a smaller --batch takes less" if remedies else "; a smaller --batch takes less"
    try:
        compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        # The TPU's compiler refuses: "… Used 20.31G of 15.75G hbm. Exceeded hbm capacity by 4.56G. …".
        sizes = re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm. Exceeded hbm capacity by ([\d.]+\w)", str(error))
        if not sizes:
            raise
        raise ConfigError(f"needs {sizes[1]} of a chip's {sizes[2]}, {sizes[3]} too much{remedies}") from error
    if (excess := program_memory(compiled) - chip.memory) > 0:
        raise ConfigError(
            f"needs {program_memory(compiled) / GIB:.1f} GiB of a chip's {chip.memory / GIB:.0f}, "
            f"{excess / GIB:.1f} GiB too much{remedies}"
        )
    return compiled
