"""Batches that are made ahead of their use, by threads or processes."""

import threading
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import cv2
import grain
import numpy as np
from absl import flags

from posmlp_jax.data.decoding.replacement import BrokenExamples, DamagedVideos

Batch = dict[str, np.ndarray]


class Batches(Iterator[Batch]):
    """An iterator over batches whose threads and processes begin at once, and end with `close`, or with the program.

    Until then cv2 has one thread: its own ones would only compete with those of the loader.

    Attributes:
      broken: what training batches have replaced so far; None for evaluation, which replaces nothing.
      damaged: which videos have had frames that could not be decoded.
    """

    def __init__(self, iterator: grain.DatasetIterator, damaged: DamagedVideos, broken: BrokenExamples | None = None):
        self._under_way = [iterator]
        self.damaged, self.broken = damaged, broken
        # Grain's own clean-up runs when the interpreter has already lost its modules, and prints tracebacks then: at
        # the program's end nothing may refer to the iterator any more.
        self._finalizer = weakref.finalize(self, _end, self._under_way)
        _ONE_THREAD.take()
        iterator.start_prefetch()

    def __next__(self) -> Batch:
        """The next batch."""
        if not self._under_way:
            raise ValueError("these batches are closed")
        batch = next(self._under_way[0])
        self.damaged.add(batch["index"], batch.pop("damaged"))
        if self.broken is not None:
            self.broken.add(batch.pop("broken"))
        return batch

    def close(self) -> None:
        """Ends the threads and processes; there are no batches after it."""
        self._finalizer()


def _end(under_way: list[grain.DatasetIterator]) -> None:
    under_way.pop().close()
    _ONE_THREAD.give_back()


class _OneThread:
    """Keeps cv2 in this process to one thread, for as long as anybody needs that."""

    def __init__(self):
        self._lock, self._takers, self._before = threading.Lock(), 0, 0

    def take(self) -> None:
        """One more needs it."""
        with self._lock:
            if not self._takers:
                self._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._takers += 1

    def give_back(self) -> None:
        """One fewer does; with the last, cv2 has as many threads as before the first."""
        with self._lock:
            self._takers -= 1
            if not self._takers:
                cv2.setNumThreads(self._before)


_ONE_THREAD = _OneThread()


def _start_process(index: int, count: int) -> None:
    """Prepares a loading process, which is all ours."""
    del index, count
    cv2.setNumThreads(1)
    # Pillow's remarks on odd files that it reads all the same would be printed among the log's lines.
    warnings.filterwarnings("ignore", module=r"PIL\.")


def load(dataset: grain.MapDataset, config: Any) -> grain.DatasetIterator:
    """Works through the batches with `config.threads` threads, or in `config.processes` processes."""
    if config.processes:
        if not flags.FLAGS.is_parsed():
            # Grain hands absl's flags on to its processes, and needs them parsed even where a program has none.
            flags.FLAGS.mark_as_parsed()
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        workers = grain.MultiprocessingOptions(num_workers=config.processes, per_worker_buffer_size=1)
        return iter(dataset.to_iter_dataset(options).mp_prefetch(workers, _start_process))
    options = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=config.threads + 1)
    return iter(dataset.to_iter_dataset(options))
