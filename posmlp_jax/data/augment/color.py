"""Colour operations on uint8 RGB images, equal to Pillow's, and torchvision's colour jitter built from them.

Every operation takes a uint8 image (height, width, 3) and returns a new one of the same shape; a factor of 1 changes
nothing. They are Pillow's `ImageOps` and `ImageEnhance` functions, which is how timm defines RandAugment's operations:
the tables (autocontrast, equalize, invert, posterize, solarize) agree exactly, the blends within one level of 255.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

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


def hue(image: np.ndarray, shift: float) -> np.ndarray:
    """Turns every hue by `shift`, in turns, -0.5 to 0.5 (torchvision's `adjust_hue` on Pillow images)."""
    # Pillow's 8-bit HSV is not cv2's, and no published recipe of ours shifts hues: exact before fast.
    hsv = np.array(Image.fromarray(image).convert("HSV"))
    hsv[..., 0] += np.uint8(int(shift * 255) % 256)
    return np.array(Image.fromarray(hsv, "HSV").convert("RGB"))


@dataclass(frozen=True)
class ColorJitter:
    """Changes brightness, contrast, saturation and, when asked for, hue, in a random order.

    As torchvision's `ColorJitter`, which timm uses. Each factor is uniform in [max(0, 1 - s), 1 + s], the hue's shift
    uniform in [-s, s]; where s is 0 nothing changes and nothing is drawn.

    Attributes:
      strength: one s for brightness, contrast and saturation, or three, or four with the hue's last.

    Raises:
      ConfigError: a strength that is negative, a hue strength above 0.5, or neither 1, 3 nor 4 of them.
    """

    strength: float | Sequence[float]

    def __post_init__(self):
        strengths = self._strengths
        if len(strengths) not in (3, 4):
            raise ConfigError(
                f"color_jitter takes one number, or 3 or 4 (brightness, contrast, saturation, hue), "
                f"not {len(strengths)}"
            )
        if min(strengths) < 0 or (len(strengths) == 4 and strengths[3] > 0.5):
            raise ConfigError(f"color_jitter={self.strength}: strengths must be at least 0, and the hue's at most 0.5")

    @property
    def _strengths(self) -> tuple[float, ...]:
        return tuple(self.strength) if isinstance(self.strength, Sequence) else (self.strength,) * 3

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Changes a uint8 RGB image (height, width, 3), which is not modified.

        Returns a uint8 image of the same shape; `image` itself when every s is 0.
        """
        strengths = self._strengths
        for index in rng.permutation(len(strengths)):
            s = strengths[index]
            if s > 0:
                low, high = (-s, s) if index == 3 else (max(0.0, 1.0 - s), 1.0 + s)
                image = (brightness, contrast, saturation, hue)[index](image, rng.uniform(low, high))
        return image
