"""Files as batches of what evaluation would see of them."""

import os
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np

from posmlp_jax.checkpoints.pretrained import Pretrained
from posmlp_jax.data import evaluation_sizes
from posmlp_jax.data.canvases import Canvases
from posmlp_jax.data.decoding.examples import InputSize
from posmlp_jax.data.sources.class_folders import IMAGES, VIDEOS, Kind
from posmlp_jax.data.sources.files import FileSource, has_suffix
from posmlp_jax.data.views import EvalViews
from posmlp_jax.errors import BrokenExampleError
from posmlp_jax.tasks.predictor import FilePrediction
from posmlp_jax.terminal import printable
from posmlp_jax.training.saved_config import data_config

_THREADS = min(os.cpu_count() or 1, 16)


class FileBatch(NamedTuple):
    """Some files as a model sees them.

    Attributes:
      pixels: uint8 [B, *EvalViews.shape]; rows of files that cannot be read, and those that a last batch has too many,
        are black.
      sizes: int32 [B, 2], the `FilePrediction.fitted` of each row, and of black ones all of it.
      files: what is known of them, by their numbers, row by row.
    """

    pixels: np.ndarray
    sizes: np.ndarray
    files: dict[int, FilePrediction]


class Loader:
    """Reads, decodes and crops files in threads.

    Args:
      files: their names.
      pretrained: the model; its config says how files are looked at.
      clips: views in time.
      crops: views in space.
      batch_size: files in a batch.
    """

    def __init__(self, files: Sequence[str], pretrained: Pretrained, clips: int, crops: int, batch_size: int):
        self._files, self._kind = files, takes(pretrained)
        self._clips, self._batch_size = clips, batch_size
        source, data = FileSource(files, self._kind), data_config(pretrained)
        self._sizes = evaluation_sizes(data, pretrained.config.input_size)
        self._canvases = Canvases(self._sizes, data)
        self._views = EvalViews(source, data, self._sizes, clips, crops)

    def batches(self) -> Generator[FileBatch, None, None]:
        """Batches in the order of the files, each of one size: of several canvases, as files have filled one.

        No file waits until its canvas is full if many others have come after it. Threads work a few batches ahead; they
        end with the generator.
        """
        pool = ThreadPoolExecutor(_THREADS)
        waiting = [{} for _ in self._sizes]
        most = len(self._sizes) * self._batch_size
        try:
            numbers = iter(range(len(self._files)))
            ahead = deque(
                pool.submit(self._load, number)
                for number in islice(numbers, (2 + _THREADS // self._batch_size) * self._batch_size)
            )
            for number in range(len(self._files)):
                file, canvas, pixels = ahead.popleft().result()
                ahead.extend(pool.submit(self._load, later) for later in islice(numbers, 1))
                waiting[canvas][number] = file, pixels
                for size, files in zip(self._sizes, waiting, strict=True):
                    if files and (len(files) == self._batch_size or number - next(iter(files)) >= most):
                        yield self._batch(size, files)
                        files.clear()
            for size, files in zip(self._sizes, waiting, strict=True):
                if files:
                    yield self._batch(size, files)
        finally:
            pool.shutdown(cancel_futures=True)

    def _batch(self, size: InputSize, files: Mapping[int, tuple[FilePrediction, np.ndarray | None]]) -> FileBatch:
        images = np.zeros((self._batch_size, *self._views.shape(size)), np.uint8)
        sizes = np.full((self._batch_size, 2), size[-2:], np.int32)
        for row, (file, pixels) in enumerate(files.values()):
            if pixels is not None:
                images[row], sizes[row] = pixels, file.fitted
        return FileBatch(images, sizes, {number: file for number, (file, _) in files.items()})

    def _load(self, index: int) -> tuple[FilePrediction, int, np.ndarray | None]:
        """What is known of a file, and its pixels in a canvas; of one that cannot be read none, in the first one."""
        file = self._files[index]
        try:
            example = self._views.decode(index)
            canvas = self._canvases.of_image(example.size)
            pixels = np.empty(self._views.shape(self._sizes[canvas]), np.uint8)
            placement = self._views.show(pixels, example)
        except BrokenExampleError as error:
            reason = printable(error.reason)
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            frames = () if example.frames is None else example.frames.reshape(self._clips, -1).tolist()
            seen = {"frames": tuple(map(tuple, frames)), "replaced": example.damaged}
            return FilePrediction(file, **seen, size=example.size, fitted=placement.extent), canvas, pixels
        other = VIDEOS if self._kind is IMAGES else IMAGES
        hint = f"; the model takes {self._kind.noun}" if has_suffix(file, other) else ""
        return FilePrediction(file, error=reason + hint), 0, None


def takes(pretrained: Pretrained) -> Kind:
    """What a model takes: `class_folders.IMAGES` or `VIDEOS`."""
    return VIDEOS if len(pretrained.config.input_size) == 3 else IMAGES
