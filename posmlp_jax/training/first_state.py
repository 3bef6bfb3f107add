"""The state that a run's first step of this process is taken from: a checkpoint's, or a new one."""

import itertools
from contextlib import closing
from functools import partial

import jax
import numpy as np

from posmlp_jax.checkpoints.architecture import different_fields
from posmlp_jax.checkpoints.run import read_model
from posmlp_jax.checkpoints.state import TrainState, Weights
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.checkpoints.transfer import Transferred
from posmlp_jax.devices.hosts import together
from posmlp_jax.devices.mesh import of_whole, on_mesh, replicated, to_devices
from posmlp_jax.errors import CheckpointError, DamagedCheckpointError
from posmlp_jax.models.backbone import COMPUTING
from posmlp_jax.tasks.task import normalize_images
from posmlp_jax.terminal import report
from posmlp_jax.training.experiment import Training
from posmlp_jax.training.step.probe import with_statistics

# The fields of its model that may change when a run goes on: those that have no part in what its weights mean.
_MAY_CHANGE = (*COMPUTING, "dropout", "drop_path")
# How many samples say what a linear probe's features are.
_STANDARDIZED = 4096


def first_state(run: Training, checkpoints: Checkpoints, first: Transferred | None) -> TrainState:
    """The newest whole checkpoint's state or, where there is none, the one before the first step.

    Args:
      run: the run.
      checkpoints: its own.
      first: the weights that it starts from, if not from random ones.

    Raises:
      CheckpointError: if a checkpoint is not this run's, or all are damaged.
    """
    while (step := checkpoints.latest_step()) is not None:
        try:
            return _restore(run, checkpoints, step)
        except DamagedCheckpointError as error:
            checkpoints.set_aside(error)
    # A run that was killed before its first checkpoint may have been evaluated.
    checkpoints.evaluations.forget_after(0)
    if first is not None:
        report(f"starting from the {first.source}: {first.summary}")
    state = run.new_state(first)
    return _standardized(run, state) if run.config.optimizer.standardize_head else state


def _restore(run: Training, checkpoints: Checkpoints, step: int) -> TrainState:
    """The state that a run goes on from, once it is sure that it is this run's."""
    saved = checkpoints.run(step)
    together(partial(run.task.check_names, saved["class_names"], run.train_source))
    differing = different_fields(read_model(saved).config, run.model, _MAY_CHANGE)
    if differing:
        raise CheckpointError(
            f"the checkpoint {checkpoints.directory / str(step)} is of another architecture: {'; '.join(differing)}"
        )
    state = checkpoints.restore(step, run.abstract_state())
    checkpoints.evaluations.forget_after(step)
    return state


def _standardized(run: Training, state: TrainState) -> TrainState:
    """A linear probe's first state, with what the features of an epoch, or of the first samples of a long one, are."""

    def pooled(weights: Weights, images: jax.Array) -> jax.Array:
        model = of_whole(run.bind, run.mesh)(weights)
        model.head = None
        return model(normalize_images(images, run.config.data.mean, run.config.data.std))

    pooled = jax.jit(on_mesh(pooled, run.mesh), out_shardings=replicated(run.mesh))
    pooled = run.programs.shared(pooled, run.mesh)
    count = -(-min(run.epoch, _STANDARDIZED) // run.config.batch_size)
    with closing(run.batches(0)) as batches:
        chosen = itertools.islice(to_devices(batches, run.mesh), count)
        return with_statistics(state, [np.asarray(pooled(state.weights, batch["image"])) for batch in chosen])
