"""How fast is a model on an accelerator that is not here? `python -m benchmarks.compiled --platform=tpu-v5e`.

TPU and GPU programs are compiled ahead of time on any machine, and say what they need: memory on each chip, bytes moved
to and from it, operations, and which lines of ours are dearest. Nothing is run, so nothing here is a measured time: the
bounds are a data sheet's, the estimate the TPU compiler's own, which is too large, up to three times for element-wise
work. GPU programs are compiled without tuning, and their bytes are an upper limit (`benchmarks.program_text`).

`--gradient` is a loss's by all parameters; `--train` a whole step of the model's recipe, on `--devices` chips, of which
`--fsdp` share the state.
"""

import argparse
import collections
import time
from collections.abc import Sequence

if __name__ == "__main__":
    import os

    os.environ["JAX_PLATFORMS"] = "cpu"
    from posmlp_jax.command_line import begin_program

    begin_program()

import jax

from benchmarks.chips import CHIPS, GIB, Chip, chip_devices, compile_for, find_chip
from benchmarks.program_text import COLLECTIVES, Operation, operations
from benchmarks.programs import forward, gradient, train_step
from posmlp_jax.command_line import CommandParser, field_value, run_program
from posmlp_jax.devices.memory import program_memory
from posmlp_jax.devices.mesh import mesh_of
from posmlp_jax.errors import ConfigError
from posmlp_jax.models.cost import count_macs
from posmlp_jax.models.detectors.config import ActionDetectorConfig
from posmlp_jax.models.registry import model_config
from posmlp_jax.writing import check_result, write_result


def report(compiled: jax.stages.Compiled, macs: int, chip: Chip, examples: int, top: int = 10) -> str:
    """What a compiled program needs, `examples` of which are on each chip, as lines of text.

    Args:
      compiled: for a chip that need not be there.
      macs: multiply-accumulates of the whole program on each chip.
      chip: whose data sheet the bounds come from.
      examples: images or clips on each chip.
      top: how many of the dearest operations to list.
    """
    found = operations(compiled.as_text())
    moved, cycles = (sum(getattr(each, field) for each in found) for field in ("moved", "cycles"))
    flops = 2 * macs
    bounds = {"memory": moved / examples / chip.bandwidth, "arithmetic": flops / examples / chip.flops}
    lines = [
        f"memory      {program_memory(compiled) / GIB:.2f} GiB of {chip.memory / GIB:.0f}, "
        f"{compiled.memory_analysis().temp_size_in_bytes / 2**20:.0f} MiB of them temporary",
        f"moved       {moved / examples / 1e6:.1f} MB an example: {1e6 * bounds['memory']:.0f} µs",
        f"arithmetic  {flops / examples / 1e9:.1f} Gflop an example: {1e6 * bounds['arithmetic']:.0f} µs",
        f"bound by    {max(bounds, key=bounds.get)}: at most {1 / max(bounds.values()):.0f} examples/s on a chip",
    ]
    if chip.clock:
        kernels = sum(each.times for each in found if each.kind == "tpu_custom_call")
        estimate = f"estimate    {1e6 * cycles / examples / chip.clock:.0f} µs an example, which is too large"
        lines.append(estimate + (f", without our {kernels} × kernel (benchmarks.kernel_schedules)" if kernels else ""))
    lines.append(f"operations  {len(found)}")
    lines += [
        f"{kind:20s}{len(each)} × {sum(one.moved for one in each) / len(each) / 1e6:.2f} MB"
        for kind in COLLECTIVES
        if (each := [one for one in found if one.kind.startswith(kind)])
    ]
    lines += ["", *_dearest(found, examples, chip, top)]
    return "\n".join(lines)


def _dearest(found: Sequence[Operation], examples: int, chip: Chip, top: int) -> list[str]:
    """The lines of ours that cost most, by the compiler's estimate or, where it makes none, by bytes."""
    by_line = collections.defaultdict(list)
    for each in found:
        by_line[each.source or "(no line of ours)"].append(each)
    rows = [
        (sum(one.cycles for one in each), sum(one.moved for one in each), len(each), source)
        for source, each in by_line.items()
    ]
    rows.sort(reverse=True)
    return [
        (f"{1e6 * cycles / examples / chip.clock:8.1f} µs" if chip.clock else "")
        + f"{moved / examples / 1e6:9.2f} MB{count:6d} ×  {source}"
        for cycles, moved, count, source in rows[:top]
    ]


def main(arguments: list[str] | None = None) -> None:
    """Compiles what the command line asks for, and prints what it needs."""
    parser = CommandParser("benchmarks.compiled", __doc__)
    parser.add_argument("--platform", required=True, metavar="CHIP", help=", ".join(CHIPS))
    parser.add_argument("--model", default="posmlp_t", help="its name (posmlp_t)")
    parser.add_argument("--override", action="append", default=[], metavar="FIELD=VALUE", help="a model field")
    parser.add_argument("--batch", type=int, default=32, help="on each chip (32)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--gradient", action="store_true", help="of a loss, in place of the forward pass")
    what.add_argument("--train", action="store_true", help="a whole step of the model's recipe")
    parser.add_argument("--accumulate", type=int, default=1, help="with --train: parts of a chip's batch (1)")
    parser.add_argument("--fsdp", type=int, default=1, help="with --train: so many chips share the state (1)")
    parser.add_argument("--devices", type=int, default=1, help="how many chips (1)")
    parser.add_argument("--topology", default="", help="of TPUs, as v5e:4x4")
    parser.add_argument("--output", default="", metavar="FILE", help="where the compiled program's text goes")
    options = parser.parse_args(arguments)
    _check(options)
    model = model_config(options.model, **{"dtype": "bfloat16", **dict(map(field_value, options.override))})
    if options.gradient and model.is_detector:
        raise ConfigError(f"--gradient is of logits, and {options.model} is a detector; give --train")
    if isinstance(model, ActionDetectorConfig):
        raise ConfigError(f"{options.model} takes boxes beside clips, of which this makes none; give its backbone")
    chip = find_chip(options.platform)
    mesh = mesh_of(chip_devices(chip, options.devices, options.topology), options.fsdp)
    batch_size = options.batch * options.devices
    start = time.perf_counter()
    if options.train:
        what, traced = "training step", train_step(model, batch_size, options.accumulate, mesh)
    elif options.gradient:
        what, traced = "gradient", gradient(model, batch_size, mesh)
    else:
        what, traced = "forward pass", forward(model, batch_size, mesh)
    compiled = compile_for(chip, traced, "remat, --accumulate, --fsdp" if options.train else "")
    print(
        f"{options.model}'s {what} in {model.dtype} of {options.batch} examples on each of {options.devices} "
        f"{options.platform}, compiled in {time.perf_counter() - start:.0f} s"
    )
    if options.output:
        write_result(options.output, compiled.as_text())
    print(report(compiled, count_macs(traced.jaxpr) // options.devices, chip, options.batch))


def _check(options: argparse.Namespace) -> None:
    """Raises ConfigError for what is no number of a program's, not read by it, or no place for its text."""
    for name in ("batch", "devices", "accumulate", "fsdp"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name}={getattr(options, name)} should be 1 or more")
    if options.batch % options.accumulate:
        raise ConfigError(f"--accumulate={options.accumulate} does not divide --batch={options.batch}")
    if not options.train and max(options.accumulate, options.fsdp) > 1:
        raise ConfigError("--accumulate and --fsdp are of a training step; give --train as well")
    if options.output:
        check_result(options.output)


if __name__ == "__main__":
    run_program(main, None)
