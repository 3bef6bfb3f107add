"""What evaluation sees of each example: the centre, or several crops, of an image or of several clips of a video."""

from functools import partial
from typing import Any

import numpy as np

from posmlp_jax.data.augment.crops import uniform_crop_boxes, uniform_crops
from posmlp_jax.data.augment.placement import Placement, cut_out
from posmlp_jax.data.decoding.examples import Decoded, InputSize, create_decoder
from posmlp_jax.data.decoding.images import Size
from posmlp_jax.data.sources.source import Source


class EvalViews:
    """The views of each example of a source.

    Args:
      source: as of `eval_batches`, and so are the others.
      config: the `data` section.
      input_size: the model's.
      clips: views in time.
      crops: views in space.

    Attributes:
      size: of an example's views, (*input_size,) or (clips · crops, *input_size).
    """

    def __init__(self, source: Source, config: Any, input_size: InputSize, clips: int = 1, crops: int = 1):
        views = clips * crops
        self.size = tuple(input_size) if views == 1 else (views, *input_size)
        self._crop_size, self._eval_crop = tuple(input_size[-2:]), config.eval_crop
        # Frames are cropped one by one as they are decoded: whole ones may be large, and a test may take hundreds.
        crop = partial(_crop, size=self._crop_size, eval_crop=config.eval_crop, count=crops)
        self._decoder = create_decoder(source, config, input_size, None, test_clips=clips, transform=crop)
        # Of images and of clips; the views of a clip lie behind one another.
        self._crop = crop if source.kind == "image" else partial(_views_of_clips, clips=clips)

    def fill(self, out: np.ndarray, index: int) -> tuple[Decoded, Placement]:
        """Writes all views of example `index` to `out`, uint8 [*size, 3].

        Returns:
          The example, and where what is in it is in the centre crop, whether or not there are others.

        Raises:
          BrokenExampleError: when it cannot be decoded; the message names it.
          DataError: when it cannot be read, or its target cannot be.
        """
        example = self._decoder(index)
        views = self._crop(example.pixels)
        out[...] = views.reshape(out.shape)
        (centre,) = uniform_crop_boxes(example.size, self._crop_size, self._eval_crop, 1)
        return example, Placement.of(example.size, cut_out(centre, self._crop_size))


def _crop(image: np.ndarray, size: Size, eval_crop: float, count: int) -> np.ndarray:
    """`uniform_crops` as one array, [count, *size, 3]."""
    return np.stack(uniform_crops(image, size, eval_crop, count))


def _views_of_clips(crops: np.ndarray, clips: int) -> np.ndarray:
    """The crops of all clips' frames, [clips · T, crops, height, width, 3], as [clips, crops, T, height, width, 3]."""
    return crops.reshape(clips, -1, *crops.shape[1:]).swapaxes(1, 2)
