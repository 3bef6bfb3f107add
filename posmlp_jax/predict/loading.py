"""Files as batches of what evaluation would see of them."""

import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np

from posmlp_jax.checkpoints.pretrained import Pretrained
from posmlp_jax.data.sources.class_folders import IMAGES, VIDEOS, Kind
from posmlp_jax.data.sources.files import FileSource, has_suffix
from posmlp_jax.data.views import EvalViews
from posmlp_jax.errors import BrokenExampleError
from posmlp_jax.tasks.predictor import FilePrediction
from posmlp_jax.terminal import printable
from posmlp_jax.training.saved_config import data_config

_THREADS = min(os.cpu_count() or 1, 16)


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
        self._views = EvalViews(source, data, pretrained.config.input_size, clips, crops)

    def batches(self) -> Generator[tuple[np.ndarray, list[FilePrediction]], None, None]:
        """Batches in the order of the files: uint8 [batch_size, *EvalViews.size, 3], and the files that are in it.

        Rows of files that cannot be read, and those that the last batch has too many, are black. Threads work a few
        batches ahead; they end with the generator.
        """
        pool = ThreadPoolExecutor(_THREADS)

        def submit(start: int) -> tuple[np.ndarray, list[Future]]:
            images = np.zeros((self._batch_size, *self._views.size, 3), np.uint8)
            indices = range(start, min(start + self._batch_size, len(self._files)))
            return images, [pool.submit(self._load, index, images[index - start]) for index in indices]

        try:
            starts = iter(range(0, len(self._files), self._batch_size))
            ahead = deque(map(submit, islice(starts, 2 + _THREADS // self._batch_size)))
            while ahead:
                images, futures = ahead.popleft()
                batch = [future.result() for future in futures]
                ahead.extend(map(submit, islice(starts, 1)))
                yield images, batch
        finally:
            pool.shutdown(cancel_futures=True)

    def _load(self, index: int, out: np.ndarray) -> FilePrediction:
        file = self._files[index]
        try:
            example, _ = self._views.fill(out, index)
        except BrokenExampleError as error:
            reason = printable(error.reason)
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            frames = () if example.frames is None else example.frames.reshape(self._clips, -1).tolist()
            return FilePrediction(file, frames=tuple(map(tuple, frames)), replaced=example.damaged)
        other = VIDEOS if self._kind is IMAGES else IMAGES
        hint = f"; the model takes {self._kind.noun}" if has_suffix(file, other) else ""
        return FilePrediction(file, error=reason + hint)


def takes(pretrained: Pretrained) -> Kind:
    """What a model takes: `class_folders.IMAGES` or `VIDEOS`."""
    return VIDEOS if len(pretrained.config.input_size) == 3 else IMAGES
