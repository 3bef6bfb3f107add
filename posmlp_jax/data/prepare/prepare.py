"""Prepares a data set for training, without TensorFlow."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

from etils import epath

from posmlp_jax.data.prepare.datasets import BUILDERS
from posmlp_jax.data.prepare.shards import check_source, write_dataset
from posmlp_jax.data.sources.tfds_layout import data_folder, find_version
from posmlp_jax.errors import ConfigError, DataError, nearest
from posmlp_jax.paths import as_path, in_bucket

# Of Kinetics-400, a few percent are gone from where they were downloaded.
MAX_BROKEN = 0.1


def prepare(
    name: str,
    source: str | None = None,
    data_dir: str = "",
    under: str | None = None,
    max_broken: float = MAX_BROKEN,
    report: Callable[[str], None] = logging.info,
) -> epath.Path:
    """Writes the data set `name` as array_record, in tfds' layout, or in files of its own; goes on if it was begun.

    One that is there already is left as it is, if it was prepared from the same source or does not say from which.

    Args:
      name: one of `BUILDERS`.
      source: the file or folder that holds the images or videos, on this machine; see the builder's `official`.
      data_dir: where prepared data sets lie, on this machine or in a bucket; '' is tfds' own folder.
      under: the name to prepare it under; None keeps `name`.
      max_broken: the share of its videos, in [0, 1], that may be left out because they are missing or broken. Those
        that are left out are listed in `unreadable.txt` in the data set's folder.
      report: takes lines about what is odd in the source, before anything is written.

    Returns:
      The folder of the prepared data set, `data_dir/name/version`.

    Raises:
      ConfigError: when `max_broken` is no share.
      DataError: when the name is unknown, the source missing or broken, or another than the data set was prepared
        from, or the folder cannot be written.
    """
    if not 0 <= max_broken <= 1:
        raise ConfigError(f"--max_broken must be a share in [0, 1], not {max_broken}")
    if name not in BUILDERS:
        raise DataError(f"no builder for '{name}': {nearest(name, BUILDERS)}")
    builder = BUILDERS[name]
    if builder.source and source is None:
        raise DataError(f"'{name}' needs --source={builder.source}: {builder.official}")
    path = None if source is None else as_path(source)
    if path is not None and in_bucket(path):
        raise DataError(f"--source={source} is in a bucket, and is read from this machine's disks: copy it to one")
    if path is not None and not path.exists():
        raise DataError(f"--source={source} does not exist; '{name}' is prepared from {builder.official}")
    if under is not None and (not re.fullmatch(r"\w+", under) or under in {*BUILDERS, "synthetic"} - {name}):
        raise DataError(f"--name={under} cannot be used: letters, digits and _, and not another data set's name")
    folder = data_folder(data_dir)
    recipe = builder.build(path and Path(path).resolve(), under or name)
    for note in recipe.notes:
        report(note)
    done = find_version(folder / recipe.name)
    if done is None:
        return write_dataset(recipe, folder, max_broken)
    check_source(recipe, done)
    return done
