"""Where prepared data sets lie: `data_dir/name[/config]/version`, as tfds lays them out."""

import os
import re

from etils import epath

from posmlp_jax.paths import as_path, list_folder

_VERSION = re.compile(r"\d+\.\d+\.\d+")


def data_folder(data_dir: str) -> epath.Path:
    """The folder of all prepared data sets: `data_dir`, or where tfds keeps them when that is ''."""
    return as_path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def find_version(folder: epath.Path, version: str | None = None) -> epath.Path | None:
    """The sub-folder of `folder` with the highest version (or `version`) that was prepared to the end, or None."""
    if not folder.is_dir():
        return None
    names = [version] if version else [name for name in list_folder(folder)[0] if _VERSION.fullmatch(name)]
    prepared = [name for name in names if (folder / name / "dataset_info.json").exists()]
    if not prepared:
        return None
    return folder / max(prepared, key=lambda name: tuple(map(int, name.split("."))))
