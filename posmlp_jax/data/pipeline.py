"""Batches for training and evaluation, of images or of clips.

The training stream is a function of (seed, step) alone: the numbers of threads, processes and hosts do not change it,
and it can be entered at any step. That holds because order, sizes and random numbers go by the example's place in the
stream (`stream`), and because a batch is one piece of work for the threads and processes.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from posmlp_jax.data.augment.augmentation import WHOLE, Augmentation
from posmlp_jax.data.canvases import Canvases, trains_on_whole, used_sizes
from posmlp_jax.data.check import check_config, check_scales, check_source
from posmlp_jax.data.decoding.examples import InputSize, create_decoder
from posmlp_jax.data.decoding.replacement import BrokenExamples, DamagedVideos, read_decodable
from posmlp_jax.data.loading import Batch, Batches, load
from posmlp_jax.data.sources.source import Source
from posmlp_jax.data.stream import CanvasOrder, Places, StepSizes, TrainingOrder
from posmlp_jax.data.targets import Labels, Targets
from posmlp_jax.data.views import EvalViews
from posmlp_jax.errors import DataError

# Training images are kept decoded when all of them fit into this.
KEEP_BYTES = 512 * 2**20
_ENDLESS = 2**40  # steps


def train_batches(
    source: Source,
    config: Any,
    input_size: InputSize | Sequence[InputSize],
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    targets: Targets | None = None,
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
      input_size: (height, width), or (frames, height, width) of clips; or several of these, of which each step has one
        at random (`StepSizes`) or, with the crop 'fit', by the images, which then are
        `config.canvases` (`StepCanvases`): `canvases.training_sizes`.
      batch_size: samples a step, over all processes.
      seed: of order and augmentation.
      start_step: the step of the first batch; the stream is the one that a run from step 0 has there.
      targets: what a batch holds besides pixels; None: the `Labels` of a labelled source.
      process_index: which of `process_count` JAX processes this is.
      process_count: process p gets the p-th part of each step's examples, so that the processes' parts one after the
        other are the batch that a single process would have.
      report: takes the lines that name broken images and videos.

    Returns:
      An iterator of `{'image': uint8 [B, *input_size, 3], 'index': int64 [B]}` and the columns of the targets (of
      `Labels` 'label', int32 [B]), B being batch_size / process_count, and the index being the example's in `source`.
      What cannot be decoded is replaced by another (`replacement.read_decodable`); the iterator's `broken` counts them.
      Close it when it is done with.

    Raises:
      ConfigError: when the batch size is not divisible, or as `check_config`, `check_source` and `check_scales`.
      DataError: when there is no example, or no label where `targets` is None; from the iterator, when a label is out
        of range, a file cannot be read, or more images or videos are broken than `config.max_broken` allows.
    """
    check_config(config)
    sizes = _several(input_size)
    check_source(source, config, sizes[0])
    check_scales(config, sizes)
    if len(source) == 0:
        raise DataError(f"no {source.kind}s to train on ({source.description})")
    sizes = used_sizes(sizes, config, source)
    targets = Labels(source, config) if targets is None else targets
    places = Places(batch_size, process_index, process_count)
    make_batch = _TrainBatch(source, targets, config, sizes, seed, places)
    steps = grain.MapDataset.range(start_step, _ENDLESS).map(make_batch)
    return Batches(
        load(steps, config), DamagedVideos(source, report), BrokenExamples(source, config.max_broken, report)
    )


def eval_batches(
    source: Source,
    config: Any,
    input_size: InputSize | Sequence[InputSize],
    *,
    batch_size: int,
    clips: int = 1,
    crops: int = 1,
    targets: Targets | None = None,
    process_index: int = 0,
    process_count: int = 1,
    report: Callable[[str], None] = logging.warning,
) -> Batches:
    """Every example once, in order; what is missing in the last batch is filled up with weight 0.

    Of several canvases each has its own batches, one canvas after the other: `index` says which examples these are.

    Errors are those of `train_batches`, but what cannot be decoded is a DataError from the iterator: an
    accuracy over other examples than it says would be wrong. All processes get the same number of batches.

    Args:
      source: the images or videos.
      config: the `data` section of a config.
      input_size: (height, width), or (frames, height, width) of clips; with the crops 'fit' and 'scaled' also those of
        `config.canvases`: `canvases.evaluation_sizes`.
      batch_size: examples a step, over all processes.
      clips: views in time of each video (`FrameSampling.test`); 1 of images.
      crops: views in space of each image or clip, 1 or 3 (`crops.uniform_crops`).
      targets: as of `train_batches`.
      process_index: as of `train_batches`.
      process_count: as of `train_batches`.
      report: takes the lines that name damaged videos.

    Returns:
      An iterator of what `train_batches` gives and `'weight': float32 [B]`, which is 1 for an example and 0 for a
      filler (an empty image, its targets zeros and its index -1). Where there are several views of each example,
      `image` is [B, clips · crops, *input_size, 3].
    """
    check_config(config)
    sizes = _several(input_size)
    check_source(source, config, sizes[0])
    targets = Labels(source, config) if targets is None else targets
    places = Places(batch_size, process_index, process_count)
    views = EvalViews(source, config, sizes, clips, crops)
    plan = _eval_steps(source, config, sizes, batch_size)
    steps = grain.MapDataset.range(len(plan)).map(_EvalBatch(plan, targets, views, places))
    return Batches(load(steps, config), DamagedVideos(source, report))


