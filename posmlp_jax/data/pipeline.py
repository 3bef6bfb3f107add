"""Batches for training and evaluation, of images or of clips.

The training stream is a function of (seed, step) alone: the numbers of threads, processes and hosts do not change it,
and it can be entered at any step. That holds because order and random numbers go by the example's place in the stream,
and because a batch is one piece of work for the threads and processes.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import grain
import numpy as np

from posmlp_jax.data.augment.augmentation import Augmentation
from posmlp_jax.data.augment.crops import uniform_crops
from posmlp_jax.data.decoding.clips import DecodedClips
from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.data.decoding.images import Size
from posmlp_jax.data.decoding.kept_images import Decoded, DecodedImages
from posmlp_jax.data.decoding.undecodable import BrokenExamples, DamagedVideos, Decoder, read_decodable
from posmlp_jax.data.loading import Batch, Batches, load
from posmlp_jax.data.sources.balance import BalancedOrder
from posmlp_jax.data.sources.source import Source
from posmlp_jax.data.targets import flipped_labels
from posmlp_jax.errors import ConfigError, DataError

# Training images are kept decoded when all of them fit into this.
KEEP_BYTES = 512 * 2**20
_ENDLESS = 2**40  # steps
_AVERAGES = ("softmax", "logits")
# Of frames, whose longer side may be 16 times as long.
_MAX_SIDE = 2048
# Of one image, or the three numbers of a clip: (frames, height, width).
InputSize = tuple[int, ...]


def train_batches(
    source: Source,
    config: Any,
    input_size: InputSize,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    report: Callable[[str], None] = logging.warning,
) -> Batches:
    """Endless augmented batches; every epoch has its own order, and batches go across epochs' borders.

    With `config.balance` 'classes', every class is drawn equally often instead of every example (`BalancedOrder`).

    With `config.repeats` R, each example is decoded (and of a video a clip sampled) once for R samples, which are
    augmented each by itself. Two examples take turns, a b a b …, so that an even place and the next one, which mixup
    and CutMix pair, are of two examples. An epoch is every example R times.

    Args:
      source: the images or videos.
      config: the `data` section of a config.
      input_size: (height, width), or (frames, height, width) of clips.
      batch_size: samples a step, over all processes.
      seed: of order and augmentation.
      start_step: the step of the first batch; the stream is the one that a run from step 0 has there.
      process_index: which of `process_count` JAX processes this is.
      process_count: process p gets the p-th part of each step's examples, so that the processes' parts one after the
        other are the batch that a single process would have.
      report: takes the lines that name broken images and videos.

    Returns:
      An iterator of `{'image': uint8 [B, *input_size, 3], 'label': int32 [B], 'index': int64 [B]}`, B being
      batch_size / process_count, and the index being the example's in `source`. What cannot be decoded is replaced by
      another (`broken.read_decodable`); the iterator's `broken` counts them. Close it when it is done with.

    Raises:
      ConfigError: when the batch size is not divisible, or as `check_config` and `check_source`.
      DataError: when there is no example; from the iterator, when a label is out of range, a file cannot be read, or
        more images or videos are broken than `config.max_broken` allows.
    """
    check_config(config)
    check_source(source, config, input_size)
    if len(source) == 0:
        raise DataError(f"no {source.kind}s to train on ({source.description})")
    make_batch = _TrainBatch(source, config, input_size, seed, _Places(batch_size, process_index, process_count))
    steps = grain.MapDataset.range(start_step, _ENDLESS).map(make_batch)
    return Batches(
        load(steps, config), DamagedVideos(source, report), BrokenExamples(source, config.max_broken, report)
    )


def eval_batches(
    source: Source,
    config: Any,
    input_size: InputSize,
    *,
    batch_size: int,
    clips: int = 1,
    crops: int = 1,
    process_index: int = 0,
    process_count: int = 1,
    report: Callable[[str], None] = logging.warning,
) -> Batches:
    """Every example once, in order; what is missing in the last batch is filled up with weight 0.

    Errors are those of `train_batches`, but what cannot be decoded is a DataError from the iterator: an
    accuracy over other examples than it says would be wrong. All processes get the same number of batches.

    Args:
      source: the images or videos.
      config: the `data` section of a config.
      input_size: (height, width), or (frames, height, width) of clips.
      batch_size: examples a step, over all processes.
      clips: views in time of each video (`FrameSampling.test`); 1 of images.
      crops: views in space of each image or clip, 1 or 3 (`transforms.uniform_crops`).
      process_index: as of `train_batches`.
      process_count: as of `train_batches`.
      report: takes the lines that name damaged videos.

    Returns:
      An iterator of `{'image', 'label', 'index', 'weight': float32 [B]}`, the weight being 1 for an example and 0 for
      a filler (an empty image with label 0 and index -1). Where there are several views of each example, `image` is
      [B, clips · crops, *input_size, 3].
    """
    check_config(config)
    check_source(source, config, input_size)
    places = _Places(batch_size, process_index, process_count)
    make_batch = _EvalBatch(source, EvalViews(source, config, input_size, clips, crops), places)
    steps = grain.MapDataset.range(-(-len(source) // batch_size)).map(make_batch)
    return Batches(load(steps, config), DamagedVideos(source, report))


def check_config(config: Any) -> None:
    """Checks what the `data` section of a config says about sampling, augmentation and loading.

    Raises:
      ConfigError: for the first value that makes no sense.
    """
    Augmentation(config, (1, 1))
    FrameSampling(config.sampling, 1, config.stride, config.fps)
    if not 0 < config.eval_crop <= 1:
        raise ConfigError(f"eval_crop must be a share in (0, 1], not {config.eval_crop}")
    if not 0 <= config.max_broken <= 1:
        raise ConfigError(f"max_broken must be a share in [0, 1], not {config.max_broken}")
    if config.threads < 0 or config.processes < 0:
        raise ConfigError(f"threads ({config.threads}) and processes ({config.processes}) must not be negative")
    if config.balance not in ("none", "classes"):
        raise ConfigError(f"data.balance is '{config.balance}', and should be 'none' or 'classes'")
    for field in ("repeats", "test_clips"):
        if config[field] < 1:
            raise ConfigError(f"data.{field} is {config[field]}, and should be 1 or more")
    if not 0 <= config.frame_side <= _MAX_SIDE:
        raise ConfigError(f"data.frame_side is {config.frame_side}, and should be 0 (as stored) or up to {_MAX_SIDE}")
    if config.test_crops not in (1, 3):
        raise ConfigError(f"data.test_crops is {config.test_crops}, and should be 1 or 3")
    if config.test_average not in _AVERAGES:
        raise ConfigError(f"unknown data.test_average '{config.test_average}': one of {', '.join(_AVERAGES)}")


def check_source(source: Source, config: Any, input_size: InputSize) -> None:
    """Checks that a source is what a config says and a model takes.

    Args:
      source: images or videos.
      config: the `data` section.
      input_size: the model's, (height, width) or (frames, height, width).

    Raises:
      ConfigError: when it is not.
    """
    if source.kind == "video" and len(input_size) == 2:
        raise ConfigError(
            f"the model takes images, but these are videos: {source.description}; take a model of clips, as "
            "--config.model.name=posmlp_video_s"
        )
    if source.kind == "image" and len(input_size) == 3:
        raise ConfigError(
            f"the model takes clips of {input_size[0]} frames, but these are images: {source.description}; take a "
            "model of images, as --config.model.name=posmlp_video_s_image"
        )
    if source.kind == "image" and config.test_clips > 1:
        raise ConfigError(f"data.test_clips is {config.test_clips}, but these are images: {source.description}")
    if config.flip:
        flipped_labels(source, config.flip_label_pairs)


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

    def __init__(self, source: Source, config: Any, input_size: InputSize, seed: int, places: _Places):
        self._size, self._seed, self._places = tuple(input_size), seed, places
        self._length, self._repeats = len(source), config.repeats
        if config.balance == "classes":
            self._order = BalancedOrder(source.read_labels(), seed)
        else:
            self._order = grain.MapDataset.range(self._length).seed(seed).shuffle().repeat()
        self._augmentation = Augmentation(config, input_size[-2:])
        self._flipped_labels = flipped_labels(source, config.flip_label_pairs if config.flip else ())
        # Processes would each keep all images.
        keep_bytes = 0 if config.processes else KEEP_BYTES
        self._decoder = _decoder(source, config, input_size, self._augmentation.min_size, keep_bytes=keep_bytes)

    def __call__(self, step: int) -> Batch:
        places = self._places(step)
        batch = _empty_batch(len(places), self._size, broken=np.int64)
        decoded = {}
        for row, place in enumerate(places):
            rng = self._rng(place)
            # Two examples take turns until each has had all its samples.
            turns, turn = divmod(place, 2 * self._repeats)
            first = place - turn + turn % 2
            if turn == 0:
                decoded.clear()
            if first not in decoded:
                # The samples of one example may be spread over hosts, which then each decode it, and in the same way.
                reading = rng if first == place else self._rng(first)
                drawn = 2 * turns + turn % 2
                decoded[first] = read_decodable(self._decoder, self._order[drawn], self._substitutes(drawn), reading)
            example, batch["index"][row], batch["broken"][row] = decoded[first]
            # Straight into the batch: other memory for as many images would be another third of the time, or more.
            flipped = self._augmentation.fill(batch["image"][row], example.pixels, rng)
            batch["label"][row] = self._flipped_labels[example.label] if flipped else example.label
            batch["damaged"][row] = example.damaged if first == place else 0
        return batch

    def _substitutes(self, place: int) -> Sequence[int]:
        """What may replace a broken example: where classes are drawn equally often, only its own class."""
        return self._order.alike(place) if isinstance(self._order, BalancedOrder) else range(self._length)

    def _rng(self, place: int) -> np.random.Generator:
        """Each place has its own part of one generator's sequence, 2¹²⁸ numbers long."""
        return np.random.Generator(np.random.Philox(key=self._seed, counter=place << 128))


