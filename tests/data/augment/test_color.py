"""The colour operations against Pillow's, on a real photo, and the statistics of colour jitter."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from posmlp_jax.data.augment import color
from posmlp_jax.errors import ConfigError


def load_photos() -> list[Image.Image]:
    photo = Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    flat = Image.new("RGB", (40, 30), (0, 128, 255))
    dull = Image.fromarray((np.asarray(photo.resize((64, 80))) // 3 + 60).astype(np.uint8))
    return [photo.resize((224, 224)), photo.crop((131, 90, 332, 263)), dull, flat]


PHOTOS = load_photos()


def assert_matches(operation, reference, tolerance):
    """Every pixel within `tolerance` levels; the input as it was, the output a new uint8 image of its shape."""
    for photo in PHOTOS:
        image = np.array(photo)
        result = operation(image)
        np.testing.assert_array_equal(image, np.asarray(photo))
        assert result.dtype == np.uint8
        assert result.shape == image.shape
        difference = np.abs(result.astype(int) - np.asarray(reference(photo)).astype(int))
        assert difference.max() <= tolerance
        assert difference.mean() <= 0.01


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "invert"])
def test_operations_without_argument_equal_pillow(name):
    assert_matches(getattr(color, name), getattr(ImageOps, name), 0)


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize_equals_pillow(bits):
    assert_matches(lambda image: color.posterize(image, bits), lambda photo: ImageOps.posterize(photo, bits), 0)


def test_posterize_to_no_bits_is_black():
    assert not color.posterize(np.array(PHOTOS[0]), 0).any()


@pytest.mark.parametrize("threshold", [0, 1, 100, 128, 255, 256])
def test_solarize_equals_pillow(threshold):
    assert_matches(lambda image: color.solarize(image, threshold), lambda p: ImageOps.solarize(p, threshold), 0)


@pytest.mark.parametrize("amount", [0, 1, 66, 110, 128])
def test_solarize_add_equals_timm(amount):
    table = [min(255, level + amount) if level < 128 else level for level in range(256)] * 3
    assert_matches(lambda image: color.solarize_add(image, amount), lambda photo: photo.point(table), 0)


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.46, 0.73, 1.0, 1.27, 1.54, 1.9])
@pytest.mark.parametrize(
    ("operation", "enhancer"),
    [
        (color.brightness, ImageEnhance.Brightness),
        (color.contrast, ImageEnhance.Contrast),
        (color.saturation, ImageEnhance.Color),
        (color.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancements_are_within_one_level_of_pillow(operation, enhancer, factor):
    assert_matches(lambda image: operation(image, factor), lambda photo: enhancer(photo).enhance(factor), 1)


def test_color_jitter_of_nothing_is_the_image_itself():
    image = np.array(PHOTOS[0])
    assert color.ColorJitter(0.0)(image, np.random.default_rng(0)) is image


def test_color_jitter_draws_uniform_factors():
    # The brightness factor can be read off a white image wherever it darkens: the other two leave greys as they are.
    white = np.full((2, 2, 3), 255, np.uint8)
    rng = np.random.default_rng(0)
    levels = np.array([color.ColorJitter(0.4)(white, rng)[0, 0, 0] for _ in range(2000)])
    darkened = levels[levels < 255] / 255
    assert abs(len(darkened) / 2000 - 0.5) < 0.05
    assert darkened.min() == pytest.approx(0.6, abs=0.01)
    assert darkened.mean() == pytest.approx(0.8, abs=0.01)


def test_color_jitter_equals_pillows_operations_in_the_drawn_order():
    image = np.array(PHOTOS[1])
    orders = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        orders.add(tuple(rng.permutation(3).tolist()))
        expected = Image.fromarray(image)
        for index in np.random.default_rng(seed).permutation(3):
            enhancer = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[index]
            expected = enhancer(expected).enhance(rng.uniform(0.6, 1.4))
        result = color.ColorJitter(0.4)(image, np.random.default_rng(seed))
        difference = np.abs(result.astype(int) - np.asarray(expected).astype(int))
        assert difference.max() <= 4  # one level, twice multiplied by up to 1.4
        assert difference.mean() <= 0.05
    assert len(orders) == 6


def test_color_jitter_depends_on_the_generator_alone():
    image = np.array(PHOTOS[1])
    same = [color.ColorJitter(0.4)(image, np.random.default_rng(7)) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    np.testing.assert_array_equal(image, np.asarray(PHOTOS[1]))
    assert (same[0] != color.ColorJitter(0.4)(image, np.random.default_rng(8))).any()


def test_color_jitter_rejects_negative_strengths():
    with pytest.raises(ConfigError, match=r"color_jitter=-0.1: strengths must be at least 0"):
        color.ColorJitter(-0.1)
