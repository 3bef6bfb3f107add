"""What a trained model says of files."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from posmlp_jax.checkpoints.pretrained import Pretrained
from posmlp_jax.data.sources.class_folders import IMAGES, VIDEOS
from posmlp_jax.data.sources.files import StrPath, find_files
from posmlp_jax.errors import CheckpointError, ConfigError
from posmlp_jax.predict.loading import Loaded, Loader, data_config, takes
from posmlp_jax.tasks.classification.classifier import classifier

# How many images, or clips with all their views, are computed at a time.
BATCH_SIZES = {IMAGES: 32, VIDEOS: 4}


@dataclass(frozen=True)
class ClassProbability:
    """One class of a prediction: its index among the logits, its name ('class 17' where there are none), its share."""

    name: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image or video file.

    Attributes:
      file: its name.
      classes: the most probable ones, the most probable first; none for a file that cannot be read.
      error: why it cannot be read, in one line; None for one that was.
      frames: of a video, the numbers of the frames that were looked at, for each clip that was taken of it; the first
        frame is 0.
      replaced: how many of them stand for others, which cannot be decoded.
    """

    file: str
    classes: tuple[ClassProbability, ...] = ()
    error: str | None = None
    frames: tuple[tuple[int, ...], ...] = ()
    replaced: int = 0


def predict(
    pretrained: Pretrained,
    paths: StrPath | Iterable[StrPath],
    *,
    top_k: int = 5,
    batch_size: int | None = None,
    clips: int | None = None,
    crops: int | None = None,
) -> Generator[Prediction, None, None]:
    """Classifies image files or, with a model of clips, video files as evaluation does, on the device of its weights.

    Files are read, decoded and cropped in threads while the device computes; no more than a few batches are in memory
    at a time, and of videos only the frames that are wanted. Every batch has one shape, the last being filled up, so
    that the model is compiled once.

    Args:
      pretrained: from `open_pretrained`.
      paths: files, folders or patterns, as `find_files` takes them.
      top_k: how many classes a prediction has; at most all.
      batch_size: how many files are computed at a time, at most; fewer where that fills the last batch better. None:
        32 images or 4 videos.
      clips: views in time of each video. None: the `test_clips` of the config that the model was trained with.
      crops: views in space of each image or clip, 1 or 3. None: that config's `test_crops`.

    Returns:
      An iterator, one prediction for each file in the order of `find_files`, also for those that cannot be read. Its
      `close()` ends the threads early.

    Raises:
      DataError: as `find_files`.
      ConfigError: when the model has no head, or a number is less than 1 or cannot be.
      CheckpointError: when the weights cannot be loaded; from the iterator, when they give what is not a number.
    """
    classes, kind = pretrained.config.num_classes, takes(pretrained)
    if classes == 0:
        raise ConfigError(f"the model has no head (num_classes is 0) and cannot classify: {pretrained.description}")
    if batch_size is None:
        batch_size = BATCH_SIZES[kind]
    if clips is None:
        clips = data_config(pretrained).test_clips if kind is VIDEOS else 1
    if crops is None:
        crops = data_config(pretrained).test_crops
    for name, value in (("top_k", top_k), ("batch_size", batch_size), ("clips", clips)):
        if value < 1:
            raise ConfigError(f"{name} is {value}, and should be 1 or more")
    if crops not in (1, 3):
        raise ConfigError(f"crops is {crops}, and should be 1 or 3")
    if kind is IMAGES and clips > 1:
        raise ConfigError(f"clips is {clips}, but the model takes images: {pretrained.description}")
    files = find_files(paths, kind)
    batches = -(-len(files) // batch_size)
    data = data_config(pretrained)
    # Before the first prediction is asked for: what is wrong with the checkpoint shows here.
    classify = classifier(pretrained.model(), data.mean, data.std, data.test_average)
    loader = Loader(files, pretrained, clips, crops, -(-len(files) // batches))
    return _predictions(classify, loader, class_names(pretrained), min(top_k, classes))


def class_names(pretrained: Pretrained) -> list[str]:
    """A name for every logit: 'class 17' for those that the data set had no name for."""
    names = list(pretrained.class_names or ())
    return names + [f"class {index}" for index in range(len(names), pretrained.config.num_classes)]


def _predictions(
    classify: Callable[[np.ndarray], jax.Array], loader: Loader, names: Sequence[str], top_k: int
) -> Generator[Prediction, None, None]:
    @jax.jit
    def likeliest(logits):
        # Of the logits: probabilities are rounded to equal ones earlier.
        _, indices = jax.lax.top_k(logits, top_k)
        return jnp.take_along_axis(jax.nn.softmax(logits), indices, axis=-1), indices

    with contextlib.closing(loader.batches()) as batches:
        under_way = deque()
        for images, batch in batches:
            under_way.append((batch, likeliest(classify(images))))
            # The device has the next batch to work on before the result of this one is waited for.
            if len(under_way) > 1:
                yield from _read(*under_way.popleft(), names)
        yield from _read(*under_way.popleft(), names)


def _read(
    batch: Sequence[Loaded], results: tuple[jax.Array, jax.Array], names: Sequence[str]
) -> Generator[Prediction, None, None]:
    """The predictions of one batch, whose last rows may be fillers."""
    probabilities, indices = map(np.asarray, results)
    for loaded, row, classes in zip(batch, probabilities, indices, strict=False):
        if loaded.error is not None:
            yield Prediction(loaded.file, error=loaded.error)
            continue
        if not np.isfinite(row).all():
            raise CheckpointError(
                f"the checkpoint's weights give no finite numbers for {loaded.file}: its training diverged"
            )
        yield Prediction(
            loaded.file,
            tuple(
                ClassProbability(names[index], index, probability)
                for index, probability in zip(classes.tolist(), row.tolist(), strict=True)
            ),
            frames=loaded.frames,
            replaced=loaded.replaced,
        )
