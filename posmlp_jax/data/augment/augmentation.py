"""What happens to a training image, or to all frames of a clip, between decoding and batching."""

import math
from typing import Any

import numpy as np

from posmlp_jax.data.augment import crops as transforms
from posmlp_jax.data.augment.color import ColorJitter
from posmlp_jax.data.augment.erasing import RandomErasing
from posmlp_jax.data.augment.randaugment import RandAugment
from posmlp_jax.data.decoding.images import Size
from posmlp_jax.errors import ConfigError, nearest

CROPS = ("random_resized", "pad", "resize")
_AUGMENT = ("standard", "none")
_RANDAUGMENT_ON = ("crop", "frame")


class Augmentation:
    """Crop, flip, RandAugment or else colour jitter, and random erasing: timm's order.

    With `randaugment_on='frame'` RandAugment comes first, on the whole image or frame: SlowFast's order.

    Can be pickled, and depends on nothing but the image and the random numbers that it is given. What is drawn depends
    on these numbers and the image's size alone, so that frames of one clip can all be given the same.

    Args:
      config: the `data` section of a config. `augment='none'` gives what evaluation sees, whatever the other fields
        say; `color_jitter` is left out where there is RandAugment, as in the published recipes.
      image_size: (height, width) of the result.

    Raises:
      ConfigError: for a value that makes no sense.
    """

    def __init__(self, config: Any, image_size: Size):
        if config.augment not in _AUGMENT:
            raise ConfigError(f"unknown data.augment '{config.augment}': {nearest(config.augment, _AUGMENT)}")
        if config.randaugment_on not in _RANDAUGMENT_ON:
            raise ConfigError(
                f"unknown data.randaugment_on '{config.randaugment_on}': one of {', '.join(_RANDAUGMENT_ON)}"
            )
        fill = tuple(config.randaugment_fill)
        if fill and not (len(fill) == 3 and all(isinstance(level, int) and 0 <= level <= 255 for level in fill)):
            raise ConfigError(f"data.randaugment_fill is {fill}, and should be () or three levels from 0 to 255")
        if config.crop not in CROPS:
            raise ConfigError(f"unknown crop '{config.crop}': one of {', '.join(CROPS)}")
        low, high = config.crop_scale
        narrow, wide = config.crop_ratio
        if not (0 < low <= high <= 1 and 0 < narrow <= wide):
            raise ConfigError(
                f"crop_scale {tuple(config.crop_scale)} must be (least, most) within 0 to 1, and crop_ratio "
                f"{tuple(config.crop_ratio)} (least, most) above 0"
            )
        if config.interpolation not in transforms.INTERPOLATIONS:
            raise ConfigError(
                f"unknown data.interpolation '{config.interpolation}': "
                f"{nearest(config.interpolation, transforms.INTERPOLATIONS)}"
            )
        if config.crop_padding < 0:
            raise ConfigError(f"crop_padding must not be negative, but is {config.crop_padding}")
        self._none = config.augment == "none"
        self._size = tuple(image_size)
        self._eval_crop = config.eval_crop
        self._crop = config.crop
        self._scale = (low, high)
        self._ratio = (narrow, wide)
        self._interpolation = config.interpolation
        self._padding = config.crop_padding
        self._flip = config.flip
        mean, std = tuple(config.mean), tuple(config.std)
        jitter = ColorJitter(config.color_jitter)
        erasing = RandomErasing(config.erasing_probability, mean, std, config.erasing_mode, config.erasing_count)
        # Also where it is off, so that what is wrong about it shows before it is switched on.
        randaugment = RandAugment.from_string(
            config.randaugment or "rand", config.randaugment_interpolation, [level / 255 for level in fill] or mean
        )
        self._whole = self._color = None
        if not config.randaugment:
            self._color = jitter if config.color_jitter > 0 else None
        elif config.randaugment_on == "frame":
            self._whole = randaugment
        else:
            self._color = randaugment
        self._erasing = erasing if config.erasing_probability > 0 else None

    @property
    def min_size(self) -> Size | None:
        """How small a photograph may be decoded (`decoding.decode`) without a crop ever being enlarged for it."""
        height, width = self._size
        if self._none or self._whole is not None:
            return None
        if self._crop != "random_resized":
            # The resizing that follows is antialiased over at least two pixels.
            return 2 * height, 2 * width
        side = math.ceil(math.sqrt(max(height**2 * self._ratio[1], width**2 / self._ratio[0]) / self._scale[0]))
        return side, side

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The augmented uint8 image [height, width, 3] of a uint8 RGB image of any size, which is not modified."""
        return self._erase(self._apply(image, rng)[0], rng)

    def fill(self, out: np.ndarray, pixels: np.ndarray, rng: np.random.Generator) -> bool:
        """Augments an image, or all frames of a clip in the same way: one crop, flip, draw of operations, and box.

        Args:
          out: where the result goes, uint8 [height, width, 3] or [n, height, width, 3].
          pixels: uint8 RGB of any size, with as many axes.
          rng: up to erasing, every frame is the image that a copy of it gives.

        Returns:
          Whether left and right are exchanged.
        """
        if pixels.ndim == 3:
            image, flipped = self._apply(pixels, rng)
            out[...] = self._erase(image, rng)
            return flipped
        start = rng.bit_generator.state
        for place, frame in zip(out, pixels, strict=True):
            rng.bit_generator.state = start
            place[...], flipped = self._apply(frame, rng)
        erased = self._erase(out, rng)
        if erased is not out:
            out[...] = erased
        return flipped

    def _apply(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
        """The image augmented up to erasing, and whether it is flipped."""
        if self._none:
            return transforms.center_crop(image, self._size, self._eval_crop), False
        if self._whole is not None:
            image = self._whole(image, rng)
        if self._crop == "random_resized":
            crop = (self._size, self._scale, self._ratio)
            image = transforms.random_resized_crop(image, *crop, rng, self._interpolation)
        else:
            image = transforms.resize(image, self._size)
            if self._crop == "pad":
                image = transforms.pad_crop(image, self._padding, rng)
        flipped = False
        if self._flip:
            before, image = image, transforms.random_flip(image, rng)
            flipped = image is not before
        if self._color is not None:
            image = self._color(image, rng)
        return image, flipped

    def _erase(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return pixels if self._none or self._erasing is None else self._erasing(pixels, rng)
