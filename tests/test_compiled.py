"""`benchmarks.compiled`: what compiled programs need, counted by hand, and what cannot be compiled."""

import dataclasses
import re
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from helpers import small
from runs import ROOT
from tiny_detectors import fields

from benchmarks import chips, compiled, programs
from benchmarks.chips import CHIPS, Chip, compile_for, find_chip, has_compiler
from benchmarks.program_text import operations
from benchmarks.programs import forward, train_step
from posmlp_jax.devices import mesh
from posmlp_jax.devices.memory import program_memory
from posmlp_jax.errors import ConfigError
from posmlp_jax.models.cost import count_macs, model_cost
from posmlp_jax.models.registry import model_config
from posmlp_jax.tasks.detection.mask_rcnn_loss import Samples
from posmlp_jax.training import default_config

HERE = Chip("cpu", "", memory=2.0**30, bandwidth=1e9, flops=1e10)

# As compilers write programs, with what this package and others were called by.
TPU = """HloModule jit_f, is_scheduled=true

FileNames
1 "/usr/lib/python/jax/api.py"
2 "/home/me/posmlp_jax/gating.py"

FunctionNames
1 "call"
2 "Unit.mix"

FileLocations
1 {file_name_id=1 function_name_id=1 line=7 end_line=7 column=1 end_column=9}
2 {file_name_id=2 function_name_id=2 line=32 end_line=32 column=1 end_column=9}

StackFrames
1 {file_location_id=2 parent_frame_id=1}
2 {file_location_id=1 parent_frame_id=2}

%body (p: (s32[], bf16[4,100])) -> (s32[], bf16[4,100]) {
  %p = (s32[]{:T(128)}, bf16[4,100]{1,0:T(8,128)(2,1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %x = bf16[4,100]{1,0:T(8,128)(2,1)} get-tuple-element(%p), index=1
  %y = bf16[4,100]{1,0:T(8,128)(2,1)} negate(%x), metadata={stack_frame_id=2}, backend_config={"estimated_cycles":"10"}
  ROOT %r = (s32[]{:T(128)}, bf16[4,100]{1,0:T(8,128)(2,1)}) tuple(%i, %y)
}

ENTRY %main (a: bf16[4,100], b: f32[3]) -> bf16[4,100] {
  %a = bf16[4,100]{1,0:T(8,128)(2,1)} parameter(0)
  %b = f32[3]{0:T(128)} parameter(1)
  %fast = bf16[4,100]{1,0:T(8,128)(2,1)S(1)} copy(%a), metadata={stack_frame_id=1}
  %zero = s32[]{:T(128)} constant(0)
  %start = (s32[]{:T(128)}, bf16[4,100]{1,0:T(8,128)(2,1)}) tuple(%zero, %fast)
  %loop = (s32[]{:T(128)}, bf16[4,100]{1,0:T(8,128)(2,1)}) while(%start), condition=%cond, body=%body, TRIPS
  ROOT %out = f32[3]{0:T(128)} custom-call(%b), custom_call_target="Kernel"
}
""".replace("TRIPS", 'backend_config={"known_trip_count":{"n":"6"}}')


def test_bytes_cycles_and_sources_by_hand():
    """Four rows are padded to eight and a hundred columns to 128; what is in fast memory is not counted."""
    matrix, vector = 8 * 128 * 2, 128 * 4
    copy, negate, kernel = operations(TPU)
    assert (copy.kind, copy.moved, copy.times, copy.source) == ("copy", matrix, 1, "gating.py:32 mix")
    assert (negate.kind, negate.moved, negate.times, negate.cycles) == ("negate", 6 * 2 * matrix, 6, 60)
    # Of a line that calls ours it is ours.
    assert negate.source == "gating.py:32 mix"
    assert (kernel.kind, kernel.moved, kernel.cycles, kernel.source) == ("Kernel", 2 * vector, 0, "")


def test_a_report():
    """Of a program for this machine: its memory as XLA has it, its arithmetic as counted, and our lines."""
    model = model_config("posmlp_t", **small("posmlp_t"))
    traced = forward(model, 4, mesh.mesh_of(jax.devices()[:1]))
    program = traced.lower().compile()
    macs = count_macs(traced.jaxpr)
    lines = compiled.report(program, macs, HERE, examples=4).splitlines()
    assert lines[0].startswith(f"memory      {program_memory(program) / 2**30:.2f} GiB of 1, ")
    assert lines[2].startswith(f"arithmetic  {2 * macs / 4 / 1e9:.1f} Gflop an example: ")
    assert re.fullmatch(r"bound by    (memory|arithmetic): at most \d+ examples/s on a chip", lines[3])
    assert lines[4].startswith("operations  ")
    assert any("gating.py:" in line for line in lines[6:])


def test_a_report_says_what_the_estimate_leaves_out():
    program = jax.jit(jnp.sin).trace(1.0).lower().compile()
    chip = dataclasses.replace(HERE, clock=1e6)
    for kernel, ending in (
        ("Kernel", "too large"),
        ("tpu_custom_call", "without our 1 × kernel (benchmarks.kernel_sch"),
    ):
        written = SimpleNamespace(
            as_text=partial(TPU.replace, "Kernel", kernel), memory_analysis=program.memory_analysis
        )
        (line,) = (line for line in compiled.report(written, 1, chip, examples=2).splitlines() if "estimate" in line)
        assert line.startswith("estimate    30 µs an example, which is too large")
        assert ending in line


