"""The clips of a source's videos: sampled and decoded."""

import functools
import logging
from collections.abc import Callable

import numpy as np

from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.data.decoding.frames import decode_frames
from posmlp_jax.data.decoding.images import Size
from posmlp_jax.data.decoding.kept_images import Decoded
from posmlp_jax.data.sources.source import Source
from posmlp_jax.errors import BrokenExampleError


@functools.cache
def _say_once(text: str) -> None:
    logging.warning(text)


class DecodedClips:
    """The clips of a source's videos as uint8 arrays. `kind` is the source's.

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
          DataError: when it cannot be read, or its label is out of range.
        """
        example = self._source[index]
        video = example["video"]
        # A video file that is none may have been prepared elsewhere as one without frames.
        length = max(video.num_frames, 1)
        if self._sampling.timed and not video.fps > 0:
            _say_once(f"some videos do not say their frames a second, and are taken for ones of {self._sampling.fps:g}")
        if rng is None:
            frames = self._sampling.test(length, self._test_clips, video.fps).ravel()
        else:
            frames = self._sampling.train(length, rng, video.fps)
        try:
            pixels, decoded = decode_frames(video, frames, self._min_size, self._transform, self._shorter_side)
        except BrokenExampleError as error:
            raise BrokenExampleError(error.reason, self._source.example_id(index), self._source.description) from error
        return Decoded(pixels, example["label"], int(np.sum(decoded != frames)), decoded)
