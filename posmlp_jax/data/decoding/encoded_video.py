"""A video as sources give it: still encoded, with what sampling has to know before anything is decoded."""

import dataclasses
import os
from pathlib import Path

from posmlp_jax.data.decoding.packets import open_video, read_packets
from posmlp_jax.paths import as_path, in_bucket


@dataclasses.dataclass(frozen=True)
class EncodedVideo:
    """One video.

    Attributes:
      data: a video file (MP4, WebM, …) or its path, or the video's frames as image files (JPEG, …) in their order.
      num_frames: how many frames it has, counted when the data set was prepared or the file was opened.
      fps: frames a second on average; 0 when the file does not say.
      id: a name by which a person can find the video.
    """

    data: bytes | os.PathLike | tuple[bytes, ...]
    num_frames: int
    fps: float
    id: str


def open_encoded(file: str | os.PathLike) -> EncodedVideo:
    """A video file that stays on the disk, or is fetched from its bucket.

    All of it is read once, as nothing else says how many frames it has.

    Raises:
      BrokenExampleError: when it is no video file, or has no frame.
      OSError: when it cannot be read.
    """
    data = as_path(file).read_bytes() if in_bucket(file) else Path(file)
    with open_video(data) as (container, stream):
        packets = read_packets(container, stream, data)
    return EncodedVideo(data, packets.num_frames, packets.fps, os.fspath(file))
