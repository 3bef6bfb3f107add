"""A config made into the things that a run consists of; its mistakes show here, before anything is written."""

import copy
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import optax
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.pretrained import Pretrained, open_newest, open_together
from posmlp_jax.checkpoints.selection import check_selection
from posmlp_jax.checkpoints.state import Bind, TrainState, bind_model, create_state, initial_state
from posmlp_jax.checkpoints.transfer import Transferred, transfer
from posmlp_jax.data import (
    Batches,
    Source,
    check_scales,
    check_source,
    evaluation_sizes,
    train_batches,
    training_sizes,
)
from posmlp_jax.data.canvases import used_sizes
from posmlp_jax.data.decoding.examples import InputSize
from posmlp_jax.devices.memory import check_batch_memory
from posmlp_jax.devices.mesh import check_batch_size, create_mesh, place, shardings
from posmlp_jax.errors import ConfigError, DataError
from posmlp_jax.models.backbone import BackboneConfig
from posmlp_jax.models.registry import NamedModel
from posmlp_jax.tasks import find_task
from posmlp_jax.tasks.task import Task
from posmlp_jax.terminal import report
from posmlp_jax.training.config import check_fields, check_values, resolve_model
from posmlp_jax.training.programs import Programs
from posmlp_jax.training.records.profile import profiled_steps
from posmlp_jax.training.step.freezing import check_probe, training_bind
from posmlp_jax.training.step.moving_average import decay_of, has_average
from posmlp_jax.training.step.optimizer import create_optimizer
from posmlp_jax.training.step.schedules import in_steps, learning_rate, to_steps
from posmlp_jax.training.step.step import StepOptions


@dataclass(frozen=True)
class Lengths:
    """A config's lengths of time, in steps: of the whole run, and between logs, evaluations and checkpoints.

    The latter are at least 1, and not whole numbers where epochs are none.
    """

    total: int
    log: float
    evaluate: float
    checkpoint: float


@dataclass(frozen=True)
class Experiment:
    """What both training and evaluation need."""

    config: ConfigDict
    model_name: str
    model: BackboneConfig
    bind: Bind
    mesh: Mesh
    task: Task
    eval_source: Source
    eval_batch_size: int
    programs: Programs

    @property
    def named_model(self) -> NamedModel:
        """What a checkpoint says of the model."""
        return NamedModel(self.model_name, self.model)

    @property
    def unit(self) -> str:
        """What the model takes: 'images' or 'clips'."""
        return "clips" if self.model.kind == "video" else "images"


@dataclass(frozen=True)
class Training(Experiment):
    """What training needs besides."""

    train_source: Source
    epoch: int  # How many samples it has: `data.repeats` of every example that an epoch counts.
    lengths: Lengths
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    train_bind: Bind
    options: StepOptions

    @functools.cached_property
    def input_sizes(self) -> tuple[InputSize, ...]:
        """The sizes of its batches' examples: of each step one."""
        data = self.config.data
        return used_sizes(training_sizes(data, self.model.input_size), data, self.train_source)

    def batches(self, start_step: int, *, alone: bool = False) -> Batches:
        """Its batches from the one of `start_step` on, counted from 0: this host's part of each.

        Args:
          start_step: the first batch's.
          alone: whether this host makes the whole of each.
        """
        hosts = {} if alone else {"process_index": jax.process_index(), "process_count": jax.process_count()}
        return train_batches(
            self.train_source,
            self.config.data,
            self.input_sizes,
            targets=self.task.targets(self.train_source),
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            start_step=start_step,
            report=report,
            **hosts,
        )

    def first_weights(self) -> Transferred | None:
        """The weights that `init_from` gives this model, or None where it is ''.

        Raises:
          CheckpointError: if there is no such checkpoint, or its architecture is another.
        """
        if not self.config.init_from:
            return None
        pretrained = open_init(self.config)
        names, seed = self.task.names(self.train_source), self.config.seed
        return transfer(pretrained, self.model, task=self.config.task, class_names=names, seed=seed)

    def new_state(self, first: Transferred | None = None) -> TrainState:
        """The state before the first step, on the mesh: from `first_weights`, or else from the config's seed."""
        target = self.abstract_state()
        if first is None:
            return self.programs.shared(jax.jit(self._create, out_shardings=shardings(target)), self.mesh)()
        weights = jax.tree.map(
            lambda leaf, array: jax.make_array_from_callback(leaf.shape, leaf.sharding, array.__getitem__),
            target.weights,
            first.weights,
        )
        create = partial(initial_state, optimizer=self.optimizer, ema=has_average(self.config))
        return self.programs.shared(jax.jit(create, out_shardings=shardings(target)), self.mesh)(weights)

    def abstract_state(self) -> TrainState:
        """The shapes, types and shardings of a state."""
        return self._abstract_state

    @functools.cached_property
    def _abstract_state(self) -> TrainState:
        return place(jax.eval_shape(self._create), self.mesh)

    @property
    def _create(self):
        return partial(create_state, self.model, self.optimizer, self.config.seed, ema=has_average(self.config))


def open_evaluation(config: ConfigDict, model: NamedModel) -> Experiment:
    """Opens what evaluating a checkpoint takes.

    Args:
      config: of the evaluation; its `model` section is not read.
      model: the checkpoint's.

    Raises:
      PosMLPError: for a config, a data set or a machine that will not do.
    """
    check_fields(config)
    check_values(config)
    return Experiment(**_common(config, model.name, lambda fields: model.config), programs=Programs())


