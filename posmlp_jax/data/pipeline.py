"""Batches for training and evaluation.

The training stream is a function of (seed, step) alone: the numbers of threads, processes and hosts do not change it,
and it can be entered at any step. That holds because order and random numbers go by the example's place in the stream,
and because a batch is one piece of work for the threads and processes.
"""

import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np
from absl import flags

from posmlp_jax.data.augmentation import Augmentation
from posmlp_jax.data.broken import BrokenImages, read_decodable
from posmlp_jax.data.cache import DecodedImages
from posmlp_jax.data.source import Source
from posmlp_jax.data.transforms import center_crop
from posmlp_jax.errors import ConfigError, DataError

Batch = dict[str, np.ndarray]
# Training images are kept decoded when all of them fit into this.
KEEP_BYTES = 512 * 2**20
_ENDLESS = 2**40  # steps


class Batches(Iterator[Batch]):
    """An iterator over batches whose threads and processes end with `close`, or at the latest with the program.

    Attributes:
      broken: what training batches have replaced so far; None for evaluation, which replaces nothing.
    """

    def __init__(self, iterator: grain.DatasetIterator, broken: BrokenImages | None = None):
        self._under_way = [iterator]
        self.broken = broken
        # Grain's own clean-up runs when the interpreter has already lost its modules, and prints tracebacks then: at
        # the program's end nothing may refer to the iterator any more.
        self._finalizer = weakref.finalize(self, _end, self._under_way)

    def __next__(self) -> Batch:
        """The next batch."""
        if not self._under_way:
            raise ValueError("these batches are closed")
        batch = next(self._under_way[0])
        if self.broken is not None:
            self.broken.add(batch.pop("broken"))
        return batch

    def close(self) -> None:
        """Ends the threads and processes; there are no batches after it."""
        self._finalizer()


def _end(under_way: list[grain.DatasetIterator]) -> None:
    under_way.pop().close()


def train_batches(
    source: Source,
    config: Any,
    image_size: tuple[int, int],
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    report: Callable[[str], None] = logging.warning,
) -> Batches:
    """Endless augmented batches; every epoch has its own order, and batches go across epochs' borders.

    Args:
      source: the images.
      config: the `data` section of a config.
      image_size: (height, width).
      batch_size: images a step, over all processes.
      seed: of order and augmentation.
      start_step: the step of the first batch; the stream is the one that a run from step 0 has there.
      process_index: which of `process_count` JAX processes this is.
      process_count: process p gets the p-th part of each step's examples, so that the processes' parts one after the
        other are the batch that a single process would have.
      report: takes the lines that name broken images.

    Returns:
      An iterator of `{'image': uint8 [B, height, width, 3], 'label': int32 [B], 'index': int64 [B]}`, B being
      batch_size / process_count, and the index being the example's in `source`. An image that cannot be decoded is
      replaced by another (`broken.read_decodable`); the iterator's `broken` counts them. Close it when it is done with.

    Raises:
      ConfigError: when the batch size is not divisible, or as `check_config`.
      DataError: when there is no image; from the iterator, when a label is out of range, a file cannot be read, or more
        images are broken than `config.max_broken` allows.
    """
    check_config(config)
    if len(source) == 0:
        raise DataError(f"no images to train on ({source.description})")
    make_batch = _TrainBatch(source, config, image_size, seed, _Places(batch_size, process_index, process_count))
    steps = grain.MapDataset.range(start_step, _ENDLESS).map(make_batch)
    return Batches(_load(steps, config), BrokenImages(source, config.max_broken, report))


