import math
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from PIL import Image

from posmlp_jax.data.augment import crops


def test_resize_is_pillows(picture):
    image = picture(50, 70)
    expected = Image.fromarray(image).resize((20, 30), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(crops.resize(image, (30, 20)), np.asarray(expected))
    assert crops.resize(image, (50, 70)) is image


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 375), (100, 100), (333, 1001), (224, 224)])
@pytest.mark.parametrize("eval_crop", [0.9, 0.875, 1.0])
def test_center_crop_is_timms(picture, height, width, eval_crop):
    image = picture(height, width)
    # timm: Resize(floor(224 / crop_pct), bicubic) of the shorter side, the longer one truncated, and CenterCrop(224).
    short = math.floor(224 / eval_crop)
    size = (short, int(short * width / height)) if height <= width else (int(short * height / width), short)
    resized = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
    top, left = round((size[0] - 224) / 2.0), round((size[1] - 224) / 2.0)
    expected = np.asarray(resized)[top : top + 224, left : left + 224]
    np.testing.assert_array_equal(crops.center_crop(image, (224, 224), eval_crop), expected)


def test_center_crop_of_other_shapes(picture):
    for size in ((64, 128), (128, 64), (7, 5)):
        assert crops.center_crop(picture(90, 130), size, 0.875).shape == (*size, 3)
    image = picture(8, 8)
    np.testing.assert_array_equal(crops.center_crop(image, (8, 8), 1.0), image)


@pytest.mark.parametrize("shape", [(2, 20000), (20000, 3)])
def test_center_crop_of_the_longest_images_stays_small(monkeypatch, shape):
    sizes = []
    resize = crops.resize
    monkeypatch.setattr(crops, "resize", lambda image, size: sizes.append(size) or resize(image, size))
    image = np.zeros((*shape, 3), np.uint8)
    image[:, 9900:10100] = image[9900:10100] = 255
    assert (crops.center_crop(image, (32, 32), 1.0)[8:24, 8:24] == 255).all()
    assert math.prod(sizes[0]) <= 16 * 32 * 32


def test_crop_boxes_have_the_distribution_of_inception_crops():
    rng = np.random.default_rng(0)
    # In a square of this size boxes of up to half the area always fit, whatever their ratio.
    boxes = np.array([crops.crop_box(1000, 1000, (0.08, 0.5), (3 / 4, 4 / 3), rng) for _ in range(4000)])
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 1000).all()
    assert (left + width <= 1000).all()
    share = np.sort(height * width / 1e6)
    log_ratio = np.sort(np.log(width / height))
    position = np.sort(top / (1000 - height))
    for values, low, high in (
        (share, 0.08, 0.5),
        (log_ratio, math.log(3 / 4), math.log(4 / 3)),
        (position, 0, 1),
    ):
        uniform = np.linspace(low, high, len(values))
        assert np.abs(values - uniform).max() < 0.03 * (high - low)  # Kolmogorov-Smirnov, p < 0.001


