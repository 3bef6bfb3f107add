"""Generated images and videos, for speed tests and for trying a config without data."""

import functools
import io
import threading
from collections.abc import Iterator

import av
import cv2
import numpy as np

from posmlp_jax.data.decoding.encoded_video import EncodedVideo
from posmlp_jax.data.sources.labelled import LabelledSource

# As Kinetics is usually stored, but of 5 seconds, and only so many different ones: encoding takes half a second each.
FILMS = 4
_HEIGHT, _WIDTH, _FRAMES, _FPS, _KEY_FRAME_DISTANCE = 256, 340, 150, 30, 12
_LOCKS = [threading.Lock() for _ in range(FILMS)]


class SyntheticSource(LabelledSource):
    """Noise over one brightness per class and colour: cheap, the same for the same index, and learnable.

    Args:
      num_examples: how many images.
      num_classes: their labels are spread evenly over [0, num_classes).
      size: (height, width) of every image.
      offset: the number of the first image; other numbers are other images.
    """

    generated = True

    def __init__(self, num_examples: int, num_classes: int, size: tuple[int, int] = (256, 256), offset: int = 0):
        self._num_examples = num_examples
        self._size = size
        self._offset = offset
        self.num_classes = num_classes
        self.class_names = None
        self.description = f"{num_examples} generated images of {size[0]}×{size[1]}, {num_classes} classes"

    def __len__(self) -> int:
        """The number of images."""
        return self._num_examples

    def read(self, index: int) -> tuple[np.ndarray, int]:
        """A uint8 image [height, width, 3] and its label."""
        number = index + self._offset
        (label,) = self._read_labels(range(index, index + 1))
        # Each class has its own mean colour; the noise is half the range.
        colour = np.random.default_rng((1, label)).integers(0, 128, 3, dtype=np.uint8)
        noise = np.random.default_rng((0, number)).bytes(3 * self._size[0] * self._size[1])
        return (np.frombuffer(noise, np.uint8).reshape(*self._size, 3) >> 1) + colour, label

    def _read_labels(self, indices: range) -> list[int]:
        return [(index + self._offset) % self.num_classes for index in indices]

    def example_id(self, index: int) -> str:
        """`synthetic:number`."""
        return f"synthetic:{index + self._offset}"


class SyntheticVideos(SyntheticSource):
    """H.264 files of 340×256 pixels and 5 seconds: a camera that moves over coloured clouds, with grain.

    They are decoded like any other video. There are four, which take turns: of a label the remainder by four can be
    learned.

    Args:
      num_examples: how many videos.
      num_classes: their labels are spread evenly over [0, num_classes).
      offset: the number of the first video.
    """

    kind = "video"

    def __init__(self, num_examples: int, num_classes: int, offset: int = 0):
        super().__init__(num_examples, num_classes, (_HEIGHT, _WIDTH), offset)
        self.description = f"{num_examples} generated videos of {_WIDTH}×{_HEIGHT}, {num_classes} classes"

    def read(self, index: int) -> tuple[EncodedVideo, int]:
        """A video and its label."""
        (label,) = self._read_labels(range(index, index + 1))
        number = label % FILMS
        with _LOCKS[number]:  # The loader's threads would all encode the first.
            data = _film(number)
        return EncodedVideo(data, _FRAMES, _FPS, f"film {number}"), label


@functools.cache
def _film(number: int) -> bytes:
    """An MP4 file, always the same for the same number."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_FPS, options={"preset": "veryfast", "crf": "23"})
        stream.height, stream.width, stream.pix_fmt = _HEIGHT, _WIDTH, "yuv420p"
        stream.gop_size, stream.thread_count = _KEY_FRAME_DISTANCE, 1
        for frame in _frames(number):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _frames(number: int) -> Iterator[np.ndarray]:
    """uint8 [height, width, 3]; the films differ by their mean colours, as the images' classes do."""
    rng = np.random.default_rng((2, number))
    colour = np.random.default_rng((1, number)).integers(0, 112, 3, dtype=np.uint8)
    coarse = rng.integers(0, 128, (16, 24, 3), dtype=np.uint8) + colour
    clouds = cv2.resize(coarse, (_WIDTH + 2 * _FRAMES, _HEIGHT + _FRAMES), interpolation=cv2.INTER_LINEAR)
    grain = rng.integers(0, 16, (_HEIGHT + 32, _WIDTH + 32, 3), dtype=np.uint8)
    for time in range(_FRAMES):
        top, left = rng.integers(0, 32, 2)
        view = clouds[time : time + _HEIGHT, 2 * time : 2 * time + _WIDTH]
        yield view + grain[top : top + _HEIGHT, left : left + _WIDTH]