class EvalViews:
    """What evaluation sees of each example of a source: an image or a clip, or several views of it.

    Args:
      source: as of `eval_batches`, and so are the others.
      config: the `data` section.
      input_size: the model's.
      clips: views in time.
      crops: views in space.

    Attributes:
      size: of an example's views, (*input_size,) or (clips · crops, *input_size).
    """

    def __init__(self, source: Source, config: Any, input_size: InputSize, clips: int = 1, crops: int = 1):
        views = clips * crops
        self.size = tuple(input_size) if views == 1 else (views, *input_size)
        # Frames are cropped one by one as they are decoded: whole ones may be large, and a test may take hundreds.
        crop = partial(_crop, size=tuple(input_size[-2:]), eval_crop=config.eval_crop, count=crops)
        self._decoder = _decoder(source, config, input_size, None, test_clips=clips, transform=crop)
        # Of images and of clips; the views of a clip lie behind one another.
        self._crop = crop if source.kind == "image" else partial(_views_of_clips, clips=clips)

    def fill(self, out: np.ndarray, index: int) -> Decoded:
        """Writes all views of example `index` to `out`, uint8 [*size, 3].

        Raises:
          BrokenExampleError: when it cannot be decoded; the message names it.
          DataError: when it cannot be read, or its label is out of range.
        """
        example = self._decoder(index)
        views = self._crop(example.pixels)
        out[...] = views.reshape(out.shape)
        return example