def test_crop_box_falls_back_to_the_centre():
    rng = np.random.default_rng(0)
    assert crops.crop_box(10, 1000, (0.9, 1.0), (3 / 4, 4 / 3), rng) == (0, (1000 - 13) // 2, 10, 13)
    assert crops.crop_box(1000, 10, (0.9, 1.0), (3 / 4, 4 / 3), rng) == ((1000 - 13) // 2, 0, 13, 10)


def test_random_resized_crop_is_a_resized_box(picture):
    image = picture(90, 120)
    arguments = ((0.5, 1.0), (3 / 4, 4 / 3))
    for seed in range(5):
        crop, _ = crops.random_resized_crop(image, (48, 40), *arguments, np.random.default_rng(seed))
        top, left, height, width = crops.crop_box(90, 120, *arguments, np.random.default_rng(seed))
        box = image[top : top + height, left : left + width]
        np.testing.assert_array_equal(crop, crops.fast_resize(box.copy(), (48, 40)))


@pytest.mark.parametrize(("height", "width"), [(90, 130), (200, 160), (20, 30)])
def test_bilinear_interpolation_is_pytorchs(picture, height, width):
    """Pixel i of n looks at (i + ½)·m/n − ½ of m, between the two nearest pixels: no antialiasing."""
    image = picture(height, width).copy()
    image[::2, ::2] = 255 - image[::2, ::2]
    for seed in range(5):
        top, left, h, w = crops.crop_box(height, width, (0.3, 1.0), (0.75, 1.3333), np.random.default_rng(seed))
        wanted = image[top : top + h, left : left + w].astype(np.float64)
        for axis, (have, want) in enumerate(((h, 64), (w, 48))):
            places = np.clip((np.arange(want) + 0.5) * have / want - 0.5, 0, None)
            low = places.astype(int)
            share = (places - low).reshape([-1, 1, 1] if axis == 0 else [1, -1, 1])
            high = np.minimum(low + 1, have - 1)
            wanted = (1 - share) * wanted.take(low, axis) + share * wanted.take(high, axis)
        crop, _ = crops.random_resized_crop(
            image, (64, 48), (0.3, 1.0), (0.75, 1.3333), np.random.default_rng(seed), "bilinear"
        )
        assert np.abs(crop - wanted).max() <= 1


def test_random_interpolation_is_pillows(picture):
    """Crops that shrink and that grow, one side or both; the box is the one of 'bicubic'."""
    image, size = picture(90, 120), (48, 80)
    arguments = ((0.1, 1.0), (1 / 2, 2.0))
    seen = {Image.Resampling.BILINEAR: 0, Image.Resampling.BICUBIC: 0}
    for seed in range(60):
        crop, _ = crops.random_resized_crop(image, size, *arguments, np.random.default_rng(seed), "random")
        rng = np.random.default_rng(seed)
        top, left, height, width = crops.crop_box(90, 120, *arguments, rng)
        box = Image.fromarray(image).crop((left, top, left + width, top + height))
        kind = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)[rng.integers(2)]
        np.testing.assert_array_equal(crop, np.asarray(box.resize(size[::-1], kind)))
        seen[kind] += 1
    assert min(seen.values()) > 15


PHOTO = np.array(Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))


def difference(image, size, resized) -> float:
    """The mean difference in levels from Pillow's antialiased bicubic."""
    expected = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.abs(resized.astype(int) - np.asarray(expected)).mean()


@pytest.mark.parametrize("shrink_y", [0.7, 1.0, 1.1, 1.3, 1.6, 1.9, 2.3, 3.4])
@pytest.mark.parametrize("shrink_x", [0.8, 1.2, 1.5, 1.97, 2.6])
def test_fast_resize_is_near_pillows(shrink_y, shrink_x):
    image = PHOTO[: round(128 * shrink_y), : round(160 * shrink_x)]
    resized = crops.fast_resize(image, (128, 160))
    assert resized.shape == (128, 160, 3)
    error = difference(image, (128, 160), resized)
    assert error < 1.45
    if min(shrink_y, shrink_x) > 1:
        area = cv2.resize(image, (160, 128), interpolation=cv2.INTER_AREA)
        assert error < 1.1 * difference(image, (128, 160), area)


def test_fast_resize_keeps_places():
    ramp = np.tile(np.linspace(20, 230, 301)[None, :, None], (211, 1, 3))
    for size in ((128, 160), (60, 97), (211, 301), (250, 350)):
        resized = crops.fast_resize(np.rint(ramp).astype(np.uint8), size)[:, 4:-4]
        expected = 20 + 210 * ((np.arange(size[1]) + 0.5) * 301 / size[1] - 0.5) / 300
        np.testing.assert_allclose(resized, np.broadcast_to(expected[4:-4, None], resized.shape), atol=1.3)
    for shape in ((1, 1, 3), (1, 500, 3), (500, 1, 3), (7, 3, 3)):
        assert (crops.fast_resize(np.full(shape, 77, np.uint8), (32, 32)) == 77).all()


def test_pad_crop_shifts_the_reflection(picture):
    image = picture(20, 30)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = {padded[y : y + 20, x : x + 30].tobytes(): (y, x) for y in range(9) for x in range(9)}
    rng = np.random.default_rng(0)
    seen = {windows[crops.pad_crop(image, 4, rng)[0].tobytes()] for _ in range(1500)}
    assert len(seen) == 81


def test_random_flip(picture):
    image = picture(4, 6)
    rng = np.random.default_rng(0)
    flipped = [not np.array_equal(crops.random_flip(image, rng)[0], image) for _ in range(400)]
    assert 150 < sum(flipped) < 250
    np.testing.assert_array_equal(crops.random_flip(image, _Always())[0], image[:, ::-1])


class _Always:
    def random(self) -> float:
        return 0.0
