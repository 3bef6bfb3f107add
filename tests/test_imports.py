"""Importing the package leaves the process of whoever imports it as it was."""

import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

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


def test_importing_changes_nothing():
    # With another number than cv2 would be set to, whatever the machine has.
    script = f"import cv2; cv2.setNumThreads(3)\n{IMPORTS}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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


def test_programs_leave_out_what_pillow_remarks(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        quieten_libraries()
        for module in ("PIL.TiffImagePlugin", "another"):
            warnings.warn_explicit("odd", UserWarning, "file.py", 1, module=module)
    assert [one.filename for one in shown] == ["file.py"]