def test_a_step_on_shared_state_is_whole(monkeypatch):
    """Eight devices, four of which share the state, put it together and never exchange all with all."""
    monkeypatch.setattr(mesh, "MIN_SHARDED", 1)
    model = model_config("posmlp_t", **small("posmlp_t"))
    program = train_step(model, 16, 1, mesh.mesh_of(jax.devices()[:8], fsdp=4)).lower().compile()
    found = compiled.report(program, 1, HERE, examples=2)
    assert "all-gather" in found
    assert "all-to-all" not in found


def test_the_step_is_of_the_default_config():
    config = default_config()
    assert vars(programs.OPTIMIZER) == config.optimizer.to_dict()
    assert (config.data.mean, config.data.std) == (programs._MEAN, programs._STD)


def test_a_detectors_step_is_of_its_own_loss():
    """As its default config has it; the gradient multiplies twice as often again."""
    name = "retinanet_posmlp_t"
    config = default_config(name, "detection")
    assert config.max_objects == programs._OBJECTS
    assert config.mask_rcnn.to_dict() == dataclasses.asdict(Samples())
    model = model_config(name, **fields(name), image_size=64)
    macs = count_macs(train_step(model, 2, 1, mesh.mesh_of(jax.devices()[:1], fsdp=1)).jaxpr)
    assert macs == pytest.approx(2 * 3 * model_cost(name, **fields(name), image_size=64)[1], rel=0.1)
    with pytest.raises(ConfigError, match="is a detector; give --train"):
        compiled.main(["--platform=tpu-v5e", f"--model={name}", "--gradient"])


def test_what_does_not_fit():
    traced = jax.jit(lambda x: x + 1).trace(jnp.zeros(2**20))
    with pytest.raises(
        ConfigError, match=r"needs 0\.0 GiB of a chip's 0, 0\.0 GiB too much; a smaller --batch takes less"
    ):
        compile_for(dataclasses.replace(HERE, memory=1e6), traced, "")
    with pytest.raises(ConfigError, match="too much; remat or a smaller --batch takes less"):
        compile_for(dataclasses.replace(HERE, memory=1e6), traced, "remat")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--platform=tpu-v5"], "unknown platform 'tpu-v5'; did you mean 'tpu-v5p'"),
        (["--platform=tpu-v5e", "--batch=0"], "--batch=0 should be 1 or more"),
        (["--platform=tpu-v5e", "--train", "--accumulate=3"], "--accumulate=3 does not divide --batch=32"),
        (["--platform=tpu-v5e", "--fsdp=2"], "--accumulate and --fsdp are of a training step; give --train as well"),
        (["--platform=tpu-v5e", "--output=/dev/null/x"], "cannot write /dev/null/x"),
        (["--platform=tpu-v5e", "--model=posmlp_q"], "unknown model 'posmlp_q'"),
        (["--platform=tpu-v5e", "--override=dtype"], "--override=dtype should be FIELD=VALUE"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ConfigError, match=message):
        compiled.main(arguments)


def test_a_compiler_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(chips, "_PACKAGES", {"tpu": "no_such_package", "cuda": "no_such_package"})
    with pytest.raises(
        ConfigError, match=r"no_such_package, is not installed: `pip install --no-deps --target=\.compilers -r req"
    ):
        find_chip("cuda-h100")


T_SHALLOW = "--override=depths=(1,1,2,1)"
# Of docs/performance.md: MB moved, the compiler's estimate in µs, temporary MiB and operations, each at most.
BARS = {
    "TPU, forward": (["--platform=tpu-v5e", "--batch=32"], {"moved": 16, "estimate": 170}),
    "TPU, gradient": (
        ["--platform=tpu-v5e", "--batch=32", "--gradient", T_SHALLOW],
        {"moved": 60, "estimate": 350, "temporary": 470},
    ),
    "TPU, gradient by the compiler": (
        ["--platform=tpu-v5e", "--batch=32", "--gradient", T_SHALLOW, "--override=kernel=xla"],
        {"moved": 106, "estimate": 465, "temporary": 790},
    ),
    "TPU, step": (["--platform=tpu-v5e", "--batch=64", "--train"], {"moved": 121, "temporary": 1650}),
    "GPU, step": (["--platform=cuda-h100", "--batch=64", "--train"], {"moved": 475}),
    "GPU, gradient": (
        ["--platform=cuda-h100", "--batch=64", "--gradient"],
        {"moved": 457, "temporary": 3950, "operations": 900},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BARS)
def test_figures_of_the_documentation(name):
    arguments, bars = BARS[name]
    if not has_compiler(CHIPS[arguments[0].partition("=")[2]]):
        pytest.skip("make compilers installs it")
    command = [sys.executable, "-m", "benchmarks.compiled", *arguments]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = {
        "moved": re.search(r"moved +([\d.]+) MB", text),
        "estimate": re.search(r"estimate +(\d+) µs", text),
        "temporary": re.search(r"(\d+) MiB of them temporary", text),
        "operations": re.search(r"operations +(\d+)", text),
    }
    measured = {field: float(found[field][1]) for field in bars}
    assert not {field: value for field, value in measured.items() if value > bars[field]}
