"""Clips round a moment of a film: frames by the times at which they are shown, not by their numbers.

A film is a video file, which is entered near the moment, or a folder of frames that were taken out of one
(`frame_folders`).
"""

import dataclasses
import math
from collections.abc import Callable

import av
import cv2
import numpy as np

from posmlp_jax.data.decoding.frame_folders import FrameFolder
from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.data.decoding.frames import from_packets, sized, stack_frames
from posmlp_jax.data.decoding.images import Size
from posmlp_jax.data.decoding.packets import open_video, read_window
from posmlp_jax.errors import BrokenExampleError

# How far behind the end of a film a moment may be, in seconds: what files say of it is not exact.
SLACK = 1.0


@dataclasses.dataclass(frozen=True)
class Film:
    """A video file.

    Attributes:
      path: where it lies, on a disk.
      size: (height, width) of its first frame, upright; where that changes within a film, frames are resized to it.
      seconds: how long it lasts; infinity where the file does not say.
    """

    path: str
    size: Size
    seconds: float

    def frames_at(
        self, times: np.ndarray, reach: float, min_size: Size | None, keep: Callable, shorter_side: int
    ) -> tuple[dict[int, np.ndarray], np.ndarray, int]:
        """The frames that are shown at some times.

        Args:
          times: in seconds since the film begins, ascending, float64 [T].
          reach: see `shown_at`.
          min_size: see `decode_frames`.
          keep: as its `transform`.
          shorter_side: see `decode_frames`.

        Returns:
          (frames by numbers; which of them are to be shown, int64 [T]; how many of these are others than they should
          be, as the film breaks off).

        Raises:
          BrokenExampleError: when none can be decoded, or the film breaks off before the middle of the times.
        """
        del min_size
        centre, size = times[len(times) // 2], sized(self.size, shorter_side)

        def resized(frame: np.ndarray) -> np.ndarray:
            if frame.shape[:2] != size:
                frame = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)
            return keep(frame)

        with open_video(self.path) as (container, stream):
            window = read_window(container, stream, times[0], times[-1] + reach)
            if window.is_last and centre > window.ends + SLACK:
                raise BrokenExampleError(f"the film breaks off after {window.ends:.2f} seconds, before {centre:g}")
            wanted = shown_at(window.times, times, reach)
            frames = from_packets(stream.codec_context, window.packets, wanted.tolist(), resized, shorter_side)
        breaks_off = window.is_last and window.ends + SLACK < self.seconds < math.inf
        return frames, wanted, int(np.sum(times > window.ends)) if breaks_off else 0


@dataclasses.dataclass(frozen=True)
class Moment:
    """A time of a film.

    Attributes:
      film: the film.
      time: in seconds since it begins.
    """

    film: Film | FrameFolder
    time: float


def open_film(path: str) -> Film:
    """Reads a film's header, and decodes its first frame.

    Raises:
      BrokenExampleError: when it is no film, or the frame cannot be decoded.
      OSError: when it cannot be read.
    """
    with open_video(path) as (container, stream):
        seconds, begins = math.inf, (container.start_time or 0) / av.time_base
        if stream.duration:
            seconds = float(((stream.start_time or 0) + stream.duration) * stream.time_base) - begins
        elif container.duration:
            # Matroska says when a film ends, not how long it lasts.
            seconds = container.duration / av.time_base - (begins if "matroska" in container.format.name else 0.0)
        window = read_window(container, stream, -math.inf, -math.inf)
        (frame,) = from_packets(stream.codec_context, window.packets, [0], lambda frame: frame, 0).values()
    return Film(path, frame.shape[:2], seconds)


def shown_at(shown: np.ndarray, times: np.ndarray, reach: float) -> np.ndarray:
    """Which frame is shown at each of some times: the one that begins nearest to it, but not too long after it.

    That is what FFmpeg takes out of a film at `fps` frames a second, where `reach` is half of 1/fps: of one with fewer
    frames, or with a still picture for a while, those that have begun.

    Args:
      shown: when frames begin, ascending, float64 [n].
      times: float64 [T]; before the first frame it is that one, after the last one the last.
      reach: how long after a time a frame may begin.

    Returns:
      int64 [T].
    """
    before = np.maximum(np.searchsorted(shown, times, side="right") - 1, 0)
    after = np.minimum(before + 1, len(shown) - 1)
    late = shown[after] - times
    # Times are rounded in files: what is as near shall not be taken by chance.
    return np.where((late < times - shown[before] - 1e-6) & (late <= reach), after, before)


def decode_moment(
    moment: Moment,
    sampling: FrameSampling,
    min_size: Size | None = None,
    transform: Callable[[np.ndarray], np.ndarray] | None = None,
    shorter_side: int = 0,
) -> tuple[np.ndarray, int]:
    """Decodes the clip round a moment (`FrameSampling.around`).

    Where it reaches over the film's beginning or end, the first or last frame is repeated. What cannot be decoded is
    replaced as by `decode_frames`, and so are the frames upright.

    Args:
      moment: of which film.
      sampling: how many frames, and at which distance.
      min_size: see `decode_frames`.
      transform: likewise.
      shorter_side: likewise.

    Returns:
      (uint8 frames [T, height, width, 3], or what `transform` made of them; how many have taken the places of others).

    Raises:
      BrokenExampleError: when no frame can be decoded, or the film breaks off before the moment.
    """
    keep = transform or (lambda frame: frame)
    times = moment.time + sampling.around()
    try:
        frames, wanted, lost = moment.film.frames_at(times, 0.5 / sampling.fps, min_size, keep, shorter_side)
    except OSError as error:
        raise BrokenExampleError(f"cannot read {moment.film.path}: {error.strerror or error}") from error
    pixels, taken = stack_frames(frames, wanted)
    return pixels, int(np.sum(taken != wanted)) + lost
