"""How long does a block's kernel take on a TPU that is not here? `python -m benchmarks.kernel_schedules`.

`benchmarks.compiled` cannot say: of kernels of ours (`posmlp_jax.fused_branch`) the compiler makes no estimate. But it
writes down their schedules, which have no loop but that over windows, so that a window takes as many cycles as there
are instructions. That leaves out waiting for memory, and in a gradient counts as of all windows what only the first one
does, which sets sums to zero. Nothing is run.
"""

import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    import os

    os.environ["JAX_PLATFORMS"] = "cpu"
    from posmlp_jax.command_line import begin_program

    begin_program()

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from benchmarks.chips import CHIPS, chip_devices, dump_schedules, find_chip
from posmlp_jax.blocks import GatedBranch
from posmlp_jax.command_line import CommandParser, field_value, run_program
from posmlp_jax.devices.mesh import batch_sharding, mesh_of, on_mesh, replicated
from posmlp_jax.errors import ConfigError
from posmlp_jax.models.backbone import Backbone
from posmlp_jax.models.registry import abstract_model, model_config
from posmlp_jax.windows import window_layout

# A bundle of instructions, which a cycle takes, inside the loop over windows.
_BUNDLE = re.compile(r"^\s*0x[0-9a-f]+\s+\S*\s*:\s*>+ ?\{", re.MULTILINE)
_BATCH = 8


def scheduled_bundles(text: str) -> int:
    """Of a kernel's schedule, as the TPU's compiler writes it, the cycles that a window takes."""
    return len(_BUNDLE.findall(text))


def branches(model: Backbone) -> list[tuple[str, GatedBranch, int, int]]:
    """One branch of each stage that has the kernel: its name, itself, how many there are, and its windows an image."""
    image = jax.ShapeDtypeStruct((1, *model.config.input_size, 3), jnp.float32)
    graph, state = nnx.split(model)
    maps = jax.eval_shape(lambda state, image: nnx.merge(graph, state).features(image), state, image)
    found = []
    for number, (stage, features) in enumerate(zip(model.stages, maps, strict=True), 1):
        size, fused = features.shape[1:-1], []
        for index, block in enumerate(stage.blocks):
            layout = window_layout(size, stage.window, stage.shift and index % 2 == 1)
            modules = (module for _, module in nnx.iter_modules(block))
            fused += [each for each in modules if isinstance(each, GatedBranch) and not each.obstacle(layout)]
        if fused:
            found.append((f"stage {number}", fused[0], len(fused), math.prod(layout.counts)))
    return found


def compile_branch(branch: GatedBranch, windows: int, mesh: Mesh, *, gradient: bool) -> None:
    """Compiles a branch, or its gradient by everything, for a chip."""
    graph, state = nnx.split(branch)
    tokens, width = branch.gate.bias.shape[0], branch.expand.in_features

    def placed(leaf, sharding):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    state = jax.tree.map(lambda leaf: placed(leaf, replicated(mesh)), state)
    x = jax.ShapeDtypeStruct((_BATCH, windows, tokens, width), branch.expand.dtype)
    x = placed(x, batch_sharding(mesh))

    def call(state, x):
        return nnx.merge(graph, state)(x)

    def pulled(state, x, dz):
        return jax.vjp(call, state, x)[1](dz)

    program = jax.jit(on_mesh(pulled if gradient else call, mesh))
    program.trace(state, x, *[x] * gradient).lower().compile()


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the time of each stage's kernel."""
    parser = CommandParser("benchmarks.kernel_schedules", __doc__)
    tpus = [name for name, chip in CHIPS.items() if chip.platform == "tpu"]
    parser.add_argument("--platform", default="tpu-v5e", metavar="CHIP", help=", ".join(tpus))
    parser.add_argument("--model", default="posmlp_t", help="its name (posmlp_t)")
    parser.add_argument("--override", action="append", default=[], metavar="FIELD=VALUE", help="a model field")
    options = parser.parse_args(arguments)
    overrides = {"dtype": "bfloat16", **dict(map(field_value, options.override))}
    model = abstract_model(model_config(options.model, **overrides))
    chip = find_chip(options.platform)
    if chip.platform != "tpu":
        raise ConfigError(f"the kernel is for TPUs; --platform={options.platform} should be one of {', '.join(tpus)}")
    found = branches(model)
    if not found:
        raise ConfigError(f"no block of {options.model} is one for the kernel")
    with tempfile.TemporaryDirectory() as folder:
        dump_schedules(folder)
        mesh = mesh_of(chip_devices(chip, 1))
        print(f"{'µs an image':12s}{'blocks':>8s}{'forward':>10s}{'gradient':>10s}")
        totals = [0.0, 0.0]
        for name, branch, count, windows in found:
            times = []
            for gradient, kernel in ((False, "block"), (True, "block_gradient")):
                compile_branch(branch, windows, mesh, gradient=gradient)
                cycles = _newest(Path(folder), kernel)
                times.append(1e6 * cycles * windows / chip.clock)
            totals = [total + count * time for total, time in zip(totals, times, strict=True)]
            print(f"{name:12s}{count:8d}{times[0]:10.1f}{times[1]:10.1f}")
        print(f"{'all':12s}{sum(count for _, _, count, _ in found):8d}{totals[0]:10.1f}{totals[1]:10.1f}")


def _newest(folder: Path, kernel: str) -> int:
    """The cycles of the kernel that was compiled last, whose file is then removed with all others."""
    texts = [path.read_text() for path in folder.glob(f"*{kernel}*-final_bundles.txt")]
    for path in folder.iterdir():
        path.unlink()
    return max(map(scheduled_bundles, texts))


if __name__ == "__main__":
    run_program(main, None)
