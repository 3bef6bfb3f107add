"""What a run does before its first step: it looks at everything that could end it later, and says what it will do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
from etils import epath
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.folders import has_checkpoint
from posmlp_jax.checkpoints.transfer import Transferred
from posmlp_jax.data.decoding.decodable import check_decodable
from posmlp_jax.data.fingerprint import fingerprint
from posmlp_jax.devices.hosts import from_host_0, together
from posmlp_jax.devices.memory import check_step_memory
from posmlp_jax.errors import CheckpointError
from posmlp_jax.terminal import report
from posmlp_jax.training.compiled import CompiledSteps
from posmlp_jax.training.config import check_fields
from posmlp_jax.training.experiment import Training, open_training
from posmlp_jax.training.programs import Programs
from posmlp_jax.training.step.moving_average import has_average
from posmlp_jax.training.workdir import as_begun, check_experiment, claim_workdir, data_changes, read_config

# What a run's record of its data calls those that it is trained and evaluated on.
SPLITS = {"training": "train", "evaluation": "eval"}
# The share of its start that a moving average may hold at the end of a run before the run says so.
_FORGOTTEN = 0.05


@dataclass(frozen=True)
class Beginning:
    """A run that can take its first step, and whose working directory is its own.

    Attributes:
      run: what it consists of.
      steps: its step, compiled.
      first: the weights that it starts from, where it is new and `init_from` names some.
    """

    run: Training
    steps: CompiledSteps
    first: Transferred | None


def begin(
    config: ConfigDict,
    workdir: epath.Path,
    programs: Programs | None = None,
    first_weights: Callable[[Training], Transferred | None] = Training.first_weights,
) -> Beginning:
    """Opens a run in a working directory that is locked; what is wrong shows before anything is written to it.

    Args:
      config: the run's.
      workdir: the working directory.
      programs: as in `open_training`.
      first_weights: what a new run starts from.

    Raises:
      PosMLPError: for a mistake in the config, the data or the working directory.
    """
    saved = from_host_0(partial(read_config, workdir))
    check_fields(config)
    config, asked = as_begun(config, saved), config
    if has_average(config) and config.ema_warmup != asked.ema_warmup:
        report(f"{workdir} began before there was ema_warmup, and goes on as it began: ema_warmup=False")
    from_host_0(partial(check_experiment, workdir, saved, config))
    goes_on = from_host_0(partial(has_checkpoint, workdir))
    run = together(partial(open_training, config, workdir if goes_on else None, programs))
    first = None if goes_on else together(partial(first_weights, run))
    if first is not None:
        together(partial(run.task.check_start, first))
    data = from_host_0(partial(_fingerprints, run))
    changed = from_host_0(partial(changed_data, workdir, data, config)) if goes_on else []
    if changed is None or changed or not goes_on:
        together(partial(_check_evaluation, run))
    _describe(run)
    steps = CompiledSteps(run)
    together(partial(check_step_memory, steps.memory, run.mesh))
    from_host_0(partial(claim_workdir, workdir, config, data))
    if changed is None:
        report(f"there is no record of the data that {workdir} began with; from now on it is today's")
    for line in changed or ():
        report(f"going on with other {line}")
    return Beginning(run, steps, first)


def _fingerprints(run: Training) -> dict[str, dict]:
    sources = {"train": run.train_source, "eval": run.eval_source}
    return {what: fingerprint(sources[split]) for what, split in SPLITS.items()}


def changed_data(workdir: epath.Path, data: Mapping, config: ConfigDict) -> list[str] | None:
    """`data_changes` of a working directory where something has begun, for whoever goes on all the same.

    Raises:
      CheckpointError: for others, unless the config says that it is to go on.
    """
    changed = data_changes(workdir, data)
    if changed and not config.accept_changed_data:
        raise CheckpointError(
            f"{workdir} began with other data: {'; '.join(changed)}; put them back, choose another --workdir, or go on "
            "with these by --config.accept_changed_data=True"
        )
    return changed


def _check_evaluation(run: Training) -> None:
    check_decodable(
        run.eval_source,
        threads=run.config.data.threads,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        report=report,
    )


def _describe(run: Training) -> None:
    devices = run.mesh.devices.flatten()
    count = sum(leaf.size for leaf in jax.tree.leaves(run.abstract_state().weights.params))
    where = f"{len(devices)} {devices[0].device_kind}"
    report(f"{run.model_name}: {count / 1e6:.2f} M parameters, {run.model.dtype}, on {where}")
    for what, source in (("training", run.train_source), ("evaluation", run.eval_source)):
        report(f"{what} data: {source.description}")
        for line in run.task.describe(source, training=what == "training"):
            report(line)
    if has_average(run.config):
        _describe_average(run)


def _describe_average(run: Training) -> None:
    """Says so if the moving average cannot have forgotten what it starts from by the end of the run."""
    # With warm-up, the second step leaves less than 2 % of it.
    left = 0.0 if run.options.ema_warmup else run.options.ema_decay**run.lengths.total
    if left > _FORGOTTEN:
        start = "the weights that it starts from" if run.config.init_from else "its random start"
        report(
            f"warning: at the end {100 * left:.0f} % of the moving average will still be {start} "
            f"({run.options.ema_decay:.6g} to the power of {run.lengths.total} steps); in another working directory, "
            "--config.ema_warmup=True lets it forget"
        )
