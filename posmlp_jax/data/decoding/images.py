"""Image files as arrays: uint8, RGB, [height, width, 3], upright. Sizes are (height, width)."""

import contextlib
import io
from collections.abc import Iterator

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from posmlp_jax.errors import BrokenExampleError

Size = tuple[int, int]

# Larger images (537 MB once decoded) are refused, as Pillow refuses them: a few bytes can claim any size.
MAX_PIXELS = 2 * Image.MAX_IMAGE_PIXELS
# Not everything that Pillow knows: some formats start other programs, and none of those is a photograph's.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_ORIENTATION = 0x0112
# What makes an image upright, by its EXIF orientation: exchange rows and columns, then reverse rows, reverse columns.
_TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def decode(data: bytes, min_size: Size | None = None) -> np.ndarray:
    """Decodes an image file to uint8 RGB [height, width, 3], turned upright as its EXIF orientation says.

    Transparency is dropped, 16-bit images keep their high bytes, grey and CMYK become RGB, of an animation the first
    picture is taken. A JPEG whose pixels are damaged without being cut short may come out with a wrong patch.

    Args:
      data: a JPEG, PNG, WebP, GIF or BMP file, whatever its name says.
      min_size: a JPEG more than twice as large is decoded at a fraction of its size, but no smaller than this.

    Raises:
      BrokenExampleError: when `data` is no image, a truncated one, or one of more than MAX_PIXELS.
    """
    if not data:
        raise BrokenExampleError("the file is empty")
    if data[:2] == b"\xff\xd8":
        orientation = _jpeg_orientation(data) if _has_exif(data) else 1
        image = _decode_jpeg(data, min_size if orientation < 5 or min_size is None else min_size[::-1])
        # What this cannot decode, Pillow can, or says why not.
        if image is not None:
            return _upright(image, orientation)
    return _decode_with_pillow(data, min_size)


def stored_and_upright_size(data: bytes) -> tuple[Size, Size]:
    """The size that an image file's header says, and that of the upright image, which `decode` gives.

    Raises:
      BrokenExampleError: when `data` has no image's header.
    """
    if not data:
        raise BrokenExampleError("the file is empty")
    if data[:2] == b"\xff\xd8":
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            pass
        else:
            return _turned((height, width), _jpeg_orientation(data) if _has_exif(data) else 1)
    with _opened(data) as image:
        return _turned(image.size[::-1], _orientation(image))


def _turned(size: Size, orientation: int) -> tuple[Size, Size]:
    exchange = orientation in _TURNS and _TURNS[orientation][0]
    return size, size[::-1] if exchange else size


def looks_whole(data: bytes) -> bool:
    """Whether a JPEG or PNG has a header, of an image that is not too large, and ends as it should: told in 10 µs.

    False where only decoding can tell, as of other formats.
    """
    if data[:2] == b"\xff\xd8":
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            return False
        # Some cameras fill up the file.
        whole = data[-64:].rstrip(b"\0").endswith(b"\xff\xd9")
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
        whole = data[-8:-4] == b"IEND"
    else:
        return False
    return whole and 0 < height * width <= MAX_PIXELS


def _decode_jpeg(data: bytes, min_size: Size | None) -> np.ndarray | None:
    least_height, least_width = min_size or (0, 0)
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > MAX_PIXELS:
            return None
        return simplejpeg.decode_jpeg(data, "RGB", min_height=least_height, min_width=least_width, min_factor=2)
    except ValueError:
        return None


def _decode_with_pillow(data: bytes, min_size: Size | None) -> np.ndarray:
    with _opened(data) as image:
        if min_size is not None:
            image.draft(None, (max(min_size), max(min_size)))
        image.load()
        return _upright(_to_rgb(image), _orientation(image))


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The image for as long as it is needed; what goes wrong with it meanwhile is a BrokenExampleError."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            yield image
    except UnidentifiedImageError as error:
        raise BrokenExampleError(
            f"not a {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]} image, or a broken one"
        ) from error
    # Besides its own errors Pillow lets through whatever its parsers stumble over: struct.error, IndexError, …
    except Exception as error:
        raise BrokenExampleError(f"the image cannot be decoded: {error or type(error).__name__}") from error


def _has_exif(data: bytes) -> bool:
    """Whether a JPEG has EXIF data, told from its segments: faster than looking for the name, by 20 µs a photograph."""
    start = 2
    while data[start : start + 1] == b"\xff" and data[start + 1 : start + 2] != b"\xda":  # where the pixels begin
        if data[start + 4 : start + 9] == b"Exif\x00":
            return True
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return False


def _jpeg_orientation(data: bytes) -> int:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return _orientation(image)
    except Exception:  # As above. What is wrong with the image shows when it is decoded.
        return 1


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # As above: broken EXIF data do not make the picture unusable.
        return 1
    return orientation if orientation in _TURNS else 1


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    if orientation == 1:
        return image
    exchange, reverse_rows, reverse_columns = _TURNS[orientation]
    if exchange:
        image = image.swapaxes(0, 1)
    return np.ascontiguousarray(image[:: -1 if reverse_rows else 1, :: -1 if reverse_columns else 1])


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        # Pillow has 16-bit grey as 'I;16' or 'I', and would clip it at 255 instead of scaling it.
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))
