"""What happens to a training image, or to all frames of a clip, between decoding and batching."""

import math
from typing import Any

import numpy as np

from posmlp_jax.data.augment import crops
from posmlp_jax.data.augment.color import ColorJitter
from posmlp_jax.data.augment.erasing import RandomErasing
from posmlp_jax.data.augment.placement import Movement, Placement, cut_out, stays
from posmlp_jax.data.augment.randaugment import RandAugment
from posmlp_jax.data.decoding.images import Size
from posmlp_jax.errors import ConfigError, nearest

CROPS = ("random_resized", "pad", "resize", "fit", "scaled")
# Those whose evaluation sees all of an image, in a canvas.
WHOLE = ("fit", "scaled")
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
      image_size: (height, width) of the result; of the canvas where all of an image is laid into one.

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
        if config.interpolation not in crops.INTERPOLATIONS:
            raise ConfigError(
                f"unknown data.interpolation '{config.interpolation}': "
                f"{nearest(config.interpolation, crops.INTERPOLATIONS)}"
            )
        least, most = config.scale_sides
        if not (all(isinstance(side, int) for side in (least, most)) and 1 <= least <= most):
            raise ConfigError(f"data.scale_sides is {tuple(config.scale_sides)}, and should be (least, most) pixels")
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
        self._sides = config.short_side, config.long_side
        self._scale_sides = least, most
        self._flip = config.flip
        mean, std = tuple(config.mean), tuple(config.std)
        jitter = ColorJitter(config.color_jitter)
        erasing = RandomErasing(config.erasing_probability, mean, std, config.erasing_mode, config.erasing_count)
        # Also where it is off, so that what is wrong about it shows before it is switched on.
        randaugment = RandAugment.from_string(
            config.randaugment or "rand", config.randaugment_interpolation, [level / 255 for level in fill] or mean
        )
        on = config.randaugment_on if config.randaugment else None
        self._on_frame = randaugment if on == "frame" else None
        self._on_crop = randaugment if on == "crop" else None
        self._jitter = jitter if on is None and config.color_jitter > 0 else None
        self._erasing = erasing if config.erasing_probability > 0 else None

    @property
    def min_size(self) -> Size | None:
        """How small a photograph may be decoded (`images.decode`) without a crop ever being enlarged for it."""
        height, width = self._size
        # Of a fraction, whose sides are rounded, others would be made than of the whole.
        if self._none or self._on_frame is not None or self._crop == "fit":
            return None
        if self._crop == "scaled":
            return self._scale_sides[1], self._scale_sides[1]
        if self._crop != "random_resized":
            # The resizing that follows is antialiased over at least two pixels.
            return 2 * height, 2 * width
        side = math.ceil(math.sqrt(max(height**2 * self._ratio[1], width**2 / self._ratio[0]) / self._scale[0]))
        return side, side

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The augmented uint8 image [height, width, 3] of a uint8 RGB image of any size, which is not modified."""
        out = np.empty((*self._size, 3), np.uint8)
        self.fill(out, image, rng)
        return out

    def fill(self, out: np.ndarray, pixels: np.ndarray, rng: np.random.Generator) -> Placement:
        """Augments an image, or all frames of a clip in the same way: one crop, flip, draw of operations, and box.

        Args:
          out: where the result goes, uint8 [height, width, 3] or [n, height, width, 3].
          pixels: uint8 RGB of any size, with as many axes.
          rng: up to erasing, every frame is the image that a copy of it gives.

        Returns:
          Where what was in the image, or in each frame, is in the result.
        """
        if pixels.ndim == 3:
            image, movement = self._apply(pixels, rng)
            crops.lay(out, self._erase(image, rng))
            return Placement.of(pixels.shape[:2], movement, image.shape[:2])
        start = rng.bit_generator.state
        for place, frame in zip(out, pixels, strict=True):
            rng.bit_generator.state = start
            image, movement = self._apply(frame, rng)
            crops.lay(place, image)
        inside = out[:, : image.shape[0], : image.shape[1]]
        erased = self._erase(inside, rng)
        if erased is not inside:
            inside[...] = erased
        return Placement.of(pixels.shape[1:3], movement, image.shape[:2])

    def _apply(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Movement]:
        """The image augmented up to erasing, and where its pixels went; it may be smaller than the result."""
        if self._none and self._crop in WHOLE:
            return crops.fit(image, self._size, *self._sides)
        if self._none:
            (box,) = crops.uniform_crop_boxes(image.shape[:2], self._size, self._eval_crop, 1)
            return crops.center_crop(image, self._size, self._eval_crop), cut_out(box, self._size)
        movement = stays()
        if self._on_frame is not None:
            image, movement = self._on_frame(image, rng)
        if self._crop == "random_resized":
            crop = (self._size, self._scale, self._ratio)
            image, moved = crops.random_resized_crop(image, *crop, rng, self._interpolation)
            movement = moved @ movement
        elif self._crop == "fit":
            image, moved = crops.fit(image, self._size, *self._sides)
            movement = moved @ movement
        elif self._crop == "scaled":
            image, moved = crops.scaled_crop(image, self._size, self._scale_sides, rng)
            movement = moved @ movement
        else:
            movement = cut_out((0, 0, *image.shape[:2]), self._size) @ movement
            image = crops.resize(image, self._size)
            if self._crop == "pad":
                image, moved = crops.pad_crop(image, self._padding, rng)
                movement = moved @ movement
        if self._flip:
            image, moved = crops.random_flip(image, rng)
            movement = moved @ movement
        if self._on_crop is not None:
            image, moved = self._on_crop(image, rng)
            movement = moved @ movement
        if self._jitter is not None:
            image = self._jitter(image, rng)
        return image, movement

    def _erase(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return pixels if self._none or self._erasing is None else self._erasing(pixels, rng)
