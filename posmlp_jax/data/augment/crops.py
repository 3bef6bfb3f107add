"""Crops, sizes and flips on the host: uint8 arrays [height, width, 3], RGB. Sizes are (height, width).

What is drawn at random comes with its `Movement`, where the pixels went.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from posmlp_jax.data.augment.placement import Movement, cut_out, mirror, stays
from posmlp_jax.data.decoding.images import Size
from posmlp_jax.errors import BrokenExampleError

INTERPOLATIONS = ("bicubic", "random", "bilinear")


def resize(image: np.ndarray, size: Size, resampling: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """Resizing with antialiasing: exactly Pillow's."""
    if image.shape[:2] == tuple(size):
        return image
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), resampling))


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
    interpolation: str = "bicubic",
) -> tuple[np.ndarray, Movement]:
    """A random box of the image (`crop_box`), resized to `size`.

    With `interpolation` 'bicubic' by `fast_resize`; with 'random', as timm names it, by Pillow, bilinear or bicubic;
    with 'bilinear' by PyTorch's bilinear interpolation, which looks at the four nearest pixels however far it shrinks.
    """
    box = top, left, height, width = crop_box(*image.shape[:2], scale, ratio, rng)
    part = image[top : top + height, left : left + width]
    if interpolation == "random":
        part = resize(part, size, (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)[rng.integers(2)])
    elif interpolation == "bilinear":
        part = cv2.resize(part, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    else:
        part = fast_resize(part, size)
    return part, cut_out(box, size)


def scaled_crop(
    image: np.ndarray, size: Size, sides: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, Movement]:
    """A random part of `size` of the image, whose shorter side is drawn first, from `sides`, both of them included.

    As SlowFast has it for clips: the image keeps its shape, and is interpolated bilinearly. Of one that is more than 16
    times as long as wide the middle is taken.

    Raises:
      ValueError: when `size` is larger than the shorter side may be.
    """
    top, left, height, width = box = _not_too_long(image.shape[:2])
    side = int(rng.integers(sides[0], sides[1] + 1))
    scaled = tuple(side * one // min(height, width) for one in (height, width))
    image = image[top : top + height, left : left + width]
    if scaled != (height, width):
        image = cv2.resize(image, scaled[::-1], interpolation=cv2.INTER_LINEAR)
    corner = [int(rng.integers(have - want + 1)) for have, want in zip(scaled, size, strict=True)]
    part = image[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]
    return part, cut_out((*corner, *size), size) @ cut_out(box, scaled)


def fast_resize(image: np.ndarray, size: Size) -> np.ndarray:
    """Antialiased bicubic resizing for training: nearly `resize`, in a sixth of the time.

    Up to half the size: smoothed by three taps, then interpolated. On photographs that differs from Pillow by a level
    of 255 on average, no more than cv2's INTER_AREA does, and takes a third of its time. Below that INTER_AREA it is.
    """
    height, width = image.shape[:2]
    shrink = height / size[0], width / size[1]
    if max(shrink) >= 2:
        # Only where no side grows does cv2 really average.
        less = min(width, size[1]), min(height, size[0])
        image = cv2.resize(image, less, interpolation=cv2.INTER_AREA)
    elif max(shrink) > 1:
        image = cv2.sepFilter2D(image, -1, _smoothing(shrink[1]), _smoothing(shrink[0]))
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)


def _smoothing(shrink: float) -> np.ndarray:
    """The taps that bring cv2's bicubic interpolation nearest to Pillow's when a side shrinks by 1 to 2."""
    side = min(max(shrink - 1, 0), 0.03 + 0.19 * (shrink - 1))
    return np.array([side, 1 - 2 * side, side], np.float32)


def pad_crop(image: np.ndarray, padding: int, rng: np.random.Generator) -> tuple[np.ndarray, Movement]:
    """Shifts the image by up to `padding` pixels in each direction; what comes in is its reflection."""
    height, width = image.shape[:2]
    top, left = rng.integers(2 * padding + 1, size=2)
    padded = cv2.copyMakeBorder(image, padding, padding, padding, padding, cv2.BORDER_REFLECT_101)
    moved = cut_out((float(top) - padding, float(left) - padding, height, width), (height, width))
    return padded[top : top + height, left : left + width], moved


def fitted_size(
    image_size: Sequence[int] | np.ndarray, canvas: Sequence[int] | np.ndarray, short_side: int, long_side: int
) -> np.ndarray:
    """The (height, width) that images have in a canvas, each keeping its shape: int64 [..., 2].

    Args:
      image_size: of one image, or of several, [..., 2].
      canvas: the size of it, or one for each image.
      short_side: how long an image's shorter side is at most; 0: each image is as large as the canvas allows.
      long_side: and its longer side: one of the two is as long, as by mmdetection's Resize with `keep_ratio`.
    """
    sides = np.asarray(image_size, np.int64)
    if short_side:
        scale = np.minimum(long_side / sides.max(-1), short_side / sides.min(-1))
    else:
        scale = (np.asarray(canvas) / sides).min(-1)
    # Halves up, as mmdetection rounds them; of a line that is longer than a canvas something stays.
    return np.maximum(np.floor(sides * scale[..., None] + 0.5).astype(np.int64), 1)


def fit(image: np.ndarray, canvas: Size, short_side: int, long_side: int) -> tuple[np.ndarray, Movement]:
    """All of an image at its `fitted_size`.

    What grows is interpolated bilinearly, as mmdetection does. What shrinks is averaged over the pixels that come
    together in one: mmdetection's interpolation looks at four of them however many there are, and makes patterns of
    fine textures.

    Raises:
      BrokenExampleError: when it is larger than the canvas.
    """
    height, width = image.shape[:2]
    size = fitted_height, fitted_width = tuple(fitted_size((height, width), canvas, short_side, long_side).tolist())
    if fitted_height > canvas[0] or fitted_width > canvas[1]:
        raise BrokenExampleError(does_not_fit((height, width), size, [canvas]))
    if size != (height, width):
        shrinks = fitted_height <= height and fitted_width <= width
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        image = cv2.resize(image, (fitted_width, fitted_height), interpolation=interpolation)
    return image, cut_out((0, 0, height, width), size)


def does_not_fit(image_size: Size, fitted: Size, canvases: Sequence[Size]) -> str:
    """Why an image cannot be shown."""
    sizes = ", ".join(f"{height}×{width}" for height, width in canvases)
    return (
        f"no canvas holds it: of its {image_size[0]}×{image_size[1]} pixels data.short_side and data.long_side make "
        f"{fitted[0]}×{fitted[1]}, and there are {sizes}"
    )


def lay(out: np.ndarray, image: np.ndarray) -> None:
    """Writes an image, or each frame of a clip, into the upper left of `out`, and zeros beside and below it."""
    height, width = image.shape[-3:-1]
    out[..., :height, :width, :] = image
    out[..., height:, :, :] = 0
    out[..., :height, width:, :] = 0


def random_flip(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Movement]:
    """Mirrors left and right, half of the time; otherwise `image` itself."""
    return (cv2.flip(image, 1), mirror(image.shape[1])) if rng.random() < 0.5 else (image, stays())


def center_crop(image: np.ndarray, size: Size, eval_crop: float) -> np.ndarray:
    """The evaluation crop of timm: resized until it just covers `size / eval_crop`, then the centre is cut out.

    Both sides of `size / eval_crop` are rounded down, as in timm (224 and 0.9 give 248).
    """
    return uniform_crops(image, size, eval_crop, 1)[0]


def uniform_crops(image: np.ndarray, size: Size, eval_crop: float, count: int) -> list[np.ndarray]:
    """As `center_crop`, or three crops along the side that has more to spare: its beginning, its centre and its end.

    Args:
      image: uint8 [height, width, 3].
      size: (height, width) of a crop.
      eval_crop: the share of the resized image's shorter side that a crop has; with 1, as three crops are published.
      count: 1 or 3.
    """
    (top, left, height, width), resized_size, corners = _crop_plan(image.shape[:2], size, eval_crop, count)
    resized = resize(image[top : top + height, left : left + width], resized_size)
    return [resized[top : top + size[0], left : left + size[1]] for top, left in corners]


def uniform_crop_boxes(image_size: Size, size: Size, eval_crop: float, count: int) -> list[tuple[float, ...]]:
    """Where in an image `uniform_crops` are: boxes (top, left, height, width) in the image's own pixels."""
    (top, left, height, width), resized_size, corners = _crop_plan(image_size, size, eval_crop, count)
    vertical, horizontal = height / resized_size[0], width / resized_size[1]
    return [
        (top + vertical * row, left + horizontal * column, vertical * size[0], horizontal * size[1])
        for row, column in corners
    ]


def _crop_plan(
    image_size: Size, size: Size, eval_crop: float, count: int
) -> tuple[tuple[int, int, int, int], Size, list[tuple[int, int]]]:
    """(the box of the image that is resized, to which size, the corners of the crops of that)."""
    _, _, height, width = box = _not_too_long(image_size)
    target = [math.floor(side / eval_crop) for side in size]
    shrink = min(height / target[0], width / target[1])
    resized = tuple(max(goal, int(side / shrink)) for goal, side in zip(target, (height, width), strict=True))
    spare = [have - want for have, want in zip(resized, size, strict=True)]
    top, left = (round(room / 2) for room in spare)
    if count == 1:
        return box, resized, [(top, left)]
    if spare[1] >= spare[0]:
        return box, resized, [(top, 0), (top, left), (top, spare[1])]
    return box, resized, [(0, left), (top, left), (spare[0], left)]


def _not_too_long(image_size: Size) -> tuple[int, int, int, int]:
    """The box of an image to be resized: where it is more than 16 times as long as wide, its middle.

    All of it would become gigabytes.
    """
    height, width = (min(side, 16 * min(image_size)) for side in image_size)
    return (image_size[0] - height) // 2, (image_size[1] - width) // 2, height, width
