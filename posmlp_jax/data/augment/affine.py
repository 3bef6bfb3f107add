"""Rotation, shear and translation of uint8 RGB images, equal to Pillow's within one level of 255.

Every operation takes a uint8 image (height, width, 3) and returns a new one of the same shape, as Pillow's
`Image.transform(AFFINE)` and `Image.rotate` do, and where the pixels went: a pixel whose place in the source lies
outside the image is `fill` (one value of 0..255 a channel), and inside it the image is continued by its outermost
pixels. `interpolation` is 'bilinear' or 'bicubic'.

Pillow's bicubic kernel has a = -1, cv2's a = -0.75, which differs by 0.65 levels on average and up to 19 on a photo.
Shears and translations move whole rows or columns, so they are interpolated in one dimension here: Pillow's kernel, and
faster than `cv2.warpAffine`. That leaves the bicubic rotation, which is Pillow's own.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from posmlp_jax.data.augment.placement import Movement

Fill = tuple[int, int, int]
Moved = tuple[np.ndarray, Movement]

_ROWS = 64  # interpolated at once


def shear_x(image: np.ndarray, factor: float, interpolation: str, fill: Fill) -> Moved:
    """Row y shows what was `factor` · y pixels further right, y counted from the top edge of the image."""
    rows = factor * (np.arange(image.shape[0]) + 0.5)
    return _move_rows(image, rows, interpolation, fill), _movement(((1.0, -factor, 0.0), (0.0, 1.0, 0.0)))


def shear_y(image: np.ndarray, factor: float, interpolation: str, fill: Fill) -> Moved:
    """Column x shows what was `factor` · x pixels further down, x counted from the left edge of the image."""
    return _transposed(shear_x, image, factor, interpolation, fill)


def translate_x(image: np.ndarray, fraction: float, interpolation: str, fill: Fill) -> Moved:
    """Shows what was `fraction` of the width further right, so a positive one moves the content left."""
    height, width = image.shape[:2]
    rows = np.full(height, fraction * width)
    return _move_rows(image, rows, interpolation, fill), _movement(((1.0, 0.0, -fraction * width), (0.0, 1.0, 0.0)))


def translate_y(image: np.ndarray, fraction: float, interpolation: str, fill: Fill) -> Moved:
    """Shows what was `fraction` of the height further down, so a positive one moves the content up."""
    return _transposed(translate_x, image, fraction, interpolation, fill)


def rotate(image: np.ndarray, degrees: float, interpolation: str, fill: Fill) -> Moved:
    """Rotates counter-clockwise around the centre; the size stays."""
    height, width = image.shape[:2]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    moved = _movement(
        (
            (cos, sin, (width - cos * width - sin * height) / 2),
            (-sin, cos, (height + sin * width - cos * height) / 2),
        )
    )
    if interpolation == "bicubic":
        return np.array(Image.fromarray(image).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=fill)), moved
    # From output to source, in pixel edges: the image spans [0, width] × [0, height], pixel i has its centre at i + ½.
    x0 = (width - cos * width + sin * height) / 2
    y0 = (height - sin * width - cos * height) / 2
    # cv2 counts from pixel centres instead.
    matrix = np.array([[cos, -sin, x0 + (cos - sin - 1) / 2], [sin, cos, y0 + (sin + cos - 1) / 2]])
    # Pillow drops the result's fraction, cv2 rounds it: 8 more bits, dropped afterwards, make the two agree.
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    wide = cv2.warpAffine(
        image.astype(np.uint16) << 8, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    rotated = (wide >> 8).astype(np.uint8)
    x, y = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
    inside_x = cv2.inRange(cos * x - (sin * y - x0), 0.0, np.nextafter(width, 0.0))
    inside_y = cv2.inRange(sin * x + (cos * y + y0), 0.0, np.nextafter(height, 0.0))
    return _fill_outside(rotated, cv2.bitwise_and(inside_x, inside_y), fill), moved


def _movement(rows: tuple[tuple[float, float, float], tuple[float, float, float]]) -> Movement:
    return np.array([*rows, (0.0, 0.0, 1.0)])


def _transposed(operation: Callable[..., Moved], image: np.ndarray, *arguments) -> Moved:
    """What an operation does to rows, done to columns."""
    moved, movement = operation(cv2.transpose(image), *arguments)
    return cv2.transpose(moved), movement[np.ix_((1, 0, 2), (1, 0, 2))]


def _move_rows(image: np.ndarray, offsets: np.ndarray, interpolation: str, fill: Fill) -> np.ndarray:
    """Pixel x of row y becomes the image at x + offsets[y]; offsets (height,) in pixels."""
    height, width, channels = image.shape
    whole = np.floor(offsets).astype(np.int64)
    d = (offsets - whole).astype(np.float32)[:, None]
    if interpolation == "bicubic":  # the cubic convolution kernel with a = -1
        weights = {-1: -d * (1 - d) ** 2, 0: 1 - d * d * (2 - d), 1: d * (1 + d - d * d), 2: -d * d * (1 - d)}
    else:
        weights = {0: 1 - d, 1: d}
    reach = int(np.abs(whole).max()) + 2
    padded = cv2.copyMakeBorder(image, 0, 0, reach, reach, cv2.BORDER_REPLICATE).reshape(height, -1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width + 3) * channels, axis=1)
    starts = (reach + whole - 1) * channels
    moved = np.empty((height, width * channels), np.uint8)
    # A part at a time: float32 copies of the whole image cost twice as much, most of it page faults.
    for top in range(0, height, _ROWS):
        part = np.s_[top : min(top + _ROWS, height)]
        # A copy of each row from its own start - 1: what pixel x needs from `tap` pixels on is now at x + tap + 1.
        rows = windows[np.arange(part.start, part.stop), starts[part]].astype(np.float32)
        # Pillow drops the fraction, of a double. 1e-3, so that a flat area does not lose a level to float32's rounding.
        values = np.full((len(rows), width * channels), 1e-3, np.float32)
        product = np.empty_like(values)
        for tap, weight in weights.items():
            first = (tap + 1) * channels
            values += np.multiply(rows[:, first : first + width * channels], weight[part], out=product)
        moved[part] = np.clip(values, 0, 255, out=values)
    # Inside: 0 <= x + ½ + offset < width, for whole numbers x.
    first, end = (np.ceil(edge - 0.5 - offsets).astype(np.int32)[:, None] for edge in (0, width))
    x = np.arange(width, dtype=np.int32)
    inside = (x >= first) & (x < end)
    return _fill_outside(moved.reshape(image.shape), inside.view(np.uint8), fill)


def _fill_outside(image: np.ndarray, inside: np.ndarray, fill: Fill) -> np.ndarray:
    """`image` (height, width, 3) where `inside` (height, width) is not 0, elsewhere the colour `fill`."""
    filled = np.empty_like(image)
    cv2.rectangle(filled, (0, 0), image.shape[1::-1], fill, cv2.FILLED)
    return cv2.copyTo(image, inside, filled)