def open_training(config: ConfigDict, workdir: epath.Path | None = None, programs: Programs | None = None) -> Training:
    """Opens what training a config takes.

    Args:
      config: of the experiment.
      workdir: the working directory whose checkpoint says what the config leaves to one, if there is one yet.
      programs: those of other runs of this process, which may be of use to this one; None: there are none.

    Raises:
      PosMLPError: for a config, a data set or a machine that will not do.
    """
    config, base = resolve_pretrained(config, workdir)
    common = _common(config, base.name if base else config.model.name, partial(resolve_model, config, base=base))
    source = common["task"].open_source(config.data, "train", common["model"].kind, common["model"])
    # Each part's examples are shared by the devices, and so then are the whole batch's.
    check_batch_size("batch_size", config.batch_size // config.accumulate, common["mesh"])
    check_source(source, config.data, common["model"].input_size)
    check_scales(config.data, training_sizes(config.data, common["model"].input_size))
    _check_batches(config, common)
    if not len(source):
        raise DataError(f"there is no {source.kind} to train on: {source.description}")
    common["task"].check_training(source)
    epoch = common["task"].epoch(source) * config.data.repeats
    steps = partial(to_steps, batch_size=config.batch_size, num_examples=epoch)
    exactly = partial(in_steps, batch_size=config.batch_size, num_examples=epoch)
    decay = steps(config.length)
    if decay < 1:
        raise ConfigError(f"length '{config.length}' is less than one step of {config.batch_size} examples")
    lengths = Lengths(
        total=decay + steps(config.optimizer.constant),
        log=max(exactly(config.log_every), 1),
        evaluate=max(exactly(config.eval_every), 1),
        checkpoint=max(exactly(config.checkpoint_every), 1),
    )
    first = min(profiled_steps(config.profile), default=0)
    if first > lengths.total:
        raise ConfigError(f"profile is '{config.profile}', but the run has {lengths.total} steps")
    options = StepOptions(
        ema_decay=decay_of(config, partial(steps, total=lengths.total)),
        ema_warmup=config.ema_warmup,
        accumulate=config.accumulate,
        seed=config.seed,
    )
    if config.optimizer.standardize_head:
        check_probe(common["model"], config.freeze)
    schedule = learning_rate(config.optimizer, config.length, batch_size=config.batch_size, num_examples=epoch)
    return Training(
        **common,
        programs=Programs() if programs is None else programs,
        train_source=source,
        epoch=epoch,
        lengths=lengths,
        schedule=schedule,
        optimizer=create_optimizer(config.optimizer, schedule, config.freeze),
        train_bind=training_bind(common["model"], config.freeze),
        options=options,
    )


def _check_batches(config: ConfigDict, common: Mapping) -> None:
    """Raises a ConfigError if the batches of training or evaluation do not fit into memory."""
    own = common["model"].input_size
    hosts = jax.process_count()
    for field, batch_size, sizes in (
        ("batch_size", config.batch_size, training_sizes(config.data, own)),
        ("eval_batch_size", common["eval_batch_size"], evaluation_sizes(config.data, own)),
    ):
        check_batch_memory(field, batch_size // hosts, max(sizes, key=math.prod), config.data.threads)


def _common(config: ConfigDict, name: str, model_of: Callable[[Mapping], BackboneConfig]) -> dict:
    """The fields of an `Experiment` with a model, by its name and what it is for fields that the data decide."""
    # The model first: its mistakes are found without touching any data.
    kind, task = model_of({}).kind, find_task(config.task)
    mesh = create_mesh(config.devices, config.fsdp)
    eval_source = task.open_source(config.data, "eval", kind)
    model = model_of(task.model_fields(eval_source))
    task = task(config, model, eval_source)
    check_source(eval_source, config.data, model.input_size)
    eval_batch_size = config.eval_batch_size or config.batch_size
    check_batch_size("eval_batch_size" if config.eval_batch_size else "batch_size", eval_batch_size, mesh)
    return {
        "config": config,
        "model_name": name,
        "model": model,
        "bind": bind_model(model),
        "mesh": mesh,
        "task": task,
        "eval_source": eval_source,
        "eval_batch_size": eval_batch_size,
    }


def resolve_pretrained(config: ConfigDict, workdir: epath.Path | None = None) -> tuple[ConfigDict, NamedModel | None]:
    """Checks a config, and takes from a checkpoint what it leaves to one: the model, the data's mean and std.

    The checkpoint is the newest of `workdir` or, where there is none yet, `init_from`'s, which may be gone later.

    Returns:
      The config with mean and std, and the checkpoint's model where the config names none.

    Raises:
      ConfigError: for a config that will not do.
      CheckpointError: if there is no such checkpoint.
    """
    check_fields(config)
    base = None
    normalization = [name for name in ("mean", "std") if not len(config.data[name])]
    if not config.model.name or normalization:
        own = workdir is not None
        if not own and not config.init_from:
            what, other = ("model.name is ''", "--config.model.name=posmlp_t")
            if config.model.name:
                what, other = f"data.{normalization[0]} is ()", f"--config.data.{normalization[0]}='(0.5,0.5,0.5)'"
            raise ConfigError(
                f"{what}, which means that of a checkpoint: set --config.init_from=DIR to one, or {other}"
            )
        pretrained = open_newest(workdir) if own else open_init(config)
        base = None if config.model.name else NamedModel(pretrained.name, pretrained.config)
        config = copy.deepcopy(config)
        config.data.update({name: tuple(pretrained.data[name]) for name in normalization})
    check_values(config)
    return config, base


def open_init(config: ConfigDict) -> Pretrained:
    """The trained model that a config's `init_from` names; to be called on all hosts.

    Raises:
      ConfigError: for an `init_step` or `init_weights` that cannot be.
      CheckpointError: if there is no such checkpoint.
    """
    check_selection(config.init_step, config.init_weights, "init_")
    return open_together(config.init_from, step=config.init_step, weights=config.init_weights)