def _crop(image: np.ndarray, size: Size, eval_crop: float, count: int) -> np.ndarray:
    """`uniform_crops` as one array, [count, *size, 3]."""
    return np.stack(uniform_crops(image, size, eval_crop, count))


def _views_of_clips(crops: np.ndarray, clips: int) -> np.ndarray:
    """The crops of all clips' frames, [clips · T, crops, height, width, 3], as [clips, crops, T, height, width, 3]."""
    return crops.reshape(clips, -1, *crops.shape[1:]).swapaxes(1, 2)


class _EvalBatch:
    """Reads, decodes and crops the examples of one step; fillers behind the last."""

    def __init__(self, source: Source, views: EvalViews, places: _Places):
        self._length, self._views, self._places = len(source), views, places

    def __call__(self, step: int) -> Batch:
        places = self._places(step)
        batch = _empty_batch(len(places), self._views.size, weight=np.float32)
        for row, index in enumerate(places):
            if index < self._length:
                example = self._views.fill(batch["image"][row], index)
                batch["label"][row], batch["index"][row], batch["weight"][row] = example.label, index, 1
                batch["damaged"][row] = example.damaged
            else:
                batch["image"][row] = 0
                batch["label"][row], batch["index"][row], batch["weight"][row] = 0, -1, 0
                batch["damaged"][row] = 0
        return batch


def _decoder(
    source: Source,
    config: Any,
    input_size: InputSize,
    min_size: Size | None,
    *,
    keep_bytes: int = 0,
    test_clips: int = 1,
    transform: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Decoder:
    if source.kind == "image":
        return DecodedImages(source, min_size, keep_bytes)
    sampling = FrameSampling(config.sampling, input_size[0], config.stride, config.fps)
    return DecodedClips(source, sampling, min_size, test_clips, transform, config.frame_side)


def _empty_batch(rows: int, input_size: InputSize, **columns: type) -> Batch:
    """Memory for `rows` examples and the given columns besides those that every batch has."""
    types = {"label": np.int32, "index": np.int64, "damaged": np.int32, **columns}
    return {
        "image": np.empty((rows, *input_size, 3), np.uint8),
        **{name: np.empty(rows, kind) for name, kind in types.items()},
    }