def eval_batches(
    source: Source,
    config: Any,
    image_size: tuple[int, int],
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """Every example once, in order; what is missing in the last batch is filled up with weight 0.

    Arguments and errors are those of `train_batches`, but an image that cannot be decoded is a DataError from the
    iterator: an accuracy over other images than it says would be wrong. All processes get the same number of batches.

    Returns:
      An iterator of `{'image', 'label', 'index', 'weight': float32 [B]}`, the weight being 1 for an example and 0 for
      a filler (an empty image with label 0 and index -1).
    """
    check_config(config)
    make_batch = _EvalBatch(source, config, image_size, _Places(batch_size, process_index, process_count))
    steps = grain.MapDataset.range(-(-len(source) // batch_size)).map(make_batch)
    return Batches(_load(steps, config))


def check_config(config: Any) -> None:
    """Checks what the `data` section of a config says about augmentation and loading.

    Raises:
      ConfigError: for the first value that makes no sense.
    """
    Augmentation(config, (1, 1))
    if not 0 < config.eval_crop <= 1:
        raise ConfigError(f"eval_crop must be a share in (0, 1], not {config.eval_crop}")
    if not 0 <= config.max_broken <= 1:
        raise ConfigError(f"max_broken must be a share in [0, 1], not {config.max_broken}")
    if config.threads < 0 or config.processes < 0:
        raise ConfigError(f"threads ({config.threads}) and processes ({config.processes}) must not be negative")


class _Places:
    """Which places of the stream this process has in each step."""

    def __init__(self, batch_size: int, process_index: int, process_count: int):
        if batch_size < 1 or batch_size % process_count:
            raise ConfigError(
                f"batch size {batch_size} must be a positive multiple of the {process_count} JAX processes"
            )
        self._batch_size, self._share = batch_size, batch_size // process_count
        self._first = process_index * self._share

    def __call__(self, step: int) -> range:
        start = step * self._batch_size + self._first
        return range(start, start + self._share)


class _TrainBatch:
    """Reads, decodes and augments the examples of one step."""

    def __init__(self, source: Source, config: Any, image_size: tuple[int, int], seed: int, places: _Places):
        self._size, self._seed, self._places = tuple(image_size), seed, places
        self._length = len(source)
        self._order = grain.MapDataset.range(self._length).seed(seed).shuffle().repeat()
        self._augmentation = Augmentation(config, image_size)
        # Processes would each keep all images.
        self._images = DecodedImages(source, self._augmentation.min_size, 0 if config.processes else KEEP_BYTES)

    def __call__(self, step: int) -> Batch:
        places = self._places(step)
        batch = _empty_batch(len(places), self._size, broken=np.int64)
        for row, place in enumerate(places):
            # Each place has its own part of one generator's sequence, 2¹²⁸ numbers long.
            rng = np.random.Generator(np.random.Philox(key=self._seed, counter=place << 128))
            image, label, index, broken = read_decodable(self._images, self._order[place], self._length, rng)
            # Straight into the batch: other memory for as many images would be another third of the time, or more.
            batch["image"][row] = self._augmentation(image, rng)
            batch["label"][row], batch["index"][row], batch["broken"][row] = label, index, broken
        return batch


class _EvalBatch:
    """Reads, decodes and crops the examples of one step; fillers behind the last."""

    def __init__(self, source: Source, config: Any, image_size: tuple[int, int], places: _Places):
        self._size, self._places = tuple(image_size), places
        self._length = len(source)
        self._images = DecodedImages(source)
        self._eval_crop = config.eval_crop

    def __call__(self, step: int) -> Batch:
        places = self._places(step)
        batch = _empty_batch(len(places), self._size, weight=np.float32)
        for row, index in enumerate(places):
            if index < self._length:
                image, label = self._images(index)
                batch["image"][row] = center_crop(image, self._size, self._eval_crop)
                batch["label"][row], batch["index"][row], batch["weight"][row] = label, index, 1
            else:
                batch["image"][row] = 0
                batch["label"][row], batch["index"][row], batch["weight"][row] = 0, -1, 0
        return batch


def _empty_batch(rows: int, image_size: tuple[int, int], **columns: type) -> Batch:
    """Memory for `rows` examples and the given columns besides image, label and index."""
    types = {"label": np.int32, "index": np.int64, **columns}
    return {
        "image": np.empty((rows, *image_size, 3), np.uint8),
        **{name: np.empty(rows, kind) for name, kind in types.items()},
    }


def _load(dataset: grain.MapDataset, config: Any) -> grain.DatasetIterator:
    """Works through the batches with `config.threads` threads, or in `config.processes` processes."""
    if config.processes:
        if not flags.FLAGS.is_parsed():
            # Grain hands absl's flags on to its processes, and needs them parsed even where a program has none.
            flags.FLAGS.mark_as_parsed()
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        workers = grain.MultiprocessingOptions(num_workers=config.processes, per_worker_buffer_size=1)
        return iter(dataset.to_iter_dataset(options).mp_prefetch(workers))
    options = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=config.threads + 1)
    return iter(dataset.to_iter_dataset(options))
