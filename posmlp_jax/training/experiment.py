"""A config made into the things that a run consists of; its mistakes show here, before anything is written."""

from dataclasses import dataclass
from functools import partial

import jax
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from posmlp_jax.data import Source, open_source
from posmlp_jax.errors import CheckpointError, ConfigError
from posmlp_jax.models.backbone import BackboneConfig
from posmlp_jax.training.config import check_fields, check_values, resolve_model
from posmlp_jax.training.mixing import MixOptions
from posmlp_jax.training.optimizer import create_optimizer
from posmlp_jax.training.schedules import learning_rate, to_steps
from posmlp_jax.training.sharding import check_batch_size, create_mesh, place, shardings
from posmlp_jax.training.state import Merge, TrainState, create_state, model_merge
from posmlp_jax.training.step import StepOptions


@dataclass(frozen=True)
class Lengths:
    """A config's lengths of time, in steps: of the whole run, and between logs, evaluations and checkpoints."""

    total: int
    log: int
    evaluate: int
    checkpoint: int


@dataclass(frozen=True)
class Experiment:
    """What both training and evaluation need."""

    config: ConfigDict
    model: BackboneConfig
    merge: Merge
    mesh: Mesh
    options: StepOptions
    eval_source: Source
    eval_batch_size: int


@dataclass(frozen=True)
class Training(Experiment):
    """What training needs besides."""

    train_source: Source
    lengths: Lengths
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation

    def new_state(self) -> TrainState:
        """A fresh state on the mesh, from the config's seed."""
        return jax.jit(self._create, out_shardings=shardings(self.abstract_state()))()

    def abstract_state(self) -> TrainState:
        """The shapes, types and shardings of a state."""
        return place(jax.eval_shape(self._create), self.mesh)

    @property
    def _create(self):
        return partial(create_state, self.model, self.optimizer, self.config.seed, ema=self.config.ema_decay > 0)


def open_evaluation(config: ConfigDict) -> Experiment:
    """Opens what evaluating a config takes.

    Raises:
      PosMLPError: for a config, a data set or a machine that will not do.
    """
    return Experiment(**_common(config))


def open_training(config: ConfigDict) -> Training:
    """Opens what training a config takes.

    Raises:
      PosMLPError: as `open_evaluation`.
    """
    common = _common(config)
    source = open_source(config.data, "train", num_classes=common["model"].num_classes)
    # Each part's examples are shared by the devices, and so then are the whole batch's.
    check_batch_size("batch_size", config.batch_size // config.accumulate, common["mesh"])
    steps = partial(to_steps, batch_size=config.batch_size, num_examples=len(source))
    decay = steps(config.length)
    if decay < 1:
        raise ConfigError(f"length '{config.length}' is less than one step of {config.batch_size} examples")
    lengths = Lengths(
        total=decay + steps(config.optimizer.constant),
        log=max(steps(config.log_every), 1),
        evaluate=max(steps(config.eval_every), 1),
        checkpoint=max(steps(config.checkpoint_every), 1),
    )
    schedule = learning_rate(config.optimizer, warmup=steps(config.optimizer.warmup), decay=decay)
    return Training(
        **common,
        train_source=source,
        lengths=lengths,
        schedule=schedule,
        optimizer=create_optimizer(config.optimizer, schedule),
    )


def _common(config: ConfigDict) -> dict:
    check_fields(config)
    check_values(config)
    # The model first: its mistakes are found without touching any data.
    resolve_model(config, num_classes=1)
    mesh = create_mesh(config.devices, config.fsdp)
    eval_source = open_source(config.data, "eval")
    model = resolve_model(config, eval_source.num_classes)
    if model.num_classes < eval_source.num_classes:
        raise ConfigError(
            f"model.num_classes is {model.num_classes}, but {config.data.name} has {eval_source.num_classes} classes"
        )
    eval_batch_size = config.eval_batch_size or config.batch_size
    check_batch_size("eval_batch_size", eval_batch_size, mesh)
    options = StepOptions(
        num_classes=model.num_classes,
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
        label_smoothing=config.label_smoothing,
        ema_decay=config.ema_decay,
        accumulate=config.accumulate,
        mixing=MixOptions(**config.mixing.to_dict()),
        seed=config.seed,
    )
    return {
        "config": config,
        "model": model,
        "merge": model_merge(model),
        "mesh": mesh,
        "options": options,
        "eval_source": eval_source,
        "eval_batch_size": eval_batch_size,
    }


def check_class_names(saved: list[str] | None, source: Source) -> None:
    """Raises a CheckpointError if a checkpoint was trained on other classes than the data has now."""
    current = None if source.class_names is None else list(source.class_names)
    if saved is None or current is None or saved == current:
        return
    first = next((i for i, pair in enumerate(zip(saved, current, strict=False)) if pair[0] != pair[1]), None)
    which = (
        f"class {first} is '{saved[first]}' there and '{current[first]}' here"
        if first is not None
        else f"{len(saved)} classes there and {len(current)} here"
    )
    raise CheckpointError(f"the checkpoint was trained on other classes than {source.description} has: {which}")
