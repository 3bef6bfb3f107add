"""What a training step of a video model takes, in memory and time, with and without its parts.

    python -m benchmarks.video_model                                  # a small size, for two CPU cores
    python -m benchmarks.video_model --full --batch=8 --dtype=bfloat16   # posmlp_video_s at 16×224², for a GPU

Compares the model as it is, rematerialised, and without its temporal branches, by three numbers: what the forward pass
keeps for the backward pass (of any device, parameters included), what XLA plans for the step's intermediate values on
this one, and the median time. On CPUs the second number shows no gain from rematerialisation: measured, not explained.
The variants are timed in turn, so that a busy machine slows all of them.

`--trace` gives the first number alone, which needs no memory for it and no time.
"""

import statistics
import time

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

import jax
import jax.numpy as jnp

from posmlp_jax import create_model
from posmlp_jax.checkpoints.state import Weights, split_model
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.models.cost import kept_bytes

SMALL = {
    "num_frames": 8,
    "image_size": 112,
    "widths": (24, 48, 96, 192),
    "depths": (3, 4, 6, 3),
    "windows": (14, 14, 7, 4),
}
VARIANTS = {
    "parallel": {},
    "parallel, remat": {"remat": True},
    "spatial": {"block": "spatial"},
    "spatial, remat": {"block": "spatial", "remat": True},
}


def step(name: str, batch: int, overrides: dict):
    """A loss of parameters, batch statistics and clips, and these."""
    model = create_model(name, drop_path=0.0, **overrides)
    bind, weights = split_model(model)
    clips = jax.random.normal(jax.random.key(0), (batch, *model.config.input_size, 3))

    def loss(params, batch_stats, clips):
        logits = bind(Weights(params, batch_stats))(clips, train=True)
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[:, 0])

    arguments = (weights.params, weights.batch_stats, clips)
    return loss, arguments


def main(arguments: list[str] | None = None) -> None:
    """Prints one line for each variant, with the ratios to the first."""
    parser = CommandParser("benchmarks.video_model", __doc__)
    parser.add_argument("--model", default="posmlp_video_s")
    parser.add_argument("--full", action="store_true", help="the model's own size")
    parser.add_argument("--trace", action="store_true", help="only what is kept for the backward pass")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args(arguments)

    size = ({} if options.full else SMALL) | {"dtype": options.dtype}
    steps = {name: step(options.model, options.batch, size | changes) for name, changes in VARIANTS.items()}
    columns = {"kept MiB": [kept_bytes(loss, *arguments) / 2**20 for loss, arguments in steps.values()]}
    if not options.trace:
        compiled = [
            (jax.jit(jax.value_and_grad(loss)).lower(*arguments).compile(), arguments)
            for loss, arguments in steps.values()
        ]
        columns["planned MiB"] = [function.memory_analysis().temp_size_in_bytes / 2**20 for function, _ in compiled]
        columns["ms a step"] = median_milliseconds(compiled, options.repeats)
    print(f"{'':16}", *(f"{column:>20}" for column in columns))
    for row, name in enumerate(steps):
        cells = (f"{values[row]:12.1f} ({values[row] / values[0]:.2f})" for values in columns.values())
        print(f"{name:16}", *(f"{cell:>20}" for cell in cells))


def median_milliseconds(compiled: list, repeats: int) -> list[float]:
    """Of each function, called with its arguments."""
    times = [[] for _ in compiled]
    for _ in range(repeats + 1):  # The first is thrown away.
        for (function, arguments), own in zip(compiled, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            own.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(own[1:]) for own in times]


if __name__ == "__main__":
    run_program(main, None)
