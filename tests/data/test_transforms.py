import io
import math

import numpy as np
import pytest
from PIL import Image

from posmlp_jax.data import transforms
from posmlp_jax.errors import DataError


def pil(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "jpeg"), ("L", "jpeg"), ("RGB", "png"), ("RGBA", "png"), ("L", "png"), ("P", "png"), ("RGB", "webp")],
)
def test_decode_agrees_with_pillow(picture, encoded, mode, kind):
    data = encoded(Image.fromarray(picture(61, 83)).convert(mode), kind)
    image = transforms.decode(data)
    assert image.shape == (61, 83, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pil(data))


def test_decode_cmyk_is_near_pillow(picture, encoded):
    data = encoded(Image.fromarray(picture(64, 64)).convert("CMYK"), quality=95)
    difference = np.abs(transforms.decode(data).astype(int) - pil(data))
    assert difference.mean() < 2


def test_decode_keeps_the_high_byte_of_16_bits(encoded):
    values = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    image = transforms.decode(encoded(Image.fromarray(values), "png"))
    np.testing.assert_array_equal(image, np.repeat((values >> 8)[:, :, None], 3, axis=2))


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_decode_turns_photographs_upright(picture, encoded, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = picture(48, 64)
    data = encoded(np.rot90(upright, -turns).copy(), quality=95, exif=exif)
    assert transforms.decode(data).shape == (48, 64, 3)
    assert np.abs(transforms.decode(data).astype(int) - upright).mean() < 4


def test_decode_at_a_fraction(picture, encoded):
    data = encoded(picture(600, 800), quality=95)
    whole = transforms.decode(data)
    np.testing.assert_array_equal(transforms.decode(data, min_size=(301, 10)), whole)
    half = transforms.decode(data, min_size=(300, 300))
    assert half.shape == (300, 400, 3)
    assert np.abs(half.astype(int) - transforms.resize(whole, (300, 400))).mean() < 2


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_decode_refuses_truncated_files(picture, encoded, kind, share):
    data = encoded(picture(64, 64), kind)
    with pytest.raises(DataError):
        transforms.decode(data[: int(share * len(data))])


def test_decode_says_what_is_no_image():
    for data in (b"", b"GIF", b"\xff\xd8 no jpeg", b"<html></html>"):
        with pytest.raises(DataError, match="neither JPEG"):
            transforms.decode(data)


def test_resize_is_pillows(picture):
    image = picture(50, 70)
    expected = Image.fromarray(image).resize((20, 30), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(transforms.resize(image, (30, 20)), np.asarray(expected))
    assert transforms.resize(image, (50, 70)) is image


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
    np.testing.assert_array_equal(transforms.center_crop(image, (224, 224), eval_crop), expected)


def test_center_crop_of_other_shapes(picture):
    for size in ((64, 128), (128, 64), (7, 5)):
        assert transforms.center_crop(picture(90, 130), size, 0.875).shape == (*size, 3)
    image = picture(8, 8)
    np.testing.assert_array_equal(transforms.center_crop(image, (8, 8), 1.0), image)


def test_crop_boxes_have_the_distribution_of_inception_crops():
    rng = np.random.default_rng(0)
    # In a square of this size boxes of up to half the area always fit, whatever their ratio.
    boxes = np.array([transforms.crop_box(1000, 1000, (0.08, 0.5), (3 / 4, 4 / 3), rng) for _ in range(4000)])
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
    assert transforms.crop_box(10, 1000, (0.9, 1.0), (3 / 4, 4 / 3), rng) == (0, (1000 - 13) // 2, 10, 13)
    assert transforms.crop_box(1000, 10, (0.9, 1.0), (3 / 4, 4 / 3), rng) == ((1000 - 13) // 2, 0, 13, 10)


@pytest.mark.parametrize("side", [150, 300])
def test_random_resized_crop_is_near_pillows(picture, side):
    image = picture(side, side)
    arguments = ((0.5, 1.0), (3 / 4, 4 / 3))
    for seed in range(5):
        crop = transforms.random_resized_crop(image, (96, 128), *arguments, np.random.default_rng(seed))
        top, left, height, width = transforms.crop_box(side, side, *arguments, np.random.default_rng(seed))
        expected = Image.fromarray(image[top : top + height, left : left + width]).resize(
            (128, 96), Image.Resampling.BICUBIC
        )
        assert np.abs(crop.astype(int) - np.asarray(expected)).mean() < 1


def test_pad_crop_shifts_the_reflection(picture):
    image = picture(20, 30)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    windows = {padded[y : y + 20, x : x + 30].tobytes(): (y, x) for y in range(9) for x in range(9)}
    rng = np.random.default_rng(0)
    seen = {windows[transforms.pad_crop(image, 4, rng).tobytes()] for _ in range(1500)}
    assert len(seen) == 81


def test_random_flip(picture):
    image = picture(4, 6)
    rng = np.random.default_rng(0)
    flipped = [not np.array_equal(transforms.random_flip(image, rng), image) for _ in range(400)]
    assert 150 < sum(flipped) < 250
    np.testing.assert_array_equal(transforms.random_flip(image, _Always()), image[:, ::-1])


class _Always:
    def random(self) -> float:
        return 0.0
