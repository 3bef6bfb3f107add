"""Rotation, shear and translation against Pillow's, on a real photo at even and odd sizes."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from posmlp_jax.data.augment import affine

FILL = (124, 116, 104)
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def load_photos() -> list[Image.Image]:
    photo = Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    flat = Image.new("RGB", (90, 70), (3, 128, 255))
    return [photo.resize((224, 224)), photo.crop((131, 90, 332, 263)), photo.resize((31, 47)), flat]


PHOTOS = load_photos()


def transform(photo, matrix, interpolation):
    return photo.transform(photo.size, Image.Transform.AFFINE, matrix, RESAMPLING[interpolation], fillcolor=FILL)


REFERENCES = {
    "rotate": lambda photo, degrees, name: photo.rotate(degrees, RESAMPLING[name], fillcolor=FILL),
    "shear_x": lambda photo, factor, name: transform(photo, (1, factor, 0, 0, 1, 0), name),
    "shear_y": lambda photo, factor, name: transform(photo, (1, 0, 0, factor, 1, 0), name),
    "translate_x": lambda photo, share, name: transform(photo, (1, 0, share * photo.width, 0, 1, 0), name),
    "translate_y": lambda photo, share, name: transform(photo, (1, 0, 0, 0, 1, share * photo.height), name),
}
CASES = [("rotate", degrees) for degrees in (-30, -6.3, 0, 1.7, 17, 30)]
CASES += [(name, factor) for name in ("shear_x", "shear_y") for factor in (-0.3, -0.02, 0.0, 0.18)]
CASES += [(name, share) for name in ("translate_x", "translate_y") for share in (-0.45, -0.1, 0.0, 0.27)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("name", "argument"), CASES)
def test_operations_are_within_one_level_of_pillow(name, argument, interpolation):
    for photo in PHOTOS:
        image = np.array(photo)
        result, _ = getattr(affine, name)(image, argument, interpolation, FILL)
        np.testing.assert_array_equal(image, np.asarray(photo))
        assert result.dtype == np.uint8
        assert result.shape == image.shape
        expected = np.asarray(REFERENCES[name](photo, argument, interpolation)).astype(int)
        difference = np.abs(result.astype(int) - expected)
        assert difference.max() <= 1
        # Measured: at most 0.006, and 0.06 where the offset is a round number and Pillow's doubles fall just below one.
        assert difference.mean() <= 0.1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", sorted(REFERENCES))
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5, 3), (7, 1, 3), (2, 3, 3)])
def test_tiny_images_are_within_one_level_of_pillow(shape, name, interpolation):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    result, _ = getattr(affine, name)(image, 0.27, interpolation, FILL)
    expected = np.asarray(REFERENCES[name](Image.fromarray(image), 0.27, interpolation)).astype(int)
    assert np.abs(result.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_what_was_outside_is_filled(name):
    image = np.zeros((20, 20, 3), np.uint8)
    argument = 30 if name == "rotate" else 0.45
    result, _ = getattr(affine, name)(image, argument, "bilinear", FILL)
    assert {tuple(int(level) for level in pixel) for pixel in result.reshape(-1, 3)} == {(0, 0, 0), FILL}
