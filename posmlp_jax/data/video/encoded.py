"""A video as sources give it: still encoded, with what sampling has to know before anything is decoded."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class EncodedVideo:
    """One video.

    Attributes:
      data: a video file (MP4, WebM, …), or the video's frames as image files (JPEG, …) in their order.
      num_frames: how many frames it has, counted when the data set was prepared.
      fps: frames a second on average; 0 when the file does not say.
      id: a name by which a person can find the video.
    """

    data: bytes | tuple[bytes, ...]
    num_frames: int
    fps: float
    id: str
