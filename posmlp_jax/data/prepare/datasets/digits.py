"""The 1797 handwritten digits of the UCI repository, 8×8 pixels, that ship with this project."""

import gzip
import hashlib
from importlib import resources
from pathlib import Path

import cv2
import numpy as np

from posmlp_jax.data.prepare.builder import Builder, Example, Recipe, cut

PER_SHARD = 1000


def load() -> tuple[np.ndarray, np.ndarray]:
    """The vendored table: pixels, int [1797, 8, 8] in 0..16, and labels, int [1797]."""
    file = resources.files("posmlp_jax.data").joinpath("digits/digits.csv.gz")
    table = np.loadtxt(gzip.decompress(file.read_bytes()).decode().splitlines(), delimiter=",").astype(np.int64)
    return table[:, :64].reshape(-1, 8, 8), table[:, 64]


def split_indices() -> dict[str, np.ndarray]:
    """The digits of the splits 'train' and 'test', every fifth of the table, in a fixed random order."""
    shuffled = np.random.default_rng(0).permutation(len(load()[1]))
    return {"train": shuffled[shuffled % 5 != 0], "test": shuffled[shuffled % 5 == 0]}


def build(source: Path | None, name: str) -> Recipe:
    """Images of the vendored table; `source` is not used."""
    import tensorflow_datasets as tfds

    del source
    pixels, labels = load()
    images = np.rint(pixels * (255 / 16)).astype(np.uint8)

    def read(index: int) -> Example:
        _, png = cv2.imencode(".png", images[index])
        return {"id": f"digit_{index:04d}", "image": png.tobytes(), "label": int(labels[index])}

    return Recipe(
        name=name,
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
            }
        ),
        splits={split: cut(read, indices, PER_SHARD) for split, indices in split_indices().items()},
        fingerprint={"sha256": hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(), "per_shard": PER_SHARD},
        description="Optical recognition of handwritten digits: 1797 grey images of 8×8 pixels, as in scikit-learn.",
        homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    )


BUILDER = Builder(build, source="", official="the digits ship with this project")
