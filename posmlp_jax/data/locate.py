"""Where prepared data sets lie: `data_dir/name[/config]/version`, as tfds lays them out."""

import os
import re
from pathlib import Path

_VERSION = re.compile(r"\d+\.\d+\.\d+")


def data_folder(data_dir: str) -> Path:
    """The folder of all prepared data sets: `data_dir`, or where tfds keeps them when that is ''."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser().resolve()


def find_version(folder: Path, version: str | None = None) -> Path | None:
    """The sub-folder of `folder` with the highest version (or `version`) that was prepared to the end, or None."""
    if not folder.is_dir():
        return None
    names = [version] if version else [path.name for path in folder.iterdir() if _VERSION.fullmatch(path.name)]
    prepared = [name for name in names if (folder / name / "dataset_info.json").is_file()]
    if not prepared:
        return None
    return folder / max(prepared, key=lambda name: tuple(map(int, name.split("."))))
