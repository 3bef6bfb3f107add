"""Images that cannot be decoded: in training another takes the place, up to a share of the data set that is set."""

from collections.abc import Callable

import numpy as np

from posmlp_jax.data.cache import DecodedImages
from posmlp_jax.data.source import Source
from posmlp_jax.errors import BrokenExampleError, DataError

_TRIES = 50
_NAMED = 10


def read_decodable(
    images: DecodedImages, index: int, length: int, rng: np.random.Generator
) -> tuple[np.ndarray, int, int, int]:
    """An image, or where it cannot be decoded another that `rng` picks.

    The generator belongs to the image's place in the stream, so who takes the place is the same on every run, however
    many workers there are; and it is not touched when nothing is broken.

    Args:
      images: of a source.
      index: the image to read.
      length: how many images there are.
      rng: the place's own random numbers.

    Returns:
      (uint8 image [height, width, 3], label, its index, the index of the broken image that it replaces, or -1).

    Raises:
      DataError: when 50 picks in a row are broken, or for anything but a broken image.
    """
    picked = index
    for _ in range(_TRIES):
        try:
            image, label = images(picked)
            return image, label, picked, -1 if picked == index else index
        except BrokenExampleError as error:
            last = error
            picked = int(rng.integers(length))
    raise DataError(f"{_TRIES} images in a row cannot be decoded, the last: {last}")


class BrokenImages:
    """Counts and names the images that were replaced, from what the batches say of them.

    That works with any number of workers, as it is done where batches arrive. Each JAX process counts its own share of
    the stream, and starts anew when a run goes on.

    Args:
      source: the images.
      max_share: the share of the source's images, in [0, 1], that may be broken.
      report: takes the lines that name them.

    Attributes:
      replaced: how often an image was replaced, over all epochs.
      indices: which images were.
    """

    def __init__(self, source: Source, max_share: float, report: Callable[[str], None]):
        self._source, self._max_share, self._report = source, max_share, report
        self.replaced = 0
        self.indices: set[int] = set()

    def add(self, broken: np.ndarray) -> None:
        """Takes the `broken` column of a batch: int64 [B], the index of the image that was replaced, or -1.

        The first ten are named, with the reason; after that there is a line when their number has doubled.

        Raises:
          DataError: when more than the set share of all images is broken.
        """
        for index in broken[broken >= 0].tolist():
            self.replaced += 1
            if index in self.indices:
                continue
            self.indices.add(index)
            count, length = len(self.indices), len(self._source)
            if count > self._max_share * length:
                raise DataError(
                    f"{count} of the {length} training images cannot be decoded, more than the share of "
                    f"{self._max_share:g} that data.max_broken allows, the last: {self._reason(index)}; mend or delete "
                    "them, or set --config.data.max_broken higher"
                )
            if count <= _NAMED:
                self._report(f"a training image is replaced by another: {self._reason(index)}")
            elif count % _NAMED == 0 and (count // _NAMED).bit_count() == 1:
                self._report(f"{count} training images are replaced by others, the last: {self._reason(index)}")

    def _reason(self, index: int) -> str:
        try:
            DecodedImages(self._source)(index)
        except BrokenExampleError as error:
            return " ".join(str(error).split())
        return self._source.example_id(index)  # It can be read by now.
