"""Which frames of a video make a clip. Frames are numbered from 0; their times are not looked at."""

from dataclasses import dataclass

import numpy as np

from posmlp_jax.errors import ConfigError, nearest

KINDS = ("segment", "dense")


@dataclass(frozen=True)
class FrameSampling:
    """Segment sampling (Wang et al., 2016), the whole video thinned out, or dense sampling, a part of it.

    'segment': the video's L frames are cut into T equal segments, from i·L/T to (i + 1)·L/T, of each of which there is
    one frame. In training it is uniformly random, in each segment by itself. Of K test clips, clip k has those at
    (k + ½)/K of every segment: one clip has the centres.

    'dense': T frames, each `stride` after the one before. In training the first is uniformly random among those from
    which the clip fits into the video. K test clips are spread evenly, from the first such frame to the last; one clip
    is in the middle.

    A video with fewer frames than that is no error. Segments shorter than a frame show frames repeatedly, in order. A
    dense clip that is longer than the video begins with its first frame and ends with its last one, repeated.

    Attributes:
      kind: 'segment' or 'dense'.
      num_frames: T.
      stride: of 'dense'.

    Raises:
      ConfigError: for an unknown kind, or a number less than 1.
    """

    kind: str
    num_frames: int
    stride: int = 1

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ConfigError(f"unknown data.sampling '{self.kind}': {nearest(str(self.kind), KINDS)}")
        if self.stride < 1:
            raise ConfigError(f"data.stride is {self.stride}, and should be 1 or more")
        if self.num_frames < 1:
            raise ConfigError(f"a clip has {self.num_frames} frames, and should have 1 or more")

    def train(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """A random clip's frames, int64 [T], in [0, length) and in order, of a video of `length` frames."""
        if self.kind == "segment":
            places = np.arange(self.num_frames) + rng.random(self.num_frames)
            return np.minimum((places * length / self.num_frames).astype(np.int64), length - 1)
        return self._dense(int(rng.integers(self._last_start(length) + 1)), length)

    def test(self, length: int, clips: int = 1) -> np.ndarray:
        """The frames of `clips` clips, int64 [clips, T]: always the same ones."""
        if self.kind == "segment":
            # In integers, as (i + (k + ½)/K) · L/T may be a whole number.
            places = 2 * clips * np.arange(self.num_frames) + 2 * np.arange(clips)[:, None] + 1
            return places * length // (2 * clips * self.num_frames)
        last = self._last_start(length)
        starts = [last // 2] if clips == 1 else [k * last // (clips - 1) for k in range(clips)]
        return np.stack([self._dense(start, length) for start in starts])

    def _last_start(self, length: int) -> int:
        return max(length - 1 - (self.num_frames - 1) * self.stride, 0)

    def _dense(self, start: int, length: int) -> np.ndarray:
        return np.minimum(start + self.stride * np.arange(self.num_frames), length - 1)
