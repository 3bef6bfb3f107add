"""The training step, compiled before the first batch: once for each shape that batches have."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from posmlp_jax.checkpoints.state import Bind, TrainState
from posmlp_jax.devices.memory import program_memory
from posmlp_jax.devices.mesh import batch_sharding, of_whole, on_mesh, replicated, shardings
from posmlp_jax.models.cost import count_macs
from posmlp_jax.tasks.objective import Batch, Objective, Scalars
from posmlp_jax.terminal import report
from posmlp_jax.training.step.step import StepOptions, make_train_step

if TYPE_CHECKING:
    # Steps are compiled where there are no data, too.
    from posmlp_jax.data.decoding.examples import InputSize
    from posmlp_jax.training.experiment import Training


class _Program(NamedTuple):
    run: jax.stages.Compiled
    macs: int  # Multiply-accumulates.
    memory: int  # Bytes on each device.


class CompiledSteps:
    """`steps(state, batch)` takes a training step, donating the state.

    Args:
      run: whose steps these are.

    Attributes:
      memory: what a step needs on each device, the largest one, in bytes.
    """

    def __init__(self, run: "Training"):
        start, before = time.perf_counter(), len(run.programs)
        self._state, self._run = run.abstract_state(), run
        parts = run.train_bind, run.task, run.optimizer, run.schedule, run.options
        self._step = jit_train_step(*parts, state=self._state, mesh=run.mesh)
        self._programs = {size: self._compile(size) for size in dict.fromkeys(run.input_sizes)}
        self.memory = max(program.memory for program in self._programs.values())
        sizes = f" for {len(self._programs)} sizes" if len(self._programs) > 1 else ""
        done = "compiled the training step" if len(run.programs) > before else "the training step is that of before"
        report(f"{done}{sizes} in {time.perf_counter() - start:.1f} s")

    def _compile(self, size: "InputSize") -> _Program:
        run = self._run
        columns = run.task.targets(run.train_source).columns
        traced = self._step.trace(
            self._state, batch_shapes(run.config.batch_size, size, columns, batch_sharding(run.mesh))
        )
        compiled = run.programs.compile(traced.lower(), run.mesh)
        return _Program(compiled, count_macs(traced.jaxpr), program_memory(compiled))

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Scalars]:
        """The next state and the step's metrics."""
        return self._programs[_size(batch)].run(state, batch)

    def macs(self, batch: Batch) -> int:
        """The multiply-accumulates of a step with a batch of this shape, over all devices."""
        return self._programs[_size(batch)].macs


def _size(batch: Batch) -> "InputSize":
    return batch["image"].shape[1:-1]


def jit_train_step(
    bind: Bind,
    task: Objective,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    options: StepOptions,
    *,
    state: TrainState,
    mesh: Mesh,
) -> jax.stages.Wrapped:
    """`make_train_step` on a mesh, to be compiled: it donates its state, and the next one lies as `state` does."""
    step = make_train_step(of_whole(bind, mesh), task, optimizer, schedule, options)
    return jax.jit(on_mesh(step, mesh), donate_argnums=0, out_shardings=(shardings(state), replicated(mesh)))


def batch_shapes(
    batch_size: int, input_size: "InputSize", columns: Mapping[str, tuple[tuple[int, ...], Any]], sharding
) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a training batch of images or clips of a size, before there is data.

    `columns`: what it holds besides, as `data.targets.Targets` have it.
    """
    columns = {"image": ((*input_size, 3), np.uint8), **columns}
    return {
        name: jax.ShapeDtypeStruct((batch_size, *shape), dtype, sharding=sharding)
        for name, (shape, dtype) in columns.items()
    }
