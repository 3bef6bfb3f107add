"""Which frames of a video make a clip. Frames are numbered from 0."""

import math
from dataclasses import dataclass

import numpy as np

from posmlp_jax.errors import ConfigError, nearest

KINDS = ("segment", "rounded_segment", "dense")


@dataclass(frozen=True)
class FrameSampling:
    """Segment sampling (Wang et al., 2016), the whole video thinned out, or dense sampling, a part of it.

    'segment': the video's L frames are cut into T equal segments, from i·L/T to (i + 1)·L/T, of each of which there is
    one frame. In training it is uniformly random, in each segment by itself. Of K test clips, clip k has those at
    (k + ½)/K of every segment: one clip has the centres.

    'rounded_segment', as PosMLP-Video's code has it for Something-Something: segment i goes from frame round(i·s) to
    frame round((i + 1)·s) with s = (L − 1)/T, both of them included, so that neighbours share a frame; halves are
    rounded to even. In training each of its frames is equally likely. Of K test clips, clip k has the frames
    round(i·s) + ⌊(k + 1)·s/(K + 1)⌋.

    'dense': T frames, each `stride` after the one before. In training the first is uniformly random among those from
    which the clip fits into the video. K test clips are spread evenly, from the first such frame to the last; one clip
    is in the middle.

    'dense' with `fps`, as PosMLP-Video's code has it for Kinetics: a clip lasts as long as T·`stride` frames of `fps` a
    second, which are c = T·`stride`·(the video's frames a second)/`fps` frames of the video. It has the frames
    ⌊x + i·(c − 1)/(T − 1)⌋, so that its last is c − 1 after its first. In training x is uniformly random in [0, L − c],
    not in whole frames. K test clips begin at x = k·⌊(L − c)/(K − 1)⌋; one clip at ⌊(L − c)/2⌋.

    A video with fewer frames than that is no error. Segments shorter than a frame show frames repeatedly, in order. A
    dense clip that is longer than the video begins with its first frame and ends with its last one, repeated.

    Attributes:
      kind: 'segment', 'rounded_segment' or 'dense'.
      num_frames: T.
      stride: of 'dense'.
      fps: of 'dense'; 0: `stride` counts the video's own frames, whatever time they take.

    Raises:
      ConfigError: for an unknown kind, or a number that is too small.
    """

    kind: str
    num_frames: int
    stride: int = 1
    fps: float = 0.0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ConfigError(f"unknown data.sampling '{self.kind}': {nearest(str(self.kind), KINDS)}")
        if self.stride < 1:
            raise ConfigError(f"data.stride is {self.stride}, and should be 1 or more")
        if not 0 <= self.fps < math.inf:
            raise ConfigError(f"data.fps is {self.fps}, and should be 0 (frames are counted) or more")
        if self.num_frames < 1:
            raise ConfigError(f"a clip has {self.num_frames} frames, and should have 1 or more")

    @property
    def timed(self) -> bool:
        """Whether it matters how many frames a second a video has."""
        return self.kind == "dense" and self.fps > 0

    def train(self, length: int, rng: np.random.Generator, fps: float = 0.0) -> np.ndarray:
        """A random clip's frames, int64 [T], in [0, length) and in order.

        Args:
          length: of the video, in frames.
          rng: what is random.
          fps: the video's frames a second; 0, which is not known, is taken for `self.fps`.
        """
        if self.kind == "segment":
            places = np.arange(self.num_frames) + rng.random(self.num_frames)
            return np.minimum((places * length / self.num_frames).astype(np.int64), length - 1)
        if self.kind == "rounded_segment":
            first, last = self._borders(length)
            return first + (rng.random(self.num_frames) * (last - first + 1)).astype(np.int64)
        if self.timed:
            frames = self._clip_length(fps)
            return self._timed(rng.random() * max(length - frames, 0), frames, length)
        return self._dense(int(rng.integers(self._last_start(length) + 1)), length)

    def test(self, length: int, clips: int = 1, fps: float = 0.0) -> np.ndarray:
        """The frames of `clips` clips, int64 [clips, T]: always the same ones. `length` and `fps` are as of `train`."""
        if self.kind == "segment":
            # In integers, as (i + (k + ½)/K) · L/T may be a whole number.
            places = 2 * clips * np.arange(self.num_frames) + 2 * np.arange(clips)[:, None] + 1
            return places * length // (2 * clips * self.num_frames)
        if self.kind == "rounded_segment":
            inside = (length - 1) / self.num_frames / (clips + 1) * np.arange(1, clips + 1)
            return self._borders(length)[0] + inside.astype(np.int64)[:, None]
        if self.timed:
            frames = self._clip_length(fps)
            room = max(length - frames, 0)
            starts = (
                [math.floor(room / 2)] if clips == 1 else [k * math.floor(room / (clips - 1)) for k in range(clips)]
            )
            return np.stack([self._timed(start, frames, length) for start in starts])
        last = self._last_start(length)
        starts = [last // 2] if clips == 1 else [k * last // (clips - 1) for k in range(clips)]
        return np.stack([self._dense(start, length) for start in starts])

    def around(self) -> np.ndarray:
        """The times of a clip round a key frame, in seconds after it: float64 [T], of which the T // 2-th is 0.

        As SlowFast has it for AVA: each is `stride` frames of `fps` a second after the one before. The kind is of no
        matter.

        Raises:
          ConfigError: when `fps` is 0.
        """
        if not self.fps:
            raise ConfigError(
                "data.fps is 0, and clips round key frames take frames by their times: --config.data.fps=30"
            )
        return np.arange(-(self.num_frames // 2), (self.num_frames + 1) // 2) * (self.stride / self.fps)

    def _borders(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Each rounded segment's first and last frame."""
        borders = np.rint((length - 1) / self.num_frames * np.arange(self.num_frames + 1)).astype(np.int64)
        return borders[:-1], borders[1:]

    def _clip_length(self, fps: float) -> float:
        """How many frames of a video of `fps` frames a second a timed clip lasts: not a whole number."""
        return self.stride * self.num_frames / self.fps * (fps if fps > 0 else self.fps)

    def _timed(self, start: float, frames: float, length: int) -> np.ndarray:
        # Divided last, so that what should be a whole number is one.
        places = start + (frames - 1) * np.arange(self.num_frames) / max(self.num_frames - 1, 1)
        return np.clip(places, 0, length - 1).astype(np.int64)

    def _last_start(self, length: int) -> int:
        return max(length - 1 - (self.num_frames - 1) * self.stride, 0)

    def _dense(self, start: int, length: int) -> np.ndarray:
        return np.minimum(start + self.stride * np.arange(self.num_frames), length - 1)
