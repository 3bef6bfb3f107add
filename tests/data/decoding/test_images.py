"""Decoding against Pillow, on every odd kind of image, and on a thousand broken ones."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from posmlp_jax.data.augment.crops import resize
from posmlp_jax.data.decoding import images
from posmlp_jax.data.decoding.images import decode, stored_and_upright_size
from posmlp_jax.errors import BrokenExampleError


def pil(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "jpeg"), ("L", "jpeg"), ("RGB", "png"), ("RGBA", "png"), ("L", "png"), ("P", "png"), ("RGB", "webp")],
)
def test_decode_agrees_with_pillow(picture, encoded, mode, kind):
    data = encoded(Image.fromarray(picture(61, 83)).convert(mode), kind)
    image = decode(data)
    assert image.shape == (61, 83, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pil(data))


def test_decode_cmyk_is_near_pillow(picture, encoded):
    data = encoded(Image.fromarray(picture(64, 64)).convert("CMYK"), quality=95)
    difference = np.abs(decode(data).astype(int) - pil(data))
    assert difference.mean() < 2


def test_decode_keeps_the_high_byte_of_16_bits(encoded):
    values = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    image = decode(encoded(Image.fromarray(values), "png"))
    np.testing.assert_array_equal(image, np.repeat((values >> 8)[:, :, None], 3, axis=2))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_decode_turns_photographs_upright(picture, encoded, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(48, 64), kind, exif=exif)
    np.testing.assert_array_equal(decode(data), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    assert decode(data).flags.c_contiguous


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_sizes_before_and_after_turning(picture, encoded, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(40, 64), kind, exif=exif)
    assert stored_and_upright_size(data) == ((40, 64), decode(data).shape[:2])


def test_what_can_be_decoded_has_the_size_that_was_said(mutated_files):
    for data in mutated_files:
        try:
            _, upright = stored_and_upright_size(data)
        except BrokenExampleError:
            with pytest.raises(BrokenExampleError):
                decode(data)
            continue
        try:
            image = decode(data)
        except BrokenExampleError:
            continue
        assert image.shape[:2] == upright


def test_decode_at_a_fraction_and_turned(picture, encoded):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(200, 800), quality=95, exif=exif)
    assert decode(data, min_size=(400, 100)).shape == (400, 100, 3)
    assert decode(data, min_size=(400, 101)).shape == (800, 200, 3)


def test_broken_exif_data_do_not_matter(picture, encoded):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(48, 64), exif=exif)
    start = data.index(b"Exif\x00\x00") + 6
    broken = data[:start] + b"\xff" * 20 + data[start + 20 :]
    np.testing.assert_array_equal(decode(broken), decode(encoded(picture(48, 64))))


def test_decode_at_a_fraction(picture, encoded):
    data = encoded(picture(600, 800), quality=95)
    whole = decode(data)
    np.testing.assert_array_equal(decode(data, min_size=(301, 10)), whole)
    half = decode(data, min_size=(300, 300))
    assert half.shape == (300, 400, 3)
    assert np.abs(half.astype(int) - resize(whole, (300, 400))).mean() < 2


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "bmp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_one_pixel(encoded, kind, mode):
    image = decode(encoded(Image.new(mode, (1, 1), "white"), kind))
    assert image.shape == (1, 1, 3)
    assert image.min() > 250


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_truncated_files_are_refused(picture, encoded, kind, share):
    data = encoded(picture(64, 64), kind)
    with pytest.raises(BrokenExampleError):
        decode(data[: int(share * len(data))])


def test_what_is_no_image_is_refused():
    with pytest.raises(BrokenExampleError, match="the file is empty"):
        decode(b"")
    for data in (b"GIF", b"\xff\xd8 no jpeg", b"<html></html>", b"%!PS-Adobe-3.0 EPSF-3.0"):
        with pytest.raises(BrokenExampleError, match="not a JPEG, PNG, WEBP, GIF or BMP image"):
            decode(data)


def claims(kind: str, height: int, width: int, encoded) -> bytes:
    """A small file whose header claims a large size."""
    data = encoded(np.zeros((8, 8, 3), np.uint8), kind)
    if kind == "jpeg":
        frame = data.index(b"\xff\xc0") + 5
        return data[:frame] + struct.pack(">HH", height, width) + data[frame + 4 :]
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_decompression_bombs_are_refused_at_once(encoded, kind):
    for height, width in ((60000, 60000), (13378, 13378)):
        start = time.perf_counter()
        with pytest.raises(BrokenExampleError, match="exceeds limit of 178956970 pixels"):
            decode(claims(kind, height, width, encoded))
        assert time.perf_counter() - start < 0.1
    assert images.MAX_PIXELS == 178956970
    np.testing.assert_array_equal(decode(claims(kind, 8, 8, encoded)), np.zeros((8, 8, 3)))


@pytest.mark.parametrize("min_size", [None, (16, 16)])
def test_a_thousand_mutated_files_decode_or_are_refused(mutated_files, min_size):
    refused = 0
    for data in mutated_files:
        try:
            image = decode(data, min_size)
        except BrokenExampleError:
            refused += 1
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
            assert image.size > 0
    assert len(mutated_files) == 1000
    assert 300 < refused < 900  # Both happen, and often.
