"""What importing the package brings along, and that it leaves the process of whoever imports it as it was."""

import json
import logging
import os
import platform
import signal
import subprocess
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from runs import save_model

from posmlp_jax import create_model
from posmlp_jax.command_line import quieten_libraries

ROOT = Path(__file__).parent.parent
# The libraries first: what they change when they are imported is not ours.
IMPORTS = """
import importlib.util, logging, os, pkgutil, signal, sys, warnings
import array_record.python.array_record_data_source, av, cv2, flax.nnx, grain, jax, matplotlib.pyplot, ml_collections
import optax, orbax.checkpoint, PIL.Image, requests, safetensors.numpy, simplejpeg, tensorboardX
import tensorflow_datasets as tfds
from absl import flags
from absl import logging as absl_logging
from posmlp_jax import errors
tfds.core, tfds.features, tfds.decode
if importlib.util.find_spec("torch"):
    import torch

def state():
    return {
        "cv2's threads": cv2.getNumThreads(),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook, sys.breakpointhook),
        "jax": dict(jax.config.values),
        "absl": (absl_logging.get_verbosity(), flags.FLAGS.is_parsed()),
        "logging": (logging.root.level, list(logging.root.handlers), logging.root.disabled),
        "folder": os.getcwd(),
        "recursion": sys.getrecursionlimit(),
    }

before = state()
import posmlp_jax
names = [module.name for module in pkgutil.walk_packages(posmlp_jax.__path__, "posmlp_jax.")]
assert len(names) > 90, names
for name in names:
    importlib.import_module(name)
    for what, value in state().items():
        assert value == before[what], (name, what, before[what], value)
# Shapes in signatures are only checked by tests: no one else pays for it.
assert "beartype" not in sys.modules
"""
# The first argument are modules that there should not be.
MISSING = """
import json, sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    names = set(json.loads(sys.argv[1]))
    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ModuleNotFoundError(f"no module named {name}", name=name)

sys.meta_path.insert(0, Missing())
"""
# All that a model takes which is made or loaded, the latter from the folder that the next argument is.
LIGHT = """
import posmlp_jax
assert posmlp_jax.list_pretrained()
assert "jax" not in sys.modules
from posmlp_jax import create_model
assert "orbax" not in sys.modules
from posmlp_jax import from_pretrained
for model in (create_model("posmlp_t", **json.loads(sys.argv[3])), from_pretrained(sys.argv[2])):
    assert model.head.kernel.shape == (16, 5)
print(json.dumps(sorted(sys.modules)))
"""
# All that a training step takes.
STEP = """
import jax
from benchmarks import accelerator, accelerator_ours  # Which have it measured, and take no more.
from benchmarks.programs import train_step
from posmlp_jax.devices.mesh import create_mesh
from posmlp_jax.models import model_config
traced = train_step(model_config("posmlp_t", **json.loads(sys.argv[2])), 2, 1, create_mesh(devices=1))
assert traced.out_info[1]["loss"].shape == ()
assert "orbax" not in sys.modules
"""
TINY = {"image_size": 16, "widths": (8, 16), "depths": (1, 1), "expansions": (2, 2), "windows": (4, 2)}
TINY |= {"groups": (2, 4), "num_classes": 5}


