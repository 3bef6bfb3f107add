"""What evaluation sees of each example: the centre, or several crops, of an image or of several clips of a video.

Or all of an image, in a canvas.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from posmlp_jax.data.augment.augmentation import WHOLE
from posmlp_jax.data.augment.crops import fit, lay, uniform_crop_boxes, uniform_crops
from posmlp_jax.data.augment.placement import Placement, cut_out
from posmlp_jax.data.canvases import Canvases
from posmlp_jax.data.decoding.examples import Decoded, InputSize, create_decoder
from posmlp_jax.data.decoding.images import Size
from posmlp_jax.data.sources.source import Source
from posmlp_jax.errors import ConfigError


class EvalViews:
    """The views of each example of a source.

    Args:
      source: as of `eval_batches`, and so are the others.
      config: the `data` section.
      input_sizes: the model's, or the canvases'.
      clips: views in time.
      crops: views in space.

    Raises:
      ConfigError: for several views where one shows all of an image.
    """

    def __init__(self, source: Source, config: Any, input_sizes: Sequence[InputSize], clips: int = 1, crops: int = 1):
        size = tuple(input_sizes[0][-2:])
        self._views, self._crop_size, self._eval_crop = clips * crops, size, config.eval_crop
        self._whole = _InCanvas(input_sizes, config) if config.crop in WHOLE else None
        if self._whole and self._views > 1:
            raise ConfigError(
                f"{clips} clips × {crops} crops are asked for, and data.crop '{config.crop}' shows all of an image in "
                "one view"
            )
        # Frames are cropped one by one as they are decoded: whole ones may be large, and a test may take hundreds.
        crop = self._whole or partial(_crop, size=size, eval_crop=config.eval_crop, count=crops)
        self._decoder = create_decoder(source, config, input_sizes[0], None, test_clips=clips, transform=crop)
        # Of images and of clips; the views of a clip lie behind one another.
        self._crop = crop if source.kind == "image" else partial(_views_of_clips, clips=clips)
        self._of_clips = source.kind == "video"

    def shape(self, input_size: InputSize) -> tuple[int, ...]:
        """Of an example's views: (*input_size, 3), or (clips · crops, *input_size, 3)."""
        return (*input_size, 3) if self._views == 1 else (self._views, *input_size, 3)

    def decode(self, index: int) -> Decoded:
        """Example `index`, for `show`.

        Raises:
          BrokenExampleError: when it cannot be decoded; the message names it.
          DataError: when it cannot be read, or its target cannot be.
        """
        return self._decoder(index)

    def show(self, out: np.ndarray, example: Decoded) -> Placement:
        """Writes all views of an example to `out`, uint8 of a `shape`: where it shows all of an image, its canvas's.

        Returns:
          Where what is in the example is in the centre crop, whether or not there are others.
        """
        if self._whole:
            fitted = example.pixels if self._of_clips else self._whole(example.pixels)
            lay(out, fitted)
            extent = fitted.shape[-3:-1]
            return Placement.of(example.size, cut_out((0, 0, *example.size), extent), extent)
        out[...] = self._crop(example.pixels).reshape(out.shape)
        (centre,) = uniform_crop_boxes(example.size, self._crop_size, self._eval_crop, 1)
        return Placement.of(example.size, cut_out(centre, self._crop_size), self._crop_size)

    def fill(self, out: np.ndarray, index: int) -> tuple[Decoded, Placement]:
        """Decodes example `index` and shows it."""
        example = self.decode(index)
        return example, self.show(out, example)


class _InCanvas:
    """Makes of an image, or of a clip's frame, what its canvas shows of it.

    Args:
      input_sizes: the canvases'.
      config: the `data` section.
    """

    def __init__(self, input_sizes: Sequence[InputSize], config: Any):
        self._sizes, self._canvases = [tuple(size[-2:]) for size in input_sizes], Canvases(input_sizes, config)
        self._sides = config.short_side, config.long_side

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The image at its size in the canvas that it belongs to."""
        return fit(image, self._sizes[self._canvases.of_image(image.shape[:2])], *self._sides)[0]


def _crop(image: np.ndarray, size: Size, eval_crop: float, count: int) -> np.ndarray:
    """`uniform_crops` as one array, [count, *size, 3]."""
    return np.stack(uniform_crops(image, size, eval_crop, count))


def _views_of_clips(crops: np.ndarray, clips: int) -> np.ndarray:
    """The crops of all clips' frames, [clips · T, crops, height, width, 3], as [clips, crops, T, height, width, 3]."""
    return crops.reshape(clips, -1, *crops.shape[1:]).swapaxes(1, 2)
