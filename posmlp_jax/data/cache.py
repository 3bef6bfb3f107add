"""Images that are decoded once and kept: for small data sets, whose decoding costs more than everything after it."""

import numpy as np

from posmlp_jax.data.decoding import Size, decode
from posmlp_jax.data.source import Source
from posmlp_jax.errors import BrokenExampleError


class DecodedImages:
    """The images of a source as uint8 arrays [height, width, 3].

    Args:
      source: the images.
      min_size: see `decoding.decode`.
      keep_bytes: when all images, judged by the first one, fit into this, those that were decoded are kept.
    """

    def __init__(self, source: Source, min_size: Size | None = None, keep_bytes: int = 0):
        self._source = source
        self._min_size = min_size
        self._keep_bytes = keep_bytes
        self._kept: dict[int, tuple[np.ndarray, int]] = {}

    def __call__(self, index: int) -> tuple[np.ndarray, int]:
        """The image, which must not be written to, and its label.

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
                    f"{self._source.example_id(index)}: {error} ({self._source.description})"
                ) from error
        if not self._kept and image.nbytes * len(self._source) > self._keep_bytes:
            self._keep_bytes = 0
        # Threads may both subtract the same image; the bound is generous enough for that.
        if image.nbytes <= self._keep_bytes:
            self._keep_bytes -= image.nbytes
            self._kept[index] = image, label
        return image, label
