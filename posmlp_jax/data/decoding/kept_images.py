"""Images that are decoded once and kept: for small data sets, whose decoding costs more than everything after it."""

from typing import NamedTuple

import numpy as np

from posmlp_jax.data.decoding.images import Size, decode
from posmlp_jax.data.sources.source import Source
from posmlp_jax.errors import BrokenExampleError


class Decoded(NamedTuple):
    """A decoded example.

    Attributes:
      pixels: uint8 RGB, an image [height, width, 3] or frames [n, height, width, 3]; not to be written to.
      label: its class.
      damaged: how many of its frames could not be decoded, and are others.
      frames: the numbers of a video's frames, int64 [n], as they were decoded; None of an image.
    """

    pixels: np.ndarray
    label: int
    damaged: int = 0
    frames: np.ndarray | None = None


class DecodedImages:
    """The images of a source as uint8 arrays [height, width, 3]. `kind` is the source's.

    Args:
      source: the images.
      min_size: see `decoding.decode`.
      keep_bytes: when all images, judged by the first one, fit into this, those that were decoded are kept.
    """

    def __init__(self, source: Source, min_size: Size | None = None, keep_bytes: int = 0):
        self.kind = source.kind
        self._source = source
        self._min_size = min_size
        self._keep_bytes = keep_bytes
        self._kept: dict[int, Decoded] = {}

    def __call__(self, index: int, rng: np.random.Generator | None = None) -> Decoded:
        """The image and its label; an image is always the same, whatever `rng`.

        Raises:
          BrokenExampleError: when it cannot be decoded; the message names it.
          DataError: when it cannot be read, or its label is out of range.
        """
        if index in self._kept:
            return self._kept[index]
        example = self._source[index]
        image, label = example["image"], example["label"]
        if isinstance(image, bytes):
            try:
                image = decode(image, self._min_size)
            except BrokenExampleError as error:
                raise BrokenExampleError(
                    error.reason, self._source.example_id(index), self._source.description
                ) from error
        if not self._kept and image.nbytes * len(self._source) > self._keep_bytes:
            self._keep_bytes = 0
        # Threads may both subtract the same image; the bound is generous enough for that.
        if image.nbytes <= self._keep_bytes:
            self._keep_bytes -= image.nbytes
            self._kept[index] = Decoded(image, label)
        return Decoded(image, label)
