"""Image and video files by what a user names: files, folders and patterns."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from posmlp_jax.data.decoding.encoded_video import EncodedVideo, open_encoded
from posmlp_jax.data.sources.class_folders import IMAGES, VIDEOS, Kind
from posmlp_jax.data.sources.source import Source
from posmlp_jax.errors import DataError
from posmlp_jax.paths import as_path, in_bucket, list_folder

StrPath = str | os.PathLike[str]
_OTHER = {IMAGES: VIDEOS, VIDEOS: IMAGES}


def find_files(paths: StrPath | Iterable[StrPath], kind: Kind) -> list[str]:
    """The files that are meant, each once, in the order of `paths` and sorted by name below each of them.

    A file is taken whatever its suffix, and a link to what is not there too: reading it says so. A folder stands for
    all files of the usual suffixes (`Kind.suffixes`) in it and its sub-folders, a pattern (`*`, `?`, `[…]`, and `**`
    for any depth) for those and the folders that it matches. Hidden files and folders are left out unless they are
    named.

    Args:
      paths: one or several, on this machine or in a bucket; a leading `~` is the home folder.
      kind: `class_folders.IMAGES` or `VIDEOS`.

    Returns:
      The files' names, beginning as they were given.

    Raises:
      DataError: for a file that does not exist, a folder that cannot be read, or one of `paths` without any such file.
    """
    files = {}
    for path in [paths] if isinstance(paths, str | os.PathLike) else paths:
        for file in _expand(os.fspath(path), kind):
            # However a file is reached, it is one file; a link to it is another.
            files.setdefault(os.path.abspath(file), file)
    if not files:
        raise DataError(f"no {kind.noun} are given: name files, folders or patterns")
    return list(files.values())


def has_suffix(path: str, kind: Kind) -> bool:
    """Whether a file's name has one of the usual suffixes."""
    return path.lower().endswith(kind.suffixes)


def _expand(given: str, kind: Kind) -> list[str]:
    path = given if os.path.lexists(given) else os.path.expanduser(given)
    if in_bucket(given):
        path, where = os.fspath(as_path(given)), f"in {given}"
        find = _match_in_bucket if glob.has_magic(given) else _walk_bucket
    elif os.path.isdir(path):
        find, where = _walk, f"in {path} or its sub-folders"
    elif os.path.lexists(path):
        return [path]
    elif glob.has_magic(path):
        find, where = _match, f"for the pattern '{given}'"
    else:
        raise DataError(f"there is no file or folder '{given}'")
    files = list(find(path, kind, set()))
    if not files:
        other = _OTHER[kind]
        hint = f"; there are {other.noun}, but the model takes {kind.noun}" if any(find(path, other, set())) else ""
        raise DataError(f"no {kind.noun} ({', '.join(kind.suffixes)}) {where}{hint}")
    return files


def _match(pattern: str, kind: Kind, seen: set[str]) -> Iterator[str]:
    """The files that a pattern matches, and those in folders that it matches."""
    for match in sorted(glob.glob(pattern, recursive=True), key=_parts):
        if os.path.isdir(match):
            yield from _walk(match, kind, seen)
        elif _is_file(match, kind):
            yield match


def _walk(folder: str, kind: Kind, seen: set[str]) -> Iterator[str]:
    """The files below a folder; `seen` are the folders that were looked into, so that links make no circles."""
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
            yield from _walk(path, kind, seen)
        elif _is_file(path, kind):
            yield path


def _match_in_bucket(pattern: str, kind: Kind, seen: set[str]) -> Iterator[str]:
    *root, below = pattern.split("/", 3)
    if "**" in below:
        raise DataError(f"'{pattern}': in buckets there is no **; name a folder, which stands for all below it")
    for match in sorted(map(os.fspath, as_path("/".join(root)).glob(below)), key=_parts):
        if as_path(match).is_dir():
            yield from _walk_bucket(match, kind, seen)
        elif has_suffix(match, kind):
            yield match


def _walk_bucket(path: str, kind: Kind, seen: set[str]) -> Iterator[str]:
    """As `_walk`; in buckets there are no links. A file that is named is taken whatever its suffix."""
    if not as_path(path).is_dir():
        if as_path(path).exists():
            yield path
        return
    folders, files = list_folder(as_path(path))
    for name in sorted(name for name in (*folders, *files) if not name.startswith(".")):
        if name in folders:
            yield from _walk_bucket(f"{path}/{name}", kind, seen)
        elif has_suffix(name, kind):
            yield f"{path}/{name}"


def _is_file(path: str, kind: Kind) -> bool:
    return has_suffix(path, kind) and (os.path.isfile(path) or not os.path.exists(path))


def _parts(path: str) -> list[str]:
    return path.split(os.sep)


class FileSource(Source):
    """Image or video files as they lie on the disk, of which nothing else is known: every target is None.

    Args:
      files: their names.
      kind: what they are.
    """

    def __init__(self, files: Sequence[str], kind: Kind):
        self._files = files
        self.kind = "image" if kind is IMAGES else "video"
        self.description = f"{len(files)} {kind.noun}"

    def __len__(self) -> int:
        """The number of files."""
        return len(self._files)

    def read(self, index: int) -> tuple[bytes | EncodedVideo, None]:
        """The bytes of an image file, or a video that stays on the disk, and no target.

        Raises:
          BrokenExampleError: when it is no video file, or has no frame.
          OSError: when it cannot be read.
        """
        file = self._files[index]
        if self.kind == "video":
            return open_encoded(file), None
        # Not `as_path` of names on this machine: a file that is called ~ has been found by that name.
        return (as_path(file) if in_bucket(file) else Path(file)).read_bytes(), None

    def example_id(self, index: int) -> str:
        """The file's name."""
        return self._files[index]
