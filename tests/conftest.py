"""Set-up that has to happen before anything imports jax."""

import itertools
import os
import signal
import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

CACHE = Path(__file__).parent.parent / ".cache" / "jax"


def _wants_gpu() -> bool:
    """Whether the command line has `-m gpu`."""
    chosen = [value for option, value in itertools.pairwise(sys.argv) if option == "-m"]
    return any("gpu" in value and "not gpu" not in value for value in chosen)


# A suite that a shell started in the background ignores Ctrl-C, and so would the programs that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Workers of pytest-xdist inherit what the main process, whose command line this is, has set.
if not _wants_gpu():
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in flags:
    # Eight devices on one CPU: what is sharded is tested as on a machine with eight accelerators.
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8".strip()
# Most of the tests' time is XLA's. Compiled functions are kept between runs, and shared by parallel workers; `rm -r
# .cache` is always safe. JAX's own threshold of one second would leave out nearly everything here.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "0")

# The shapes and types that these modules' signatures give are checked in every call while tests run, also in workers of
# pytest-xdist; `test_signatures.py` sees to it that none is missing. The programs that tests start run unchecked.
CHECKED = [
    "posmlp_jax.gating",
    "posmlp_jax.layers",
    "posmlp_jax.models.backbone",
    "posmlp_jax.models.posmlp_video",
    "posmlp_jax.models.stages",
    "posmlp_jax.relations",
    "posmlp_jax.resizing",
    "posmlp_jax.training.losses",
    "posmlp_jax.training.mixing",
    "posmlp_jax.training.step",
    "posmlp_jax.windows",
]
install_import_hook(CHECKED, "beartype.beartype")


@pytest.fixture(scope="session")
def bucket():
    """A bucket that every library finds, as an `epath.Path`; each test should use a folder of its own in it."""
    import buckets

    from posmlp_jax.paths import as_path

    with buckets.serve() as address:
        yield as_path(address)
