"""Batches for training and evaluation.

The training stream is a function of (seed, step) alone: the numbers of threads, processes and hosts do not change it,
and it can be entered at any step. That holds because Grain's shuffle, epochs and random numbers go by the example's
place in the stream, and because batches are formed before the work is given to threads and processes.
"""

import math
import weakref
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
from absl import flags

from posmlp_jax.data import transforms
from posmlp_jax.data.cache import DecodedImages
from posmlp_jax.data.source import Source
from posmlp_jax.errors import ConfigError, DataError

Batch = dict[str, np.ndarray]
CROPS = ("random_resized", "pad", "resize")
# Training images are kept decoded when all of them fit into this.
KEEP_BYTES = 512 * 2**20


class Batches(Iterator[Batch]):
    """An iterator over batches whose threads and processes end with `close`, or at the latest with the program."""

    def __init__(self, iterator: grain.DatasetIterator):
        self._under_way = [iterator]
        # Grain's own clean-up runs when the interpreter has already lost its modules, and prints tracebacks then: at
        # the program's end nothing may refer to the iterator any more.
        self._finalizer = weakref.finalize(self, _end, self._under_way)

    def __next__(self) -> Batch:
        """The next batch."""
        if not self._under_way:
            raise ValueError("these batches are closed")
        return next(self._under_way[0])

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
      process_count: process p gets the examples p, p + process_count, … of each step.

    Returns:
      An iterator of `{'image': uint8 [B, height, width, 3], 'label': int32 [B], 'index': int64 [B]}`, B being
      batch_size / process_count, and the index being the example's in `source`. Close it when it is done with.

    Raises:
      ConfigError: when the batch size is not divisible, or crop, threads or processes make no sense.
      DataError: from the iterator, when an image cannot be decoded or a label is out of range.
    """
    local = _local_batch(batch_size, process_count)
    if config.crop not in CROPS:
        raise ConfigError(f"unknown crop '{config.crop}': one of {', '.join(CROPS)}")
    if not (0 < config.crop_scale[0] <= config.crop_scale[1] <= 1 and 0 < config.crop_ratio[0] <= config.crop_ratio[1]):
        raise ConfigError(
            f"crop_scale {tuple(config.crop_scale)} must be (least, most) within 0 to 1, and crop_ratio "
            f"{tuple(config.crop_ratio)} (least, most) above 0"
        )
    if config.crop_padding < 0:
        raise ConfigError(f"crop_padding must not be negative, but is {config.crop_padding}")
    if len(source) == 0:
        raise DataError(f"no images to train on ({source.description})")
    dataset = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    dataset = dataset.random_map(_TrainExample(source, config, image_size))
    dataset = dataset[process_index::process_count].batch(local, drop_remainder=True)
    return _load(dataset[start_step:], config)


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

    Arguments and errors are those of `train_batches`. All processes get the same number of batches.

    Returns:
      An iterator of `{'image', 'label', 'index', 'weight': float32 [B]}`, the weight being 1 for an example and 0 for
      a filler (an empty image with label 0 and index -1).
    """
    local = _local_batch(batch_size, process_count)
    if not 0 < config.eval_crop <= 1:
        raise ConfigError(f"eval_crop must be a share in (0, 1], not {config.eval_crop}")
    places = -(-len(source) // batch_size) * batch_size
    dataset = grain.MapDataset.range(places)[process_index::process_count]
    dataset = dataset.map(_EvalExample(source, config, image_size)).batch(local)
    return _load(dataset, config)


class _TrainExample:
    """Reads, decodes and augments one example."""

    def __init__(self, source: Source, config: Any, image_size: tuple[int, int]):
        self._size = tuple(image_size)
        # Processes would each keep all images.
        self._images = DecodedImages(source, _min_size(config, self._size), 0 if config.processes else KEEP_BYTES)
        self._crop = config.crop
        self._scale = tuple(config.crop_scale)
        self._ratio = tuple(config.crop_ratio)
        self._padding = config.crop_padding
        self._flip = config.flip

    def __call__(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        image, label = self._images(index)
        if self._crop == "random_resized":
            image = transforms.random_resized_crop(image, self._size, self._scale, self._ratio, rng)
        else:
            image = transforms.resize(image, self._size)
            if self._crop == "pad":
                image = transforms.pad_crop(image, self._padding, rng)
        if self._flip:
            image = transforms.random_flip(image, rng)
        return {"image": image, "label": np.int32(label), "index": np.int64(index)}


class _EvalExample:
    """Reads, decodes and crops one example; a filler behind the last."""

    def __init__(self, source: Source, config: Any, image_size: tuple[int, int]):
        self._length = len(source)
        self._images = DecodedImages(source)
        self._size = tuple(image_size)
        self._eval_crop = config.eval_crop

    def __call__(self, index: int) -> dict[str, Any]:
        if index < self._length:
            image, label = self._images(index)
            image, weight = transforms.center_crop(image, self._size, self._eval_crop), 1
        else:
            image, label, index, weight = np.zeros((*self._size, 3), np.uint8), 0, -1, 0
        return {"image": image, "label": np.int32(label), "index": np.int64(index), "weight": np.float32(weight)}


def _min_size(config: Any, image_size: tuple[int, int]) -> tuple[int, int]:
    """How small photographs may be decoded (`transforms.decode`) without a crop ever being enlarged for it."""
    if config.crop != "random_resized":
        # The resizing that follows is antialiased over at least two pixels.
        return 2 * image_size[0], 2 * image_size[1]
    (smallest, _), (narrowest, widest) = config.crop_scale, config.crop_ratio
    side = math.sqrt(max(image_size[0] ** 2 * widest, image_size[1] ** 2 / narrowest) / smallest)
    return math.ceil(side), math.ceil(side)


def _local_batch(batch_size: int, process_count: int) -> int:
    if batch_size < 1 or batch_size % process_count:
        raise ConfigError(f"batch size {batch_size} must be a positive multiple of the {process_count} JAX processes")
    return batch_size // process_count


def _load(dataset: grain.MapDataset, config: Any) -> Batches:
    """Works through the batches with `config.threads` threads, or in `config.processes` processes."""
    if config.threads < 0 or config.processes < 0:
        raise ConfigError(f"threads ({config.threads}) and processes ({config.processes}) must not be negative")
    if config.processes:
        if not flags.FLAGS.is_parsed():
            # Grain hands absl's flags on to its processes, and needs them parsed even where a program has none.
            flags.FLAGS.mark_as_parsed()
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        workers = grain.MultiprocessingOptions(num_workers=config.processes, per_worker_buffer_size=1)
        batches = dataset.to_iter_dataset(options).mp_prefetch(workers)
    else:
        options = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=config.threads + 1)
        batches = dataset.to_iter_dataset(options)
    return Batches(iter(batches))
