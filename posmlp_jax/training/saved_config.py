"""A run's own config, for evaluating it without any other: what `main.py --mode=eval` takes as its config file.

An evaluation is of what the checkpoint is. Of its config it may change what it reads and what leaves the weights their
meaning: the data but for `mean` and `std`, `eval_batch_size`, `devices`, `fsdp` and `model.dtype`.
"""

import copy
import json
from collections.abc import Iterable, Mapping

from ml_collections import ConfigDict

from posmlp_jax.checkpoints.architecture import different_fields
from posmlp_jax.checkpoints.folders import folder_of
from posmlp_jax.checkpoints.pretrained import Pretrained
from posmlp_jax.checkpoints.run import as_tuples, newest_config, task_of
from posmlp_jax.data import Source, evaluation_sizes
from posmlp_jax.data.augment.augmentation import WHOLE
from posmlp_jax.data.fingerprint import fingerprint, hash_lines
from posmlp_jax.errors import CheckpointError, ConfigError
from posmlp_jax.models.backbone import COMPUTING
from posmlp_jax.models.registry import NamedModel
from posmlp_jax.tasks import find_task
from posmlp_jax.training.config import check_fields, default_config, flatten, plain
from posmlp_jax.training.workdir import as_begun, data_changes, read_config

# Besides all of `data` and `model`, which `evaluated` compares with what the checkpoint holds.
_READ = ("eval_batch_size", "devices", "fsdp")
# Fields of `data` that say what an evaluation sees of an example.
_OF_CLIPS_AND_CROPS = ("eval_crop", "sampling", "stride", "fps", "frame_side", "short_side", "long_side")


def get_config(workdir: str) -> ConfigDict:
    """The config of the run in a working directory, or that a checkpoint has in place of one, as the zoo's models do.

    Raises:
      CheckpointError: if there is none, or another version's.
    """
    folder = folder_of(workdir)
    saved = read_config(folder)
    if saved is None:
        saved = newest_config(folder)
    return from_plain(saved, workdir)


def from_plain(saved: Mapping, workdir: str) -> ConfigDict:
    """A config from its `plain` form, in which lists stand for tuples and newer fields are missing.

    Raises:
      CheckpointError: if it has a field that there is none of today, or a value of another kind.
      ConfigError: if there is no such task.
    """
    config = as_begun(default_config(task=task_of(saved)), saved)
    known = dict(flatten(config))
    for name, value in flatten(saved):
        if name not in known:
            raise CheckpointError(f"the run in {workdir} has a config field '{name}', which this version does not know")
        section, _, field = name.rpartition(".")
        try:
            (config[section] if section else config)[field] = as_tuples(value)
        except TypeError as error:  # Of another kind, as someone has written it there.
            raise CheckpointError(
                f"the run in {workdir} has {name} {value!r} in its config, and should have one like {known[name]!r}"
            ) from error
    return config


def check_overrides(names: Iterable[str], config: ConfigDict, workdir: str) -> None:
    """Checks the fields that an evaluation's command line sets, before they are without effect in silence.

    Raises:
      ConfigError: for one that no evaluation reads, and that is not as it was in the run.
    """
    saved, given = dict(flatten(plain(get_config(workdir)))), dict(flatten(plain(config)))
    read = (*_READ, *find_task(config.task).evaluation_fields)
    for name in names:
        if name not in read and not name.startswith(("data.", "model.")) and given[name] != saved[name]:
            raise ConfigError(
                f"{name} is {given[name]!r} here and {saved[name]!r} in the run in {workdir}, and no evaluation reads "
                f"it; leave --config.{name} out"
            )


def data_config(pretrained: Pretrained) -> ConfigDict:
    """The `data` section of the config that a model was trained with; what an older one lacks is the default."""
    return ConfigDict({**default_config(task=pretrained.task).data.to_dict(), **pretrained.data})


def protocol(config: ConfigDict, pretrained: Pretrained, source: Source) -> str:
    """What sets an evaluation apart from those that the run itself made, for names of files; '' where nothing does.

    As '4x3_views', 'eval_crop=1.0' or, of other examples, 'data_1f3a5b7c', the beginning of their fingerprint's hash.
    """
    here, there, data = config.data, data_config(pretrained), fingerprint(source)
    parts = []
    if data_changes(pretrained.workdir, {"evaluation": data}):
        parts.append(f"data_{hash_lines([json.dumps(data, sort_keys=True)])[:8]}")
    parts += [f"{name}={here[name]}" for name in _OF_CLIPS_AND_CROPS if here[name] != there[name]]
    # What evaluation sees is one of two things, whatever crop training takes.
    parts += [f"crop={here.crop}"] if (here.crop in WHOLE) != (there.crop in WHOLE) else []
    parts += [f"eval_score={here.films.eval_score}"] if here.films.eval_score != there.films.eval_score else []
    canvases, before = (evaluation_sizes(data, pretrained.config.input_size) for data in (here, there))
    if canvases != before:
        parts.append(f"canvases={'+'.join('x'.join(map(str, size)) for size in canvases)}")
    # While it trains, a run takes one view of each example.
    if here.test_clips * here.test_crops > 1:
        parts.append(f"{here.test_clips}x{here.test_crops}_views")
        parts += [here.test_average] if here.test_average != there.test_average else []
    if names := find_task(config.task).evaluation_fields:
        saved = get_config(pretrained.workdir)
        parts += [f"{name}={config[name]}" for name in names if config[name] != saved[name]]
    return "_".join(parts)


def evaluated(config: ConfigDict, pretrained: Pretrained) -> tuple[ConfigDict, NamedModel]:
    """The config for evaluating a checkpoint, with its mean and std, and its model.

    Raises:
      ConfigError: lists what the config says of these that the checkpoint contradicts.
    """
    check_fields(config)
    given = {name: value for name, value in config.model.to_dict().items() if name != "name" and value is not None}
    asked, own = pretrained.config.replace(**given), pretrained.config
    differing = [f"model.{each}" for each in different_fields(own, asked, COMPUTING)]
    if config.model.name not in ("", pretrained.name):
        differing.insert(0, f"model.name {pretrained.name!r} there, {config.model.name!r} here")
    if config.task != pretrained.task:
        differing.insert(0, f"task {pretrained.task!r} there, {config.task!r} here")
    config = copy.deepcopy(config)
    for name in ("mean", "std"):
        there, here = as_tuples(pretrained.data[name]), tuple(config.data[name])
        if here and here != there:
            differing.append(f"data.{name} {there} there, {here} here")
        config.data[name] = there
    if differing:
        raise ConfigError(
            f"an evaluation takes a model as it was trained, and of that of {pretrained.place} the config says "
            f"something else: {'; '.join(differing)}"
        )
    return config, NamedModel(pretrained.name, own.replace(dtype=asked.dtype))
