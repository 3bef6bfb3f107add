"""Operations on images on the host: uint8 arrays [height, width, 3], RGB. Sizes are (height, width)."""

import contextlib
import io
import math

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from posmlp_jax.errors import DataError

Size = tuple[int, int]

# Many images are worked on at the same time; cv2's own threads would only compete with those of the loader.
cv2.setNumThreads(1)


def decode(data: bytes, min_size: Size | None = None) -> np.ndarray:
    """Decodes an image file to uint8 RGB [height, width, 3], turned upright as its EXIF orientation says.

    Transparency is dropped, 16-bit images keep their high bytes, grey and CMYK become RGB.

    Args:
      data: JPEG, PNG, WebP, or whatever else Pillow reads.
      min_size: a JPEG more than twice as large is decoded at a fraction of its size, but no smaller than this.

    Raises:
      DataError: when `data` is no image, or a truncated one.
    """
    if data[:2] == b"\xff\xd8":
        height, width = min_size or (0, 0)
        # Only where EXIF data begins within the first 64 KB can there be an orientation, which Pillow then reads.
        if data.find(b"Exif\x00", 0, 65536) < 0 or _orientation(data) == 1:
            # What it cannot decode, Pillow can, or says why not.
            with contextlib.suppress(ValueError):
                return simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width, min_factor=2)
    try:
        with Image.open(io.BytesIO(data)) as image:
            if min_size is not None:
                image.draft(None, (max(min_size), max(min_size)))
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise DataError("neither JPEG, PNG, WebP nor another kind of image that Pillow reads") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"the image cannot be decoded: {error}") from error


def _orientation(data: bytes) -> int:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.getexif().get(0x0112, 1)
    except (OSError, ValueError, SyntaxError):
        return 1


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        # Pillow has 16-bit grey as 'I;16' or 'I', and would clip it at 255 instead of scaling it.
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def resize(image: np.ndarray, size: Size) -> np.ndarray:
    """Bicubic resizing, antialiased: exactly Pillow's."""
    if image.shape[:2] == tuple(size):
        return image
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


def crop_box(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """The box (top, left, height, width) of an Inception crop.

    Its share of the area is uniform in `scale`, its width / height log-uniform in `ratio`. When none of ten tries fits
    into the image, it is the largest centred box whose ratio is within bounds.
    """
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w = min(width, max(1, round(height * ratio[1])))
    h = min(height, max(1, round(width / ratio[0])))
    return (height - h) // 2, (width - w) // 2, h, w


def random_resized_crop(
    image: np.ndarray,
    size: Size,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray:
    """A random box of the image (`crop_box`), resized to `size`.

    Boxes larger than `size` are averaged (cv2's INTER_AREA, antialiased and much faster than Pillow), smaller ones are
    interpolated bicubically.
    """
    top, left, height, width = crop_box(*image.shape[:2], scale, ratio, rng)
    box = image[top : top + height, left : left + width]
    shrinks = height * width > size[0] * size[1]
    return cv2.resize(box, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def pad_crop(image: np.ndarray, padding: int, rng: np.random.Generator) -> np.ndarray:
    """Shifts the image by up to `padding` pixels in each direction; what comes in is its reflection."""
    height, width = image.shape[:2]
    top, left = rng.integers(2 * padding + 1, size=2)
    padded = cv2.copyMakeBorder(image, padding, padding, padding, padding, cv2.BORDER_REFLECT_101)
    return padded[top : top + height, left : left + width]


def random_flip(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirrors left and right, half of the time."""
    return image[:, ::-1] if rng.random() < 0.5 else image


def center_crop(image: np.ndarray, size: Size, eval_crop: float) -> np.ndarray:
    """The evaluation crop of timm: resized until it just covers `size / eval_crop`, then the centre is cut out.

    Both sides of `size / eval_crop` are rounded down, as in timm (224 and 0.9 give 248).
    """
    target = [math.floor(side / eval_crop) for side in size]
    height, width = image.shape[:2]
    shrink = min(height / target[0], width / target[1])
    resized = resize(
        image, tuple(max(goal, int(side / shrink)) for goal, side in zip(target, (height, width), strict=True))
    )
    top, left = (round((have - want) / 2) for have, want in zip(resized.shape[:2], size, strict=True))
    return resized[top : top + size[0], left : left + size[1]]
