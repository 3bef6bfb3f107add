import io

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from posmlp_jax.data.prepare import prepare


@pytest.fixture
def make_config(tmp_path):
    """The data section of a config, for digits in `tmp_path` unless told otherwise."""

    def make(**changes) -> ConfigDict:
        config = ConfigDict(
            {
                "name": "digits",
                "data_dir": str(tmp_path),
                "train_split": "train",
                "eval_split": "test",
                "holdout": 0.0,
                "crop": "pad",
                "crop_scale": (0.08, 1.0),
                "crop_ratio": (3 / 4, 4 / 3),
                "crop_padding": 1,
                "flip": True,
                "eval_crop": 1.0,
                "threads": 0,
                "processes": 0,
                "num_examples": 30,
                "num_classes": 5,
            }
        )
        config.update(changes)
        return config

    return make


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    """A data_dir with digits in it. Not to be written to."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare("digits", data_dir=str(folder))
    return folder


@pytest.fixture(scope="session")
def picture():
    """Makes a smooth random picture [height, width, 3], of which JPEG and resizing keep most."""

    def make(height: int, width: int, seed: int = 0) -> np.ndarray:
        coarse = np.random.default_rng(seed).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
        return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))

    return make


@pytest.fixture(scope="session")
def encoded():
    """Encodes an array or a PIL image."""

    def encode(image: np.ndarray | Image.Image, kind: str = "jpeg", **options) -> bytes:
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture
def image_folder(tmp_path, picture, encoded):
    """Makes DIR/<path of each key>/image0.jpg …, as many as its value says; returns DIR."""

    def make(counts: dict[str, int], suffix: str = ".jpg", name: str = "images"):
        root = tmp_path / name
        for number, (path, count) in enumerate(counts.items()):
            (root / path).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                kind = {".jpg": "jpeg", ".png": "png", ".webp": "webp"}.get(suffix.lower(), "jpeg")
                (root / path / f"image{i}{suffix}").write_bytes(encoded(picture(24, 32, 100 * number + i), kind))
        return root

    return make
