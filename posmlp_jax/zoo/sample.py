"""Some test examples of a data set that not every machine has, as evaluation sees them: for tests and for a first try.

`samples/DATA_SIZE.npz` has uint8 `pixels` and int64 `labels`; models that see their examples alike share it.
"""

import hashlib
import io
from typing import NamedTuple

import numpy as np
from etils import epath

from posmlp_jax.checkpoints import zoo
from posmlp_jax.checkpoints.pretrained import Pretrained, open_pretrained
from posmlp_jax.data import LabelledSource, open_source
from posmlp_jax.data.views import EvalViews
from posmlp_jax.errors import CheckpointError
from posmlp_jax.tasks.classification.classifier import classifier
from posmlp_jax.training.saved_config import data_config
from posmlp_jax.writing import atomic_write

# How many examples are computed at a time.
_BATCH = 100
# Data sets that come with the package.
_SHIPPED = ("digits",)


class Sample(NamedTuple):
    """Test examples.

    Attributes:
      pixels: uint8 [n, *input_size, 3], of the size that the model takes.
      labels: int64 [n], the numbers of their classes.
    """

    pixels: np.ndarray
    labels: np.ndarray


def load_sample(name: str) -> Sample:
    """The test examples that come with a model of the zoo; of a data set that comes with the package, all of them.

    Raises:
      CheckpointError: if there is no such model, or there are none with it.
      DamagedCheckpointError: if the file is not what was written.
    """
    folder = zoo.find(name)
    card = zoo.read_card(folder)
    if (about := card.get("sample")) is None:
        if (data := card["data"]["name"]) not in _SHIPPED:
            raise CheckpointError(f"no test examples come with {name}; its data are {data}")
        pretrained = open_pretrained(folder)
        source = open_source(data_config(pretrained), "eval")
        return take_sample(source, pretrained, len(source))
    try:
        content = sample_file(about["file"]).read_bytes()
    except OSError as error:
        raise zoo.damaged(folder, f"{about['file']} of its test examples is missing or cannot be read") from error
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise zoo.damaged(folder, f"{about['file']} of its test examples is not what was written")
    return _read(content)


def sample_file(name: str) -> epath.Path:
    """Where the samples of the zoo are."""
    return zoo.FOLDER.parent / "samples" / name


def take_sample(source: LabelledSource, pretrained: Pretrained, count: int) -> Sample:
    """So many examples, evenly spread over a data set, as evaluation sees them: its centre crop, of clips the middle.

    Args:
      source: what to take of.
      pretrained: whose size and data section say how they are looked at.
      count: at most.
    """
    size = pretrained.config.input_size
    views = EvalViews(source, data_config(pretrained), [size])
    indices = np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int)
    pixels = np.zeros((len(indices), *size, 3), np.uint8)
    decoded = [views.fill(row, int(index))[0] for row, index in zip(pixels, indices, strict=True)]
    return Sample(pixels, np.array([example.target for example in decoded], np.int64))


def save_sample(sample: Sample, file: epath.Path) -> str:
    """Writes a sample, where it is not there yet; gives the file's SHA-256.

    Raises:
      CheckpointError: if there is another one of that name.
    """
    if not file.exists():
        content = io.BytesIO()
        np.savez_compressed(content, **sample._asdict())
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, content.getvalue())
    content = file.read_bytes()
    if not all(map(np.array_equal, _read(content), sample)):
        raise CheckpointError(
            f"{file} holds other examples than these; delete it, and pack all models again that have it"
        )
    return hashlib.sha256(content).hexdigest()


def top1(pretrained: Pretrained, sample: Sample) -> float:
    """The share of a sample whose class a model names."""
    data = data_config(pretrained)
    classify = classifier(pretrained.model(), data.mean, data.std)
    parts = range(0, len(sample.labels), _BATCH)
    found = np.concatenate([np.asarray(classify(sample.pixels[at : at + _BATCH])).argmax(-1) for at in parts])
    return float(np.mean(found == sample.labels))


def _read(content: bytes) -> Sample:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return Sample(file["pixels"], file["labels"])
