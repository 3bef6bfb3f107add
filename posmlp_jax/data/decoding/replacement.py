"""What takes the place of an image or video that cannot be decoded, and how often that has happened.

In training it is another one, up to a share of them that is set. Of a video that is only damaged, the frames that can
be decoded take the places of the others.
"""

from collections.abc import Callable, Sequence

import numpy as np

from posmlp_jax.data.decoding.examples import Decoded, DecodedClips, DecodedImages, Decoder
from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.data.sources.source import Source
from posmlp_jax.errors import BrokenExampleError, DataError

_TRIES = 50
_NAMED = 10
_ONE_FRAME = FrameSampling("segment", 1, fps=30.0)


def read_decodable(
    decoder: Decoder, index: int, substitutes: Sequence[int], rng: np.random.Generator
) -> tuple[Decoded, int, int]:
    """An example, or where it cannot be decoded another that `rng` picks.

    The generator belongs to the example's place in the stream, so who takes the place is the same on every run, however
    many workers there are; and with images it is not touched when nothing is broken.

    Args:
      decoder: of a source.
      index: the example to read.
      substitutes: the indices that may take its place.
      rng: the place's own random numbers.

    Returns:
      (the example, its index, the index of the broken one that it replaces, or -1).

    Raises:
      DataError: when 50 picks in a row are broken, or for anything but a broken image or video.
    """
    picked = index
    for _ in range(_TRIES):
        try:
            return decoder(picked, rng), picked, -1 if picked == index else index
        except BrokenExampleError as error:
            last = error
            picked = int(substitutes[rng.integers(len(substitutes))])
    raise DataError(f"{_TRIES} {decoder.kind}s in a row cannot be decoded, the last: {last}")


class _Announced:
    """Lines about examples: for each of the first ten, and after that one when their number has doubled."""

    def __init__(self, report: Callable[[str], None]):
        self._report = report
        self.indices: set[int] = set()

    def add(self, index: int, one: Callable[[], str], many: Callable[[int], str]) -> None:
        """Takes an example. `one()` is the line about it, `many(count)` that about all so far."""
        if index in self.indices:
            return
        self.indices.add(index)
        count = len(self.indices)
        if count <= _NAMED:
            self._report(one())
        elif count % _NAMED == 0 and (count // _NAMED).bit_count() == 1:
            self._report(many(count))


class BrokenExamples:
    """Counts and names the images or videos that were replaced, from what the batches say of them.

    That works with any number of workers, as it is done where batches arrive. Each JAX process counts its own share of
    the stream, and starts anew when a run goes on.

    Args:
      source: the images or videos.
      max_share: the share of them, in [0, 1], that may be broken.
      report: takes the lines that name them.
    """

    def __init__(self, source: Source, max_share: float, report: Callable[[str], None]):
        self._source, self._max_share, self._named = source, max_share, _Announced(report)

    @property
    def indices(self) -> set[int]:
        """Which ones were replaced."""
        return self._named.indices

    def add(self, broken: np.ndarray) -> None:
        """Takes the `broken` column of a batch: int64 [B], the index of the example that was replaced, or -1.

        Raises:
          DataError: when more than the set share of all examples is broken.
        """
        kind, length = self._source.kind, len(self._source)
        for index in broken[broken >= 0].tolist():
            count = len(self.indices | {index})
            if count > self._max_share * length:
                raise DataError(
                    f"{count} of the {length} training {kind}s cannot be decoded, more than the share of "
                    f"{self._max_share:g} that data.max_broken allows, the last: {self._reason(index)}; mend or delete "
                    "them, or set --config.data.max_broken higher"
                )
            self._named.add(
                index,
                lambda index=index: f"a training {kind} is replaced by another: {self._reason(index)}",
                lambda count, index=index: (
                    f"{count} training {kind}s are replaced by others, the last: {self._reason(index)}"
                ),
            )

    def _reason(self, index: int) -> str:
        video = self._source.kind == "video"
        decoder = DecodedClips(self._source, _ONE_FRAME) if video else DecodedImages(self._source)
        try:
            decoder(index)
        except BrokenExampleError as error:
            return " ".join(str(error).split())
        return self._source.example_id(index)  # It can be read by now.


class DamagedVideos:
    """Counts and names the videos of which some frames took the places of others, as `BrokenExamples` does.

    Args:
      source: the videos.
      report: takes the lines that name them.
    """

    def __init__(self, source: Source, report: Callable[[str], None]):
        self._source, self._named = source, _Announced(report)

    @property
    def indices(self) -> set[int]:
        """Which videos are damaged."""
        return self._named.indices

    def add(self, indices: np.ndarray, damaged: np.ndarray) -> None:
        """Takes the `index` and `damaged` columns of a batch: int64 [B], and int32 [B], the number of such frames."""
        for index, frames in zip(indices[damaged > 0].tolist(), damaged[damaged > 0].tolist(), strict=True):
            self._named.add(
                index,
                lambda index=index, frames=frames: (
                    f"{frames} sampled frames of a video cannot be decoded, and the last good ones before them are "
                    f"used: {self._source.example_id(index)} ({self._source.description})"
                ),
                lambda count: f"{count} videos have frames that cannot be decoded ({self._source.description})",
            )
