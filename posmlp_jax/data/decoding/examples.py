"""The examples of a source, decoded: images, and clips of videos."""

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from posmlp_jax.data.decoding.encoded_video import EncodedVideo
from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.data.decoding.frames import decode_frames
from posmlp_jax.data.decoding.images import Size, decode
from posmlp_jax.data.decoding.moments import Moment, decode_moment
from posmlp_jax.data.sources.source import Source
from posmlp_jax.errors import BrokenExampleError

# Of one image, or the three numbers of a clip: (frames, height, width).
InputSize = tuple[int, ...]


class Decoded(NamedTuple):
    """A decoded example.

    Attributes:
      pixels: uint8 RGB, an image [height, width, 3] or frames [n, height, width, 3]; not to be written to.
      target: as its source gives it.
      size: (height, width) of the image or of each frame, where pixels are what a `transform` kept of it.
      damaged: how many of its frames could not be decoded, and are others.
      frames: the numbers of a video's frames, int64 [n], as they were decoded; None of an image, and of a `Moment`.
    """

    pixels: np.ndarray
    target: Any
    size: Size
    damaged: int = 0
    frames: np.ndarray | None = None


class Decoder(Protocol):
    """`DecodedImages` or `DecodedClips`; `kind` is that of its source."""

    kind: str

    def __call__(self, index: int, rng: np.random.Generator | None = None) -> Decoded:
        """Example `index`."""


class DecodedImages:
    """The images of a source as uint8 arrays [height, width, 3]. `kind` is the source's.

    Those of small data sets are decoded once and kept: decoding costs more than everything after it.

    Args:
      source: the images.
      min_size: see `images.decode`.
      keep_bytes: when all images, judged by the first one, fit into this, those that were decoded are kept.
    """

    def __init__(self, source: Source, min_size: Size | None = None, keep_bytes: int = 0):
        self.kind = source.kind
        self._source = source
        self._min_size = min_size
        self._keep_bytes = keep_bytes
        self._kept: dict[int, Decoded] = {}

    def __call__(self, index: int, rng: np.random.Generator | None = None) -> Decoded:
        """The image and its target; an image is always the same, whatever `rng`.

        Raises:
          BrokenExampleError: when it cannot be decoded; the message names it.
          DataError: when it cannot be read, or its target cannot be.
        """
        if index in self._kept:
            return self._kept[index]
        image, target = self._source[index]
        if isinstance(image, bytes):
            try:
                image = decode(image, self._min_size)
            except BrokenExampleError as error:
                raise BrokenExampleError(
                    error.reason, self._source.example_id(index), self._source.description
                ) from error
        if not self._kept and image.nbytes * len(self._source) > self._keep_bytes:
            self._keep_bytes = 0
        decoded = Decoded(image, target, image.shape[:2])
        # Threads may both subtract the same image; the bound is generous enough for that.
        if image.nbytes <= self._keep_bytes:
            self._keep_bytes -= image.nbytes
            self._kept[index] = decoded
        return decoded


class DecodedClips:
    """The clips of a source's videos as uint8 arrays: sampled and decoded. `kind` is the source's.

    Of a `Moment` there is one clip, round it (`FrameSampling.around`).

    Args:
      source: the videos.
      sampling: which frames are taken.
      min_size: see `decode_frames`.
      test_clips: how many clips `decoder(index)`, without random numbers, takes of a video.
      transform: what is kept of each frame; see `decode_frames`.
      shorter_side: of the frames; see `decode_frames`.
    """

    def __init__(
        self,
        source: Source,
        sampling: FrameSampling,
        min_size: Size | None = None,
        test_clips: int = 1,
        transform: Callable[[np.ndarray], np.ndarray] | None = None,
        shorter_side: int = 0,
    ):
        self.kind = source.kind
        self._source, self._sampling, self._min_size, self._test_clips = source, sampling, min_size, test_clips
        self._transform, self._shorter_side = transform, shorter_side

    def __call__(self, index: int, rng: np.random.Generator | None = None) -> Decoded:
        """A random clip [T, height, width, 3] or, without `rng`, the test clips [clips · T, height, width, 3].

        With a `transform`, its results are in the place of the frames.

        Raises:
          BrokenExampleError: when nothing of the video can be decoded; the message names it.
          DataError: when it cannot be read, or its target cannot be.
        """
        video, target = self._source[index]
        sizes, numbers = [], None

        def keep(frame: np.ndarray) -> np.ndarray:
            sizes.append(frame.shape[:2])
            return frame if self._transform is None else self._transform(frame)

        try:
            if isinstance(video, Moment):
                pixels, damaged = decode_moment(video, self._sampling, self._min_size, keep, self._shorter_side)
            else:
                frames = self._sample(video, rng)
                pixels, numbers = decode_frames(video, frames, self._min_size, keep, self._shorter_side)
                damaged = int(np.sum(numbers != frames))
        except BrokenExampleError as error:
            raise BrokenExampleError(error.reason, self._source.example_id(index), self._source.description) from error
        # All are as large as the first.
        return Decoded(pixels, target, sizes[0], damaged, numbers)

    def _sample(self, video: EncodedVideo, rng: np.random.Generator | None) -> np.ndarray:
        """The numbers of the frames to decode."""
        # A video file that is none may have been prepared elsewhere as one without frames.
        length = max(video.num_frames, 1)
        if self._sampling.timed and not video.fps > 0:
            _say_once(f"some videos do not say their frames a second, and are taken for ones of {self._sampling.fps:g}")
        if rng is None:
            return self._sampling.test(length, self._test_clips, video.fps).ravel()
        return self._sampling.train(length, rng, video.fps)


def create_decoder(
    source: Source,
    config: Any,
    input_size: InputSize,
    min_size: Size | None,
    *,
    keep_bytes: int = 0,
    test_clips: int = 1,
    transform: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Decoder:
    """The decoder of a source, as the `data` section of a config says; see `DecodedImages` and `DecodedClips`."""
    if source.kind == "image":
        return DecodedImages(source, min_size, keep_bytes)
    sampling = FrameSampling(config.sampling, input_size[0], config.stride, config.fps)
    return DecodedClips(source, sampling, min_size, test_clips, transform, config.frame_side)


@functools.cache
def _say_once(text: str) -> None:
    logging.warning(text)
