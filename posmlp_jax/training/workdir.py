"""The working directory: one experiment's `config.json`, `checkpoints/`, `metrics.jsonl` and `tensorboard/`."""

import copy
import json
from collections.abc import Iterator, Mapping

from etils import epath
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.run import task_of
from posmlp_jax.data.fingerprint import changes
from posmlp_jax.errors import CheckpointError
from posmlp_jax.paths import list_folder
from posmlp_jax.training.config import default_config, flatten, plain
from posmlp_jax.writing import atomic_write, writing_to

# What may differ when a run goes on in its working directory: where things are and how often one looks at them.
_NOT_THE_EXPERIMENT = (
    "accept_changed_data",
    "init_from",  # Read once, before the first checkpoint, like the two that follow.
    "init_step",
    "init_weights",
    "data.data_dir",
    "data.threads",
    "data.processes",
    "data.max_broken",
    "data.test_clips",
    "data.test_crops",
    "data.test_average",
    "eval_batch_size",
    "log_every",
    "eval_every",
    "checkpoint_every",
    "profile",
    "keep_checkpoints",
    "keep_best",
    "keep_folds",
    "devices",
    "fsdp",
)
# What fields stood for in runs that began before there were such fields, where that is not today's default.
_BEFORE = {"ema_warmup": False}
_DATA = "data.json"


def read_config(workdir: epath.Path) -> dict | None:
    """What `config.json` says, or None where there is none.

    Raises:
      CheckpointError: if it is no JSON object.
    """
    path = workdir / "config.json"
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text())
        if isinstance(saved, dict):
            return saved
    except ValueError:
        pass
    raise CheckpointError(f"{path} is damaged: it should be a JSON object, the run's config; choose another --workdir")


def data_changes(workdir: epath.Path, data: Mapping) -> list[str] | None:
    """What is different in today's data, by their fingerprints, from those that the run began with (`data.json`).

    None where that is not known: of a run that began before there was such a file, and where it is damaged.
    """
    try:
        before = json.loads((workdir / _DATA).read_text())
        return [
            f"{split} data: {', '.join(found)}"
            for split in data
            if (found := list(changes(before[split], data[split])))
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def check_experiment(workdir: epath.Path, saved: Mapping | None, config: ConfigDict) -> None:
    """Checks that a working directory is free, or this experiment's.

    Args:
      workdir: the working directory.
      saved: its config, as `read_config` gives it.
      config: today's.

    Raises:
      CheckpointError: if another experiment lives there; names what differs.
    """
    if saved is not None:
        changed = list(differences(saved, plain(config)))
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise CheckpointError(
                f"{workdir} holds a different experiment ({'; '.join(changed[:3])}{more}); choose another --workdir"
            )
    elif (checkpoints := workdir / "checkpoints").is_dir() and any(list_folder(checkpoints)):
        raise CheckpointError(
            f"{workdir} holds a checkpoint without its run's config.json, so no run can go on there; start another "
            f"from it with --config.init_from={workdir} and another --workdir"
        )


def claim_workdir(workdir: epath.Path, config: ConfigDict, data: Mapping) -> None:
    """Makes the working directory this run's, which holds its lock: writes `config.json` and `data.json`.

    Args:
      workdir: the working directory.
      config: the run's.
      data: fingerprints of what it is trained and evaluated on (`data.fingerprint`), by name.

    Raises:
      CheckpointError: if another experiment lives there, or nothing can be written.
    """
    # Once more: a bucket cannot keep two runs apart as surely as a disk, and another may have begun there since.
    saved = read_config(workdir)
    check_experiment(workdir, saved, config)
    current = plain(config) if saved is None else without_newer_fields(plain(config), saved)
    with writing_to(workdir):
        for file, content in ((workdir / "config.json", current), (workdir / _DATA, data)):
            atomic_write(file, json.dumps(content, indent=2) + "\n")


def as_begun(config: ConfigDict, saved: Mapping | None) -> ConfigDict:
    """The config for going on with a run that began before there were some of the fields: these stay as they stood.

    Args:
      config: today's.
      saved: the run's own `plain` one, or None of a run that begins now.
    """
    config = copy.deepcopy(config)
    config.update({name: value for name, value in _BEFORE.items() if saved is not None and name not in saved})
    return config


def without_newer_fields(current: Mapping, saved: Mapping) -> dict:
    """`as_begun`'s config as the run's `plain` one: still without these fields, which tells the next time."""
    return {name: value for name, value in current.items() if name in saved or name not in _BEFORE}


def differences(saved: Mapping, current: Mapping) -> Iterator[str]:
    """The fields, as `name: saved -> current`, in which two `plain` configs are different experiments.

    What the saved one lacks, because the version that wrote it had no such field, counts as what it stood for then.
    """
    defaults = dict(flatten(plain(default_config(task=task_of(saved))))) | _BEFORE
    flat_saved, flat_current = defaults | dict(flatten(saved)), dict(flatten(current))
    names = [*flat_saved, *(name for name in flat_current if name not in flat_saved)]
    # Another task explains the others of its fields.
    for name in sorted(names, key=lambda name: name != "task"):
        before, now = flat_saved.get(name), flat_current.get(name)
        if before != now and name not in _NOT_THE_EXPERIMENT:
            yield f"{name}: {before} -> {now}"
