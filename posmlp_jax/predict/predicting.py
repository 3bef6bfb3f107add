"""What a trained model says of files."""

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from typing import Any

import jax

from posmlp_jax.checkpoints.pretrained import Pretrained
from posmlp_jax.data import evaluation_sizes
from posmlp_jax.data.sources.class_folders import IMAGES, VIDEOS
from posmlp_jax.data.sources.files import StrPath, find_files
from posmlp_jax.errors import ConfigError
from posmlp_jax.predict.loading import Loader, takes
from posmlp_jax.tasks import find_task
from posmlp_jax.tasks.predictor import FilePrediction, Predictor
from posmlp_jax.training.saved_config import data_config

# How many images, or clips with all their views, are computed at a time; of images no more than so many pixels.
BATCH_SIZES = {IMAGES: 32, VIDEOS: 4}
_MOST_PIXELS = 2**22


def predict(
    pretrained: Pretrained,
    paths: StrPath | Iterable[StrPath],
    *,
    top_k: int | None = None,
    threshold: float | None = None,
    batch_size: int | None = None,
    clips: int | None = None,
    crops: int | None = None,
) -> Generator[FilePrediction, None, None]:
    """Says of image files or, with a model of clips, video files what evaluation would, on the device of its weights.

    Files are read, decoded and cropped in threads while the device computes; no more than a few batches are in memory
    at a time, and of videos only the frames that are wanted. Every batch has one shape, the last being filled up, so
    that the model is compiled once; of several canvases (`data.canvases`), one shape and one program each.

    Args:
      pretrained: from `open_pretrained`.
      paths: files, folders or patterns, as `find_files` takes them.
      top_k: how many answers a prediction has at most: a classifier's most probable classes (None: 5), a detector's
        objects with the highest scores (None: all).
      threshold: the least score of a detector's objects. None: 0.3. A classifier has none.
      batch_size: how many files are computed at a time, at most; fewer where that fills the last batch better. None:
        32 images, or fewer large ones, of 4 megapixels together, or 4 videos.
      clips: views in time of each video. None: the `test_clips` of the config that the model was trained with.
      crops: views in space of each image or clip, 1 or 3. None: that config's `test_crops`.

    Returns:
      An iterator, one prediction for each file in the order of `find_files`, also for those that cannot be read: a
      classifier's `Prediction` has `classes`, a detector's `DetectionPrediction` has `objects`. Its `close()` ends the
      threads early.

    Raises:
      DataError: as `find_files`.
      ConfigError: when the model has no head, or a number is less than 1 or cannot be.
      CheckpointError: when the weights cannot be loaded; from the iterator, when they give what is not a number.
    """
    kind = takes(pretrained)
    if batch_size is None:
        batch_size = BATCH_SIZES[kind]
        if kind is IMAGES:
            sizes = evaluation_sizes(data_config(pretrained), pretrained.config.input_size)
            batch_size = max(min(batch_size, _MOST_PIXELS // max(map(math.prod, sizes))), 1)
    if clips is None:
        clips = data_config(pretrained).test_clips if kind is VIDEOS else 1
    if crops is None:
        crops = data_config(pretrained).test_crops
    for name, value in (("top_k", top_k), ("batch_size", batch_size), ("clips", clips)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}, and should be 1 or more")
    if crops not in (1, 3):
        raise ConfigError(f"crops is {crops}, and should be 1 or 3")
    if kind is IMAGES and clips > 1:
        raise ConfigError(f"clips is {clips}, but the model takes images: {pretrained.description}")
    files = find_files(paths, kind)
    batches = -(-len(files) // batch_size)
    # Before the first prediction is asked for: what is wrong with the checkpoint shows here.
    predictor = find_task(pretrained.task).predictor(pretrained, data_config(pretrained), top_k, threshold)
    loader = Loader(files, pretrained, clips, crops, -(-len(files) // batches))
    return _predictions(predictor, loader)


def _predictions(predictor: Predictor, loader: Loader) -> Generator[FilePrediction, None, None]:
    with contextlib.closing(loader.batches()) as batches:
        under_way, read, shown = deque(), {}, 0
        for batch in itertools.chain(batches, (None,)):
            if batch is not None:
                under_way.append((batch.files, predictor(batch.pixels, batch.sizes)))
            # The device has the next batch to work on before the result of this one is waited for.
            while len(under_way) > (batch is not None):
                read.update(_read(predictor, *under_way.popleft()))
            # Canvas by canvas, files come out of their order.
            while shown in read:
                yield read.pop(shown)
                shown += 1


def _read(predictor: Predictor, files: Mapping[int, FilePrediction], results: Any) -> dict[int, FilePrediction]:
    """The predictions of one batch, whose last rows may be fillers, by the files' numbers."""
    results, predictions = jax.device_get(results), {}
    for row, (number, file) in enumerate(files.items()):
        answer = None if file.error is not None else jax.tree.map(lambda array, row=row: array[row], results)
        predictions[number] = predictor.read(file, answer)
    return predictions
