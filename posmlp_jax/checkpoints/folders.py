"""Checkpoints as folders `WORKDIR/checkpoints/<step>/`: which there are, and which one a path names.

Nothing here asks JAX for its devices, which nothing may do before hosts have met (`hosts.connect`).
"""

import itertools
import os
import re

import orbax.checkpoint as ocp
from etils import epath

from posmlp_jax.checkpoints import zoo
from posmlp_jax.errors import CheckpointError
from posmlp_jax.paths import as_path


def folder_of(path: epath.PathLike) -> epath.Path:
    """The folder that is meant: a path's or, of a bare name that nothing here has, that of the zoo's model.

    Raises:
      CheckpointError: for a bare name that is neither.
    """
    folder, name = as_path(path), os.fspath(path)
    return zoo.find(name) if re.fullmatch(r"[\w-]+", name) and not folder.exists() else folder


def checkpoints_folder(workdir: epath.PathLike) -> epath.Path:
    """The folder that holds the checkpoints of a working directory."""
    return as_path(workdir) / "checkpoints"


def has_checkpoint(workdir: epath.PathLike) -> bool:
    """Whether a working directory holds a complete checkpoint."""
    return bool(_steps(checkpoints_folder(workdir)))


def newest_checkpoint(workdir: epath.PathLike) -> epath.Path:
    """The folder of a working directory's newest complete checkpoint.

    Raises:
      CheckpointError: if there is none.
    """
    folder = checkpoints_folder(workdir)
    if not (steps := _steps(folder)):
        raise no_checkpoint_in(folder)
    return folder / str(max(steps))


def no_checkpoint_in(folder: epath.Path) -> CheckpointError:
    """What to raise where there should be checkpoints, and there are none."""
    name = folder.parent.name
    shipped = f"; '{name}' alone is the zoo's where no folder has that name" if name in zoo.list_pretrained() else ""
    # Those of folds go when these have ended, and in the folder above there are never any.
    of_folds = (folder.parent / "folds").exists() or (folder.parent / "predictions.csv").exists()
    kept = ", as folds of --mode=leave_one_out have with --config.keep_folds=True" if of_folds else ""
    return CheckpointError(f"there is no checkpoint in {folder}; name the folder of a run that has one{kept}{shipped}")


def locate(path: epath.PathLike, step: str | int) -> tuple[epath.Path, str | int]:
    """The working directory and the step that a path names.

    Args:
      path: a working directory, its `checkpoints/`, one checkpoint in it, or what else `folder_of` takes.
      step: 'latest' or what else is asked for of a path that names no step itself.

    Raises:
      CheckpointError: for a file, a path of one checkpoint and the step of another, or as `folder_of`.
    """
    path = folder_of(path)
    if path.is_file():
        raise CheckpointError(
            f"{path} is a file; make a checkpoint of it with "
            f"python -m posmlp_jax.convert --source={path} --model=posmlp_t --output=DIR"
        )
    if path.name == "checkpoints" and path.is_dir():
        return path.parent, step
    if path.parent.name == "checkpoints" and path.name.isdecimal():
        if str(step) not in ("latest", path.name):
            raise CheckpointError(f"{path} is the checkpoint of step {path.name}, and step '{step}' asks for another")
        return path.parent.parent, int(path.name)
    return path, step


def rename_damaged(folder: epath.Path) -> str:
    """Gives a checkpoint's folder a name that is no step's; returns it."""
    names = (f"{folder.name}.damaged{count or ''}" for count in itertools.count())
    path = next(path for path in (folder.with_name(name) for name in names) if not path.exists())
    folder.rename(path)
    return path.name


def _steps(folder: epath.Path) -> list[int]:
    return list(ocp.utils.checkpoint_steps(folder)) if folder.is_dir() else []
