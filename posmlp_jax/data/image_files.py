"""Image files by what a user names: files, folders and patterns."""

import glob
import os
from collections.abc import Iterable, Iterator

from posmlp_jax.data.class_folders import IMAGES
from posmlp_jax.errors import DataError

StrPath = str | os.PathLike[str]


def find_images(paths: StrPath | Iterable[StrPath]) -> list[str]:
    """The image files that are meant, each once, in the order of `paths` and sorted by name below each of them.

    A file is taken whatever its suffix. A folder stands for all files of the usual suffixes (`class_folders.IMAGES`)
    in it and its sub-folders, a pattern (`*`, `?`, `[…]`, and `**` for any depth) for those and the folders that it
    matches. Hidden files and folders are left out unless they are named.

    Args:
      paths: one or several; a leading `~` is the home folder.

    Returns:
      The files' names, beginning as they were given.

    Raises:
      DataError: for a file that does not exist, a folder that cannot be read, or one of `paths` without any image.
    """
    files = {}
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        for file in _expand(os.fspath(path)):
            # However a file is reached, it is one file; a link to it is another.
            files.setdefault(os.path.abspath(file), file)
    if not files:
        raise DataError("no images are given: name files, folders or patterns")
    return list(files.values())


def _expand(given: str) -> list[str]:
    path = given if os.path.lexists(given) else os.path.expanduser(given)
    if os.path.isdir(path):
        return _required(_walk(path, set()), f"in {path} or its sub-folders")
    if os.path.exists(path):
        return [path]
    if not glob.has_magic(path):
        raise DataError(f"there is no file or folder '{given}'")
    seen = set()
    found = []
    for match in sorted(glob.glob(path, recursive=True), key=_parts):
        found += _walk(match, seen) if os.path.isdir(match) else [match] if _is_image(match) else []
    return _required(found, f"for the pattern '{given}'")


def _required(files: Iterable[str], where: str) -> list[str]:
    files = list(files)
    if not files:
        raise DataError(f"no images ({', '.join(IMAGES.suffixes)}) {where}")
    return files


def _walk(folder: str, seen: set[str]) -> Iterator[str]:
    """The images below a folder; `seen` are the folders that were looked into, so that links make no circles."""
    if (real := os.path.realpath(folder)) in seen:
        return
    seen.add(real)
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read: {error.strerror}") from error
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            yield from _walk(path, seen)
        elif _is_image(path):
            yield path


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGES.suffixes) and os.path.isfile(path)


def _parts(path: str) -> list[str]:
    return path.split(os.sep)
