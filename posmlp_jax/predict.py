"""Names what is in images: `python -m posmlp_jax.predict --checkpoint=DIR IMAGES…`.

IMAGES are files, folders (with all their sub-folders) and patterns ('photos/**/*.jpg'). The most probable classes of
each go to stdout, what cannot be read to stderr. From Python, `predict` does the same.

Exit codes: 0 done; 1 some images could not be read, the others are predicted; 2 a mistake that the message explains;
130 stopped from the keyboard; 141 whoever read the output has gone (`| head`).
"""

import contextlib
import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tqdm import tqdm

from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data.decoding import Size, decode
from posmlp_jax.data.image_files import StrPath, find_images
from posmlp_jax.data.transforms import center_crop
from posmlp_jax.errors import BrokenExampleError, CheckpointError, ConfigError, nearest
from posmlp_jax.models.backbone import Backbone
from posmlp_jax.prediction_table import PredictionTable, printable
from posmlp_jax.training.pretrained import Pretrained, open_pretrained
from posmlp_jax.training.selection import add_selection
from posmlp_jax.training.step import normalize_images

OUTPUTS = ("table", "json")
_THREADS = min(os.cpu_count() or 1, 16)


@dataclass(frozen=True)
class ClassProbability:
    """One class of a prediction: its index among the logits, its name ('class 17' where there are none), its share."""

    name: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image file.

    Attributes:
      file: its name.
      classes: the most probable ones, the most probable first; none for a file that cannot be read.
      error: why it cannot be read, in one line; None for one that was.
    """

    file: str
    classes: tuple[ClassProbability, ...] = ()
    error: str | None = None


def predict(
    pretrained: Pretrained, paths: StrPath | Iterable[StrPath], *, top_k: int = 5, batch_size: int = 32
) -> Generator[Prediction, None, None]:
    """Classifies image files as evaluation does, on the device of the model's weights.

    Files are read, decoded and cropped in threads while the device computes; no more than a few batches of images are
    in memory at a time. Every batch has one shape, the last being filled up, so that the model is compiled once.

    Args:
      pretrained: from `open_pretrained`.
      paths: files, folders or patterns, as `find_images` takes them.
      top_k: how many classes a prediction has; at most all.
      batch_size: images that are computed at a time, at most; fewer where that fills the last batch better.

    Returns:
      An iterator, one prediction for each file in the order of `find_images`, also for those that cannot be read. Its
      `close()` ends the threads early.

    Raises:
      DataError: as `find_images`.
      ConfigError: when the model has no head or is one of clips, or `top_k` or `batch_size` is less than 1.
      CheckpointError: when the weights cannot be loaded; from the iterator, when they give what is not a number.
    """
    classes = pretrained.config.num_classes
    if classes == 0:
        raise ConfigError(f"the model has no head (num_classes is 0) and cannot classify: {pretrained.description}")
    if len(pretrained.config.input_size) == 3:
        raise ConfigError(
            f"the model takes clips of {pretrained.config.input_size[0]} frames, and this predicts images: "
            f"{pretrained.description}"
        )
    for name, value in (("top_k", top_k), ("batch_size", batch_size)):
        if value < 1:
            raise ConfigError(f"{name} is {value}, and should be 1 or more")
    files = find_images(paths)
    batches = -(-len(files) // batch_size)
    # Before the first prediction is asked for: what is wrong with the checkpoint shows here.
    model = pretrained.model().fold()
    return _predictions(pretrained, model, files, min(top_k, classes), -(-len(files) // batches))


def _predictions(
    pretrained: Pretrained, model: Backbone, files: Sequence[str], top_k: int, batch_size: int
) -> Generator[Prediction, None, None]:
    graph, state = nnx.split(model)
    data = pretrained.data

    @jax.jit
    def classify(state, images):
        logits = nnx.merge(graph, state)(normalize_images(images, data["mean"], data["std"]))
        # Of the logits: probabilities are rounded to equal ones earlier.
        _, indices = jax.lax.top_k(logits, top_k)
        return jnp.take_along_axis(jax.nn.softmax(logits), indices, axis=-1), indices

    size = pretrained.config.image_size
    load = partial(_load, size=size, eval_crop=data["eval_crop"])
    names = class_names(pretrained)
    with contextlib.closing(_loaded(files, load, batch_size)) as loaded:
        under_way = deque()
        for start in range(0, len(files), batch_size):
            batch = list(islice(loaded, batch_size))
            images = np.zeros((batch_size, *size, 3), np.uint8)
            for row, image in enumerate(batch):
                if not isinstance(image, str):
                    images[row] = image
            errors = [image if isinstance(image, str) else None for image in batch]
            under_way.append((files[start : start + batch_size], errors, classify(state, images)))
            # The device has the next batch to work on before the result of this one is waited for.
            if len(under_way) > 1:
                yield from _read(*under_way.popleft(), names)
        yield from _read(*under_way.popleft(), names)


def _read(
    files: Sequence[str], errors: list[str | None], results: tuple[jax.Array, jax.Array], names: Sequence[str]
) -> Generator[Prediction, None, None]:
    """The predictions of one batch, whose last rows may be fillers."""
    probabilities, indices = map(np.asarray, results)
    for file, error, row, classes in zip(files, errors, probabilities, indices, strict=False):
        if error is not None:
            yield Prediction(file, error=error)
            continue
        if not np.isfinite(row).all():
            raise CheckpointError(f"the checkpoint's weights give no finite numbers for {file}: its training diverged")
        yield Prediction(
            file,
            tuple(
                ClassProbability(names[index], index, probability)
                for index, probability in zip(classes.tolist(), row.tolist(), strict=True)
            ),
        )


def _loaded(files: Sequence[str], load: Callable, batch_size: int) -> Generator[np.ndarray | str, None, None]:
    """`load` of all files in order, worked on by threads at most two batches before they are asked for."""
    pool = ThreadPoolExecutor(_THREADS)
    try:
        rest = iter(files)
        ahead = deque(pool.submit(load, file) for file in islice(rest, 2 * batch_size + _THREADS))
        while ahead:
            image = ahead.popleft().result()
            ahead.extend(pool.submit(load, file) for file in islice(rest, 1))
            yield image
    finally:
        pool.shutdown(cancel_futures=True)


def _load(file: str, size: Size, eval_crop: float) -> np.ndarray | str:
    """The evaluation crop of an image file, uint8 [height, width, 3], or why there is none."""
    try:
        with open(file, "rb") as stream:
            return center_crop(decode(stream.read()), size, eval_crop)
    except BrokenExampleError as error:
        return printable(str(error))
    except OSError as error:
        return error.strerror or str(error)


def class_names(pretrained: Pretrained) -> list[str]:
    """A name for every logit: 'class 17' for those that the data set had no name for."""
    names = list(pretrained.class_names or ())
    return names + [f"class {index}" for index in range(len(names), pretrained.config.num_classes)]


def to_json(prediction: Prediction) -> str:
    """A prediction as one line of JSON, in ASCII."""
    classes = [
        {"class": each.name, "index": each.index, "probability": each.probability} for each in prediction.classes
    ]
    return json.dumps({"file": prediction.file, "predictions": classes})


def main(argv: list[str] | None = None) -> int:
    """The command. Returns its exit code, 0 or 1; raises a PosMLPError for a mistake of the user."""
    about, exit_codes = __doc__.rsplit("\n\n", 1)
    parser = CommandParser("posmlp_jax.predict", about, epilog=exit_codes)
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="files, folders or quoted patterns; each file once")
    parser.add_argument(
        "--checkpoint", required=True, metavar="DIR", help="a run's folder, or one checkpoint, DIR/checkpoints/STEP"
    )
    add_selection(parser)
    parser.add_argument("--top-k", type=int, default=5, metavar="K", help="classes an image, at most all (5)")
    parser.add_argument(
        "--output",
        default="table",
        help="table (the default) or json: JSON lines, for each image that could be read a line "
        '{"file": …, "predictions": [{"class": …, "index": …, "probability": …}, …]}, the most probable class first',
    )
    parser.add_argument("--batch_size", type=int, default=32, metavar="N", help="images computed at a time (32)")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.output not in OUTPUTS:
        raise ConfigError(f"unknown output '{arguments.output}'; {nearest(arguments.output, OUTPUTS)}")
    files = find_images(arguments.images)
    pretrained = open_pretrained(arguments.checkpoint, step=arguments.step, weights=arguments.weights)
    print(f"using the {pretrained.choice}", file=sys.stderr)
    predictions = predict(pretrained, files, top_k=arguments.top_k, batch_size=arguments.batch_size)
    if arguments.output == "json":
        show = to_json
    else:
        show = PredictionTable(files, class_names(pretrained), shutil.get_terminal_size().columns)
    broken = 0
    # Predictions that scroll through the terminal show by themselves how far it is. `None`: only on a terminal.
    hidden = True if sys.stdout.isatty() else None
    with (
        contextlib.closing(predictions),
        tqdm(total=len(files), unit=" images", delay=2, disable=hidden, leave=False, dynamic_ncols=True) as bar,
    ):
        for prediction in predictions:
            if prediction.error is None:
                print(show(prediction))
            else:
                broken += 1
                bar.clear()
                print(f"cannot read {printable(prediction.file)}: {prediction.error}", file=sys.stderr)
            bar.update()
    if broken:
        print(f"{broken} of {len(files)} images could not be read", file=sys.stderr)
    return int(broken > 0)


def run(argv: list[str] | None = None) -> None:
    """Runs `main` as a program: its exit codes are in the module's docstring."""
    run_program(main, argv)


if __name__ == "__main__":
    run()
