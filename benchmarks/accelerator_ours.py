"""Measures one of our programs on this machine's first device, for `benchmarks.accelerator`."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.measuring import requested, seconds_a_call, tell
from benchmarks.program_text import operations
from benchmarks.programs import forward, new_state, train_step
from posmlp_jax.checkpoints.state import create_weights
from posmlp_jax.command_line import field_value, run_program
from posmlp_jax.devices.memory import out_of_memory, program_memory
from posmlp_jax.devices.mesh import batch_sharding, create_mesh, replicated
from posmlp_jax.models.backbone import BackboneConfig
from posmlp_jax.models.cost import count_macs
from posmlp_jax.models.registry import model_config


def describe() -> None:
    """Tells what the devices are."""
    device, *_ = jax.devices()
    cache = jax.config.jax_enable_compilation_cache and jax.config.jax_compilation_cache_dir
    tell(
        platform=device.platform,
        kind=device.device_kind,
        devices=len(jax.devices()),
        jax=jax.__version__,
        compilation_cache=cache or None,
    )


def measure(request: dict[str, Any]) -> None:
    """Tells all that is to be known of a program.

    Args:
      request: `model`, its name; `override`, 'FIELD=VALUE' for some of its fields; `program`, 'forward' or 'train';
        `batch`, how many examples; `repeats`, how often it is timed; `began`, when this process did.
    """
    model = model_config(request["model"], **{"dtype": "bfloat16", **dict(map(field_value, request["override"]))})
    batch, mesh, train = request["batch"], create_mesh(devices=1), request["program"] == "train"
    traced = train_step(model, batch, 1, mesh) if train else forward(model, batch, mesh)
    create = partial(new_state, model, batch) if train else partial(create_weights, model, 0)
    begin = time.perf_counter()
    compiled = traced.lower().compile()
    tell(
        compile_seconds=time.perf_counter() - begin,
        flops=2 * count_macs(traced.jaxpr),
        planned_bytes=program_memory(compiled),
    )
    state, inputs = jax.jit(create, out_shardings=replicated(mesh))(), _inputs(model, batch, mesh, train)
    run = _stepping(compiled, state, inputs) if train else _calling(compiled, state, inputs)
    del state  # The steps donate it.
    run(1)
    tell(first_step_seconds=time.time() - request["began"])
    device, *_ = mesh.local_devices
    seconds = seconds_a_call(run, request["repeats"])
    tell(seconds=seconds, memory_bytes=(device.memory_stats() or {}).get("peak_bytes_in_use"))
    if device.platform != "cpu":
        tell(moved_bytes=sum(each.moved for each in operations(compiled.as_text())))


def _inputs(model: BackboneConfig, batch: int, mesh: Mesh, train: bool) -> Any:
    """Random examples on the device: pixels and labels of a training step, or normalised pixels."""
    random, shape = np.random.default_rng(0), (batch, *model.input_size, 3)
    if not train:
        return jax.device_put(random.standard_normal(shape, np.float32), batch_sharding(mesh))
    examples = {
        "image": random.integers(0, 256, shape, np.uint8),
        "label": random.integers(0, model.num_classes, batch, np.int32),
    }
    return jax.device_put(examples, batch_sharding(mesh))


def _stepping(step: jax.stages.Compiled, state: Any, batch: Any) -> Callable[[int], None]:
    """Takes so many training steps, each from the state that the last one left."""

    def run(calls: int) -> None:
        nonlocal state
        for _ in range(calls):
            state, metrics = step(state, batch)
        jax.block_until_ready(metrics)

    return run


def _calling(function: jax.stages.Compiled, weights: Any, images: Any) -> Callable[[int], None]:
    """Makes so many calls. On a CPU each is waited for: there, they would share the cores."""
    alone = jax.default_backend() == "cpu"

    def run(calls: int) -> None:
        for _ in range(calls):
            logits = function(weights, images)
            if alone:
                logits.block_until_ready()
        logits.block_until_ready()

    return run


def main(arguments: list[str] | None = None) -> None:
    del arguments
    request = requested()
    with out_of_memory():
        describe() if request["program"] == "describe" else measure(request)


if __name__ == "__main__":
    run_program(main, None)
