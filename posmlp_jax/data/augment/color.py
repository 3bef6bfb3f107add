"""Colour operations on uint8 RGB images, equal to Pillow's, and torchvision's colour jitter built from them.

Every operation takes a uint8 image (height, width, 3) and returns a new one of the same shape; a factor of 1 changes
nothing. They are Pillow's `ImageOps` and `ImageEnhance` functions, which is how timm defines RandAugment's operations:
the tables (autocontrast, equalize, invert, posterize, solarize) agree exactly, the blends within one level of 255.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from posmlp_jax.errors import ConfigError

_LEVELS = np.arange(256, dtype=np.uint8)


def _blend(degenerate: np.ndarray, image: np.ndarray, factor: float) -> np.ndarray:
    """Pillow's `Image.blend`: degenerate + factor · (image - degenerate), clipped to 0..255."""
    # Pillow drops the fraction, cv2 rounds it. 0.499 and not 0.5, so that whole numbers stay what they are.
    return cv2.addWeighted(image, factor, degenerate, 1.0 - factor, -0.499)


def autocontrast(image: np.ndarray) -> np.ndarray:
    """Stretches each channel so that its darkest value becomes 0 and its brightest 255 (`ImageOps.autocontrast`)."""
    tables = np.empty((1, 256, 3), np.uint8)
    for index, channel in enumerate(cv2.split(image)):
        low, high, _, _ = cv2.minMaxLoc(channel)
        if high > low:
            scale = 255.0 / (high - low)
            tables[0, :, index] = np.clip(_LEVELS * scale - low * scale, 0, 255)
        else:
            tables[0, :, index] = _LEVELS
    return cv2.LUT(image, tables)


def equalize(image: np.ndarray) -> np.ndarray:
    """Flattens each channel's histogram (`ImageOps.equalize`, whose table is not that of `cv2.equalizeHist`)."""
    tables = np.empty((1, 256, 3), np.uint8)
    for index, channel in enumerate(cv2.split(image)):
        counts = cv2.calcHist([channel], [0], None, [256], [0, 256]).ravel().astype(np.int64)
        present = counts[counts > 0]
        step = (channel.size - int(present[-1])) // 255
        if len(present) > 1 and step > 0:
            darker = np.cumsum(counts) - counts
            tables[0, :, index] = np.minimum((step // 2 + darker) // step, 255)
        else:
            tables[0, :, index] = _LEVELS
    return cv2.LUT(image, tables)


def invert(image: np.ndarray) -> np.ndarray:
    """255 minus every value (`ImageOps.invert`)."""
    return cv2.bitwise_not(image)


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Keeps the `bits` highest bits, 0 to 8, of every value (`ImageOps.posterize`).

    0 bits, which timm's top magnitude asks for, leave a black image as in older Pillows; Pillow 13 refuses them.
    """
    return image & np.uint8(256 - (1 << (8 - bits)))


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    """Inverts the values at or above `threshold`, 0 to 256 (`ImageOps.solarize`)."""
    return cv2.LUT(image, np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS))


def solarize_add(image: np.ndarray, amount: int) -> np.ndarray:
    """Adds `amount` (at least 0) to the values below 128, up to 255 (timm's `solarize_add`)."""
    brighter = np.minimum(_LEVELS.astype(np.int64) + amount, 255).astype(np.uint8)
    return cv2.LUT(image, np.where(_LEVELS < 128, brighter, _LEVELS))


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with black: factor 0 is black (`ImageEnhance.Brightness`)."""
    return cv2.LUT(image, _blend(np.zeros_like(_LEVELS), _LEVELS, factor))


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with the image's mean luminance: factor 0 is that grey everywhere (`ImageEnhance.Contrast`)."""
    mean = int(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return cv2.LUT(image, _blend(np.full_like(_LEVELS, mean), _LEVELS, factor))


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with the grey image: factor 0 is without colour (`ImageEnhance.Color`)."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _blend(grey, image, factor)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends with a 3×3 smoothed image: factor 0 is smooth, 2 sharp (`ImageEnhance.Sharpness`)."""
    kernel = np.full((3, 3), 1 / 13, np.float32)
    kernel[1, 1] = 5 / 13
    smooth = cv2.filter2D(image, -1, kernel)
    # Pillow's filter leaves the outermost pixels as they are.
    for edge in (np.s_[:1], np.s_[-1:], np.s_[:, :1], np.s_[:, -1:]):
        smooth[edge] = image[edge]
    return _blend(smooth, image, factor)


@dataclass(frozen=True)
class ColorJitter:
    """Changes brightness, contrast and saturation in a random order.

    As torchvision's `ColorJitter`, which timm uses. Each factor is uniform in [max(0, 1 - s), 1 + s] of a strength s;
    where that is 0 nothing changes.

    Attributes:
      strength: s.

    Raises:
      ConfigError: a strength that is negative.
    """

    strength: float

    def __post_init__(self):
        if self.strength < 0:
            raise ConfigError(f"color_jitter={self.strength}: strengths must be at least 0")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Changes a uint8 RGB image (height, width, 3), which is not modified.

        Returns a uint8 image of the same shape; `image` itself when the strength is 0.
        """
        low, high = max(0.0, 1.0 - self.strength), 1.0 + self.strength
        for index in rng.permutation(3):
            if self.strength > 0:
                image = (brightness, contrast, saturation)[index](image, rng.uniform(low, high))
        return image
