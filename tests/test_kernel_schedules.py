"""`benchmarks.kernel_schedules`: cycles counted by hand, which branches have the kernel, and what cannot be asked."""

import subprocess
import sys

import pytest
from runs import ROOT

from benchmarks import kernel_schedules
from benchmarks.chips import CHIPS, has_compiler
from benchmarks.kernel_schedules import branches, scheduled_bundles
from posmlp_jax.errors import ConfigError
from posmlp_jax.models.registry import abstract_model, model_config

# As the compiler writes a schedule: before the loop, three cycles inside it, and after it.
SCHEDULE = """
// kernel: block
     0x0   :  { %s1 = smov 0  }
LB: > { loop header }
   0x1 LB: > { %v1 = vld [vmem:$0x1] }
   0x2   : > { %v2 = vadd.f32 %v1, 1.0  ;;  %v3 = vld [vmem:$0x2] }
   0x3 LE: > { %p = sbr.rel @p0 $0x1 }
   0x4   :  { halt }
"""


def test_cycles_of_a_window():
    assert scheduled_bundles(SCHEDULE) == 3


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("posmlp_t", {}, [("stage 1", 2, 16), ("stage 2", 2, 4), ("stage 3", 18, 1), ("stage 4", 2, 1)]),
        # All are padded, or those of every second block shifted, where there is more than one.
        ("posmlp_t", {"image_size": 384}, []),
        (
            "posmlp_t",
            {"shift_windows": True},
            [("stage 1", 1, 16), ("stage 2", 1, 4), ("stage 3", 18, 1), ("stage 4", 2, 1)],
        ),
        ("posmlp_video_s", {}, [("stage 1", 3, 256), ("stage 2", 4, 64), ("stage 3", 9, 16), ("stage 4", 3, 16)]),
        ("gmlp_s", {}, []),
    ],
)
def test_branches_that_have_the_kernel(name, overrides, expected):
    found = branches(abstract_model(model_config(name, **overrides)))
    assert [(stage, count, windows) for stage, _, count, windows in found] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=posmlp_q"], "unknown model 'posmlp_q'"),
        (["--platform=tpu-v5"], "unknown platform 'tpu-v5'"),
        (["--model=gmlp_s"], "no block of gmlp_s is one for the kernel"),
        (
            ["--platform=cuda-h100"],
            "the kernel is for TPUs; --platform=cuda-h100 should be one of tpu-v5e, tpu-v5p, tpu-v6e",
        ),
    ],
)
def test_mistakes(arguments, message, monkeypatch):
    monkeypatch.setattr("benchmarks.chips.has_compiler", lambda chip: True)
    with pytest.raises(ConfigError, match=message):
        kernel_schedules.main(arguments)


@pytest.mark.slow
def test_figures_of_the_documentation():
    """Of docs/performance.md."""
    if not has_compiler(CHIPS["tpu-v5e"]):
        pytest.skip("make compilers installs it")
    command = [sys.executable, "-m", "benchmarks.kernel_schedules"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    forward, gradient = map(float, text.splitlines()[-1].split()[2:])
    assert forward < 115
    assert gradient < 350
