"""The films of a folder by their names: `videos/NAME.mp4`, or `frames/NAME/` with their frames."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from posmlp_jax.data.decoding.frame_folders import FrameFolder, open_frame_folder
from posmlp_jax.data.decoding.moments import Film, open_film
from posmlp_jax.data.sources.class_folders import VIDEOS
from posmlp_jax.errors import BrokenExampleError, DataError
from posmlp_jax.paths import list_folder

_VIDEOS, _FRAMES = "videos", "frames"


def open_named_films(
    folder: Path, names: Sequence[str], fps: float, threads: int
) -> tuple[dict[str, Film | FrameFolder], dict[str, str]]:
    """Opens films, of each of which the beginning is read; a bar on a terminal where that takes more than a second.

    Args:
      folder: with `videos` or `frames`; where a film is in both, the former is taken.
      names: the films'.
      fps: of the folders of frames.
      threads: that work at once.

    Returns:
      (the films by their names; of those that are missing or broken, why).

    Raises:
      DataError: when there is neither folder.
    """
    if not any((folder / kind).is_dir() for kind in (_VIDEOS, _FRAMES)):
        raise DataError(
            f"no {_VIDEOS}/ and no {_FRAMES}/ in {folder}: films are expected in {folder}/{_VIDEOS}/NAME.mp4 "
            f"({', '.join(VIDEOS.suffixes)}), or their frames in {folder}/{_FRAMES}/NAME/"
        )
    find = _Finder(folder, fps)
    found, wrong = {}, {}
    with (
        ThreadPoolExecutor(max(threads, 1)) as executor,
        tqdm(desc="opening films", total=len(names), unit=" films", delay=1, leave=False, disable=None) as bar,
    ):
        for name, film in zip(names, executor.map(find, names), strict=True):
            if isinstance(film, str):
                wrong[name] = film
            else:
                found[name] = film
            bar.update()
    return found, wrong


class _Finder:
    """Opens a film by its name, or says why it cannot be opened."""

    def __init__(self, folder: Path, fps: float):
        self._folder, self._fps = folder, fps
        self._files = _files_by_stem(folder / _VIDEOS)
        self._folders = {*list_folder(folder / _FRAMES)[0]} if (folder / _FRAMES).is_dir() else set()

    def __call__(self, name: str) -> Film | FrameFolder | str:
        files = self._files.get(name, ())
        if len(files) > 1:
            return f"{self._folder / _VIDEOS} has {', '.join(files)}: keep one of them"
        if not files and name not in self._folders:
            return f"no file {self._folder / _VIDEOS / name}.mp4, nor of another kind, and no folder of its frames"
        path = self._folder / _VIDEOS / files[0] if files else self._folder / _FRAMES / name
        try:
            return open_film(str(path)) if files else open_frame_folder(str(path), self._fps)
        except BrokenExampleError as error:
            return f"{path}: {' '.join(error.reason.split())}"
        except OSError as error:
            return f"{path}: {error.strerror or error}"


def _files_by_stem(folder: Path) -> Mapping[str, list[str]]:
    files: dict[str, list[str]] = {}
    for name in list_folder(folder)[1] if folder.is_dir() else ():
        stem, dot, suffix = name.rpartition(".")
        if f"{dot}{suffix.lower()}" in VIDEOS.suffixes and stem:
            files.setdefault(stem, []).append(name)
    return files
