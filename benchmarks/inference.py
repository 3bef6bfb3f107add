"""How fast models answer, folded and not: `python -m benchmarks.inference [--model=posmlp_t] [--batch_sizes=1,8]`.

For each type and batch size, on the first device and with images or clips that are on it already: the median time of a
call, and how many times as long the model takes as the folded one. The two take turns, so that other programs disturb
both. Programs are compiled first, and kept where JAX_COMPILATION_CACHE_DIR says.
"""

import os
import time
from collections.abc import Callable, Sequence

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

import jax
import numpy as np
from flax import nnx

from posmlp_jax import create_model
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.models import model_config
from posmlp_jax.models.backbone import Backbone

DTYPES = ("float32", "bfloat16")


def compiled_call(model: Backbone, images: jax.Array) -> Callable[[], None]:
    """A call of the model that waits for its result; everything is compiled, and has run once."""
    graph, state = nnx.split(model)
    # Parameters are arguments: XLA would spend its time on folding constants.
    function = jax.jit(lambda state, images: nnx.merge(graph, state)(images))
    state = nnx.to_pure_dict(state)

    def call() -> None:
        function(state, images).block_until_ready()

    call()
    return call


def median_seconds(calls: Sequence[Callable[[], None]], repeats: int) -> list[float]:
    """The median time of each call, all of them in turn `repeats` times."""
    times = np.empty((repeats, len(calls)))
    for row in times:
        for column, call in enumerate(calls):
            start = time.perf_counter()
            call()
            row[column] = time.perf_counter() - start
    return np.median(times, axis=0).tolist()


def device_name() -> str:
    """The first device, in words; of a CPU the cores too."""
    device = jax.devices()[0]
    return f"cpu, {len(os.sched_getaffinity(0))} cores" if device.platform == "cpu" else device.device_kind


def whole_number(option: str, text: str) -> int:
    """The positive number that an option is.

    Raises:
      ConfigError: if it is anything else.
    """
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{option} has '{text}', and should have a whole number of 1 or more")
    return int(text)


def main(arguments: list[str] | None = None) -> None:
    parser = CommandParser("benchmarks.inference", __doc__)
    parser.add_argument("--model", default="posmlp_t")
    parser.add_argument("--batch_sizes", default="1,8")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--image_size", help="the side of the images or frames; by default the model's own")
    parser.add_argument("--repeats", default="20", help="how often each is timed")
    options = parser.parse_args(arguments)

    batch_sizes = [whole_number("batch_sizes", text) for text in options.batch_sizes.split(",")]
    repeats = whole_number("repeats", options.repeats)
    dtypes = options.dtypes.split(",")
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise ConfigError(f"unknown dtype '{dtype}'; {nearest(dtype, DTYPES)}")
    overrides = {"image_size": whole_number("image_size", options.image_size)} if options.image_size else {}
    size = model_config(options.model, **overrides).input_size
    noun = "images" if len(size) == 2 else "clips"

    print(f"{'×'.join(map(str, size))} {noun}, median of {repeats} calls, jax {jax.__version__}\n")
    print(f"| model | device | type | batch | folded | ms | {noun}/s | unfolded / folded |")
    print("| --- | --- | --- | ---: | --- | ---: | ---: | ---: |")
    for dtype in dtypes:
        model = create_model(options.model, dtype=dtype, **overrides)
        models = {"no": model, "yes": model.fold()}
        for batch_size in batch_sizes:
            shape = (batch_size, *size, 3)
            images = jax.device_put(np.random.default_rng(0).standard_normal(shape, np.float32))
            calls = [compiled_call(each, images) for each in models.values()]
            seconds = median_seconds(calls, repeats)
            for folded, duration in zip(models, seconds, strict=True):
                ratio = f"{seconds[0] / seconds[1]:.2f}" if folded == "yes" else ""
                print(
                    f"| {options.model} | {device_name()} | {dtype} | {batch_size} | {folded} "
                    f"| {1e3 * duration:.1f} | {batch_size / duration:.1f} | {ratio} |",
                    flush=True,
                )


if __name__ == "__main__":
    run_program(main, None)