def _several(input_size: InputSize | Sequence[InputSize]) -> list[InputSize]:
    return [tuple(size) for size in ((input_size,) if np.ndim(input_size) == 1 else input_size)]


def _eval_steps(
    source: Source, config: Any, sizes: Sequence[InputSize], batch_size: int
) -> list[tuple[InputSize, np.ndarray]]:
    """Of each step the size and the examples' indices, no more than `batch_size`: canvas by canvas, in order."""
    whole = config.crop in WHOLE
    belongs, steps = Canvases(sizes, config).of_source(source) if whole else np.zeros(len(source), np.int64), []
    for canvas, size in enumerate(sizes):
        members = np.flatnonzero(belongs == canvas)
        steps += [(size, members[at : at + batch_size]) for at in range(0, len(members), batch_size)]
    return steps


class _TrainBatch:
    """Reads, decodes and augments the examples of one step."""

    def __init__(
        self, source: Source, targets: Targets, config: Any, sizes: Sequence[InputSize], seed: int, places: Places
    ):
        self._places, self._targets, order = places, targets, None
        if trains_on_whole(config) and len(sizes) > 1:
            order = CanvasOrder(Canvases(sizes, config).of_source(source), config, places.batch_size, seed)
        self._order = TrainingOrder(source, config, seed, order)
        self._sizes = StepSizes(sizes, seed, None if order is None else order.steps)
        self._augmentations = {size: Augmentation(config, size[-2:]) for size in sizes}
        # Of an example that is kept, every size is made.
        least = [augmentation.min_size for augmentation in self._augmentations.values()]
        min_size = None if None in least else tuple(map(max, zip(*least, strict=True)))
        # Processes would each keep all images.
        keep_bytes = 0 if config.processes else KEEP_BYTES
        self._decoder = create_decoder(source, config, sizes[0], min_size, keep_bytes=keep_bytes)

    def __call__(self, step: int) -> Batch:
        places, size = self._places(step), self._sizes(step)
        augmentation = self._augmentations[size]
        batch = _empty_batch(len(places), (*size, 3), self._targets, broken=np.int64)
        decoded = {}
        for row, place in enumerate(places):
            rng = self._order.rng(place)
            first = self._order.first(place)
            if self._order.starts_turns(place):
                decoded.clear()
            if first not in decoded:
                # The samples of one example may be spread over hosts, which then each decode it, and in the same way.
                reading = rng if first == place else self._order.rng(first)
                decoded[first] = read_decodable(self._decoder, *self._order.example(first), reading)
            example, batch["index"][row], batch["broken"][row] = decoded[first]
            # Straight into the batch: other memory for as many images would be another third of the time, or more.
            placement = augmentation.fill(batch["image"][row], example.pixels, rng)
            _fill_in(batch, row, self._targets(example.target, placement))
            batch["damaged"][row] = example.damaged if first == place else 0
        return batch


class _EvalBatch:
    """Reads, decodes and crops the examples of one step; fillers behind the last."""

    def __init__(
        self, steps: Sequence[tuple[InputSize, np.ndarray]], targets: Targets, views: EvalViews, places: Places
    ):
        self._steps, self._targets, self._views, self._places = steps, targets, views, places

    def __call__(self, step: int) -> Batch:
        size, indices = self._steps[step]
        places = self._places(0)  # Of each step the same.
        batch = _empty_batch(len(places), self._views.shape(size), self._targets, weight=np.float32)
        for row, place in enumerate(places):
            if place < len(indices):
                index = int(indices[place])
                example, placement = self._views.fill(batch["image"][row], index)
                values = {**self._targets(example.target, placement), "index": index, "weight": 1}
                _fill_in(batch, row, values | {"damaged": example.damaged})
            else:
                _fill_in(batch, row, dict.fromkeys(batch, 0) | {"index": -1})
        return batch


def _empty_batch(rows: int, shape: tuple[int, ...], targets: Targets, **columns: type) -> Batch:
    """Memory for `rows` examples: the columns that every batch has, those of the targets, and the given ones.

    `shape`: of an example's pixels.
    """
    own = {"index": np.int64, "damaged": np.int32, **columns}
    return {
        "image": np.empty((rows, *shape), np.uint8),
        **{name: np.empty((rows, *shape), kind) for name, (shape, kind) in targets.columns.items()},
        **{name: np.empty(rows, kind) for name, kind in own.items()},
    }


def _fill_in(batch: Batch, row: int, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        batch[name][row] = value
