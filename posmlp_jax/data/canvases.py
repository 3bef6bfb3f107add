"""The sizes that batches have, and where they hold whole images which of them, the canvases, each image belongs to.

With `data.crop` 'fit' that is so in training and evaluation, with 'scaled' in evaluation alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from posmlp_jax.data.augment.augmentation import WHOLE
from posmlp_jax.data.augment.crops import does_not_fit, fitted_size
from posmlp_jax.data.decoding.examples import InputSize
from posmlp_jax.data.decoding.images import Size
from posmlp_jax.data.sources.source import Source
from posmlp_jax.errors import BrokenExampleError, ConfigError


def evaluation_sizes(config: Any, input_size: InputSize) -> tuple[InputSize, ...]:
    """The input sizes that batches of an evaluation have: the canvases, or else the model's own.

    Args:
      config: the `data` section of a config.
      input_size: the model's, (height, width) or (frames, height, width).
    """
    return _sizes(config.canvases, input_size) or (tuple(input_size),)


def training_sizes(config: Any, input_size: InputSize) -> tuple[InputSize, ...]:
    """The input sizes that steps of training have: canvases, those of `config.train_sizes`, or else the model's own.

    Args:
      config: the `data` section of a config.
      input_size: the model's, (height, width) or (frames, height, width); clips keep their frames.
    """
    given = config.canvases if trains_on_whole(config) else config.train_sizes
    return _sizes(given, input_size) or (tuple(input_size),)


def trains_on_whole(config: Any) -> bool:
    """Whether training sees all of an image, in a canvas."""
    return config.crop == "fit" or (config.crop in WHOLE and config.augment == "none")


def used_sizes(sizes: Sequence[InputSize], config: Any, source: Source) -> tuple[InputSize, ...]:
    """Those of some sizes that training has batches of: not the canvases that no image of a source belongs to.

    Raises:
      ConfigError: as `Canvases.of_source`.
    """
    if not trains_on_whole(config):
        return tuple(sizes)
    return tuple(sizes[canvas] for canvas in np.unique(Canvases(sizes, config).of_source(source)))


def _sizes(given: Sequence[int | Size], input_size: InputSize) -> tuple[InputSize, ...]:
    sides = [(side, side) if isinstance(side, int) else tuple(side) for side in given]
    return tuple((*input_size[:-2], *size) for size in sides)


class Canvases:
    """Which of some canvases each image, or all frames of each video, belong to: `canvases(sizes)`.

    It is the one of least area among those that hold the image at its `fitted_size`; where that is as large as a canvas
    allows, the one of which the image fills the largest share.

    Args:
      sizes: the canvases', (height, width) or (frames, height, width) each.
      config: the `data` section of a config.
    """

    def __init__(self, sizes: Sequence[InputSize], config: Any):
        self._sizes = np.array([size[-2:] for size in sizes], np.int64)
        self._limits = config.short_side, config.long_side

    def __call__(self, image_sizes: np.ndarray) -> np.ndarray:
        """The canvas of each image, int64 [n], by its place among all; −1 where none holds it.

        Args:
          image_sizes: (height, width) of each, int [n, 2].
        """
        areas = self._sizes.prod(-1)
        fitted = fitted_size(np.asarray(image_sizes)[:, None], self._sizes, *self._limits)
        holds = (fitted <= self._sizes).all(-1)
        # Of several that are as good the smallest, or else the first.
        worth = -areas if self._limits[0] else fitted.prod(-1) / areas
        order = np.argsort(areas, kind="stable")
        best = order[np.where(holds, worth, -np.inf)[:, order].argmax(-1)]
        return np.where(holds.any(-1), best, -1)

    def of_image(self, size: Size) -> int:
        """The canvas of one image of a size.

        Raises:
          BrokenExampleError: when there is none.
        """
        canvas = int(self(np.array([size]))[0])
        if canvas < 0:
            raise BrokenExampleError(self._reason(size))
        return canvas

    def of_source(self, source: Source) -> np.ndarray:
        """The canvas of each image of a source, int64 [n].

        Raises:
          ConfigError: where the images' sizes decide that and are not known, or no canvas holds one.
        """
        if source.sizes is None:
            if len(self._sizes) == 1 and not self._limits[0]:
                return np.zeros(len(source), np.int64)
            raise ConfigError(
                f"several data.canvases, and data.short_side, need {source.kind}s whose sizes are known before they "
                f"are read, as those of data sets of detection are; these are not: {source.description}"
            )
        found = self(source.sizes)
        if (found < 0).any():
            first = int(np.argmin(found))
            size = tuple(source.sizes[first].tolist())
            count = np.count_nonzero(found < 0)
            others = f", and so it is with {count - 1} others" if count > 1 else ""
            raise ConfigError(f"{source.example_id(first)}: {self._reason(size)}{others} ({source.description})")
        return found

    def _reason(self, size: Size) -> str:
        fitted = tuple(fitted_size(size, self._sizes[0], *self._limits).tolist())
        return does_not_fit(size, fitted, self._sizes.tolist())
