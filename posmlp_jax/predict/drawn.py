"""A drawn picture of each file: the image with what the model found in it."""

import contextlib
import io
import itertools
import os
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath

import numpy as np
from PIL import Image

from posmlp_jax.data.decoding.images import decode
from posmlp_jax.data.sources.class_folders import IMAGES
from posmlp_jax.data.sources.files import FileSource
from posmlp_jax.errors import BrokenExampleError, ConfigError
from posmlp_jax.paths import as_path, in_bucket
from posmlp_jax.tasks.predictor import FilePrediction
from posmlp_jax.terminal import printable
from posmlp_jax.writing import check_result, write_result

_THREADS = min(os.cpu_count() or 1, 16)
_LEAST_SIDE = 384
# What Pillow calls the formats, by a file's ending. Letters and lines are blurred where colours have half the pixels.
_JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}
_FORMATS = {".jpg": _JPEG, ".jpeg": _JPEG, ".png": {"format": "PNG", "compress_level": 3}}


def names_below(files: Sequence[str]) -> list[str]:
    """What files are called below the folder that all of them are in: 'a.jpg', or 'cats/a.jpg' and 'dogs/a.jpg'."""
    parts = [(file if in_bucket(file) else os.path.abspath(file)).split("/") for file in files]
    folders = [each[:-1] for each in parts]
    # What the first and the last one have in common, all in between have.
    levels = zip(min(folders), max(folders), strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda level: level[0] == level[1], levels))
    return ["/".join(each[shared:]) for each in parts]


class DrawnFiles:
    """Draws what predictions say into their files' images, in threads, as pictures in a folder.

    They have the files' names below the folder that all files share, so that two of one name do not collide. JPEGs and
    PNGs stay what they are; others become PNGs, 'a.webp.png'. They have the images' own sizes, but that small ones are
    enlarged, two times or more: letters would cover what they are about. Nothing that is there is written over.

    Args:
      folder: where they go. It is made when the first one is written.
      files: the names of all files that there will be.
      others: what else is to be written, none of which may be one of the pictures.

    Raises:
      ConfigError: where it cannot be written, or a picture is there already.
    """

    def __init__(self, folder: str | os.PathLike, files: Sequence[str], others: Iterable[str | os.PathLike] = ()):
        if not os.fspath(folder):
            raise ConfigError("--drawn names no folder")
        self._folder, self._targets, taken, folder = folder, {}, set(), as_path(folder)
        if not in_bucket(folder):
            # As it is written to: `x/..`, without an x, is no folder, but becomes one.
            folder = as_path(os.path.realpath(folder))
        for file, name in zip(files, names_below(files), strict=True):
            while _suffix(name) not in _FORMATS or name in taken:
                name += ".png"
            taken.add(name)
            self._targets[file] = folder / name
        others = {os.path.realpath(other) for other in others if not in_bucket(other)}
        for target in self._targets.values():
            if target.exists():
                raise ConfigError(f"{target} is there already; choose another --drawn, or delete it")
            if not others.isdisjoint(map(os.fspath, (target, *target.parents))):
                raise ConfigError(
                    f"{target} cannot be drawn where something else is to be written; choose another --drawn"
                )
            check_result(target)
        self._pool, self._under_way = ThreadPoolExecutor(_THREADS), deque()
        self._drawn, self._failures = 0, []

    @property
    def failed(self) -> int:
        """How many could not be read again."""
        return len(self._failures)

    def add(self, prediction: FilePrediction) -> None:
        """Draws a file that could be read; waits where many others are still being drawn."""
        self._under_way.append(self._pool.submit(self._draw, prediction))
        if len(self._under_way) > 2 * _THREADS:
            self._take()

    def finish(self) -> list[str]:
        """Waits for all of them; lines that say which are no longer there, and how many were drawn."""
        while self._under_way:
            self._take()
        return [*self._failures, f"drew {self._drawn} of {len(self._targets)} files into {self._folder}"]

    def close(self) -> None:
        """Ends the threads; what they have not yet begun is not drawn."""
        self._pool.shutdown(cancel_futures=True)

    def _take(self) -> None:
        failure = self._under_way.popleft().result()
        if failure is None:
            self._drawn += 1
        else:
            self._failures.append(failure)

    def _draw(self, prediction: FilePrediction) -> str | None:
        """Draws one file; the reason in a line where it is no longer there, or another one by now."""
        try:
            encoded, _ = FileSource([prediction.file], IMAGES).read(0)
            image = decode(encoded)
        except BrokenExampleError as error:
            return f"cannot draw {printable(prediction.file)}: {printable(error.reason)}"
        except OSError as error:
            return f"cannot draw {printable(prediction.file)}: {error.strerror or error}"
        target, content = self._targets[prediction.file], io.BytesIO()
        with contextlib.closing(content):
            Image.fromarray(prediction.drawn_into(_enlarged(image))).save(content, **_FORMATS[_suffix(target.name)])
            write_result(target, content.getvalue())
        return None


def _enlarged(image: np.ndarray) -> np.ndarray:
    """An image so many times as large that one of its sides is at least `_LEAST_SIDE`; most are that as they are."""
    times = -(-_LEAST_SIDE // max(image.shape[:2]))
    return image.repeat(times, axis=0).repeat(times, axis=1) if times > 1 else image


def _suffix(name: str) -> str:
    return PurePath(name).suffix.lower()