def brought_by(*names: str) -> set[str]:
    """These distributions and all that they require, as their metadata say."""
    found, left = set(), [Requirement(name) for name in names]
    while left:
        wanted = left.pop()
        for extra in {"", *wanted.extras}:
            if (key := (canonicalize_name(wanted.name), extra)) not in found:
                found.add(key)
                required = map(Requirement, metadata.requires(wanted.name) or ())
                left += [one for one in required if one.marker is None or one.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def modules_without(*names: str) -> list[str]:
    """The installed modules that these distributions neither are nor require."""
    enough = brought_by(*names)
    installed = {
        module: {canonicalize_name(name) for name in distributions}
        for module, distributions in metadata.packages_distributions().items()
    }
    others = [module for module, distributions in installed.items() if not distributions & enough]
    assert {"cv2", "av", "grain", "tensorflow_datasets", "tensorboardX", "ml_collections", "PIL", "tqdm"} < {*others}
    return others


def test_a_training_step_takes_few_libraries():
    """What reads data, configs and checkpoints is not among them."""
    done = python(
        MISSING + STEP, json.dumps(modules_without("jax", "flax", "optax", "einops", "jaxtyping")), json.dumps(TINY)
    )
    assert done.returncode == 0, done.stderr


def test_a_model_takes_few_libraries(tmp_path):
    """JAX, Flax, einops, Orbax and jaxtyping, with what these bring, are enough to make a model, and to load one."""
    save_model(tmp_path, "posmlp_t", create_model("posmlp_t", **TINY))
    others = modules_without("jax", "flax", "einops", "orbax-checkpoint", "jaxtyping")
    done = python(MISSING + LIGHT, json.dumps(others), str(tmp_path), json.dumps(TINY))
    assert done.returncode == 0, done.stderr
    imported = json.loads(done.stdout)
    assert {name.split(".")[1] for name in imported if name.startswith("posmlp_jax.")} == {
        *("lazy", "errors", "paths", "writing", "terminal"),
        *("gpus", "normalization", "relations", "gating", "windows", "layers"),
        *("downsampling", "fused_branch", "blocks", "detection"),
        *("models", "devices", "checkpoints"),
    }


def python(script: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_importing_changes_nothing():
    # With another number than cv2 would be set to, whatever the machine has.
    script = f"import cv2; cv2.setNumThreads(3)\n{IMPORTS}"
    done = python(script)
    assert done.returncode == 0, done.stderr


# As a user who has a change of mind while NumPy, which each program imports at some time, is imported.
STOPPED = """
import os, runpy, signal, sys, time
from importlib.abc import MetaPathFinder

class Stop(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

sys.meta_path.insert(0, Stop())
runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
"""


PROGRAMS = (
    "analysis.complexity",
    "analysis.curves",
    "analysis.report",
    "convert",
    "export",
    "predict",
    "preview",
    "zoo",
)


@pytest.mark.parametrize("program", ["main", *(f"posmlp_jax.{name}" for name in PROGRAMS)])
def test_ctrl_c_while_a_program_is_imported(program):
    done = python(STOPPED, program)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


# Page faults of a step whose temporaries have more bytes than glibc ever keeps by itself: the fewest of three, as on a
# machine that is busy one step's may still be there when the next one's are taken, and the heap then grows once more.
FAULTS = """
import resource, sys
if sys.argv[1] == "program":
    from posmlp_jax.command_line import begin_program
    begin_program()
import jax, jax.numpy as jnp

step = jax.jit(lambda x: jnp.sum(jnp.sin(x @ x.T) @ x))
x = jnp.ones((4096, 16))
for _ in range(10):  # Until the heap has its size.
    step(x).block_until_ready()
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_a_program_takes_its_memory_from_the_kernel_once(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    library, program = (int(python(FAULTS, who).stdout) for who in ("library", "program"))
    assert library > 0.9 * 4096**2 * 4 / 4096
    assert program < library / 10
    # Whoever has set the allocator up is left alone.
    monkeypatch.setenv("MALLOC_PERTURB_", "0")
    assert int(python(FAULTS, "program").stdout) > library / 2


def test_ctrl_c_that_a_callback_swallows_comes_again(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)

    class Swallowing:
        def __del__(self):
            raise KeyboardInterrupt

    def swallow() -> None:
        Swallowing()
        time.sleep(1)

    with warnings.catch_warnings():
        quieten_libraries()
        with pytest.raises(KeyboardInterrupt):
            swallow()


def test_programs_leave_out_tracebacks_that_gcsfs_logs(monkeypatch, caplog):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    gcsfs = logging.getLogger("gcsfs")
    monkeypatch.setattr(gcsfs, "level", gcsfs.level)
    with warnings.catch_warnings():
        quieten_libraries()
    gcsfs.error("out of retries", exc_info=OSError("no network"))
    assert caplog.messages == []


def test_programs_leave_out_what_pillow_remarks(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        quieten_libraries()
        for module in ("PIL.TiffImagePlugin", "another"):
            warnings.warn_explicit("odd", UserWarning, "file.py", 1, module=module)
    assert [one.filename for one in shown] == ["file.py"]
