"""Videos of handwritten digits that move, made from the digits that ship with this project. The class is the motion.

A clip of a class, played backwards, is a clip of the class opposite to it: both are drawn from one distribution of
paths, which are followed in one direction or the other. So what tells `left` from `right` is in no single frame, and
not in all frames of a clip together, but only in their order.
"""

import dataclasses
import io
import math
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from posmlp_jax.data.prepare.builder import Builder, Example, Recipe, Split, cut
from posmlp_jax.data.prepare.datasets import digits
from posmlp_jax.data.prepare.videos import features

# Each with its opposite, forwards and backwards along the same paths.
CLASSES = ("left", "right", "up", "down", "clockwise", "counterclockwise", "growing", "shrinking")
SIZE = 64
NUM_FRAMES = 16
FPS = 8
CLIPS = {"train": 2000, "test": 400}
PER_SHARD = 500
# One change in a clip means one more here, so that older prepared ones are not mixed up with it.
_VERSION = "1.0.0"
# A digit's 8×8 pixels, between clips and, when it grows, within one: the length of their side on the canvas, in pixels.
_SIDE = (22.0, 30.0)
# How much changes from frame to frame: pixels, degrees, and the logarithm of the side.
_SPEED = {"shift": (0.8, 1.6), "turn": (5.0, 10.0), "growth": (0.04, 0.07)}


@dataclasses.dataclass(frozen=True)
class Path2D:
    """A digit's way: where it is at the clip's middle, and what changes from one frame to the next.

    Attributes:
      center: x and y in pixels, of the digit's middle on the canvas.
      side: of the digit's 8×8 pixels, in pixels of the canvas.
      angle: in degrees, clockwise.
      shift: change of the centre per frame, x and y (y points down).
      turn: change of the angle per frame.
      growth: change of the logarithm of the side per frame.
    """

    center: tuple[float, float]
    side: float
    angle: float
    shift: tuple[float, float] = (0.0, 0.0)
    turn: float = 0.0
    growth: float = 0.0


def draw_path(motion: str, rng: np.random.Generator) -> Path2D:
    """A random path of a class. With equal random numbers, opposite classes get paths that are each other's reverse."""
    low, high = SIZE / 2 - 6, SIZE / 2 + 6
    center = (rng.uniform(low, high), rng.uniform(low, high))
    side, angle, pace = rng.uniform(*_SIDE), rng.uniform(0, 360), rng.random()

    def change(kind: str) -> float:
        slowest, fastest = _SPEED[kind]
        return slowest + pace * (fastest - slowest)

    changes = {
        "left": lambda: {"shift": (-change("shift"), 0.0)},
        "right": lambda: {"shift": (change("shift"), 0.0)},
        "up": lambda: {"shift": (0.0, -change("shift"))},
        "down": lambda: {"shift": (0.0, change("shift"))},
        "clockwise": lambda: {"turn": change("turn")},
        "counterclockwise": lambda: {"turn": -change("turn")},
        "growing": lambda: {"growth": change("growth")},
        "shrinking": lambda: {"growth": -change("growth")},
    }
    return Path2D(center, side, angle, **changes[motion]())


def render(digit: np.ndarray, path: Path2D) -> np.ndarray:
    """The clip of a digit on its path.

    Args:
      digit: [8, 8] in 0..16.
      path: where it is in each frame.

    Returns:
      uint8 [NUM_FRAMES, SIZE, SIZE], white on black. The path backwards gives exactly these frames, backwards.
    """
    frames = np.empty((NUM_FRAMES, SIZE, SIZE), np.uint8)
    for number in range(NUM_FRAMES):
        time = number - (NUM_FRAMES - 1) / 2
        center = np.array([place + change * time for place, change in zip(path.center, path.shift, strict=True)])
        side, angle = path.side * math.exp(path.growth * time), path.angle + path.turn * time
        frames[number] = draw(digit, center, side, angle, (SIZE, SIZE))
    return frames


def draw(digit: np.ndarray, center: np.ndarray, side: float, angle: float, size: tuple[int, int]) -> np.ndarray:
    """One digit on a black canvas.

    Args:
      digit: [8, 8] in 0..16.
      center: x and y of its middle, in pixels of the canvas.
      side: of its 8×8 pixels, likewise.
      angle: in degrees, clockwise.
      size: (height, width) of the canvas.

    Returns:
      Whole numbers in 0..255, float32 of that size.
    """
    ink = np.zeros((10, 10), np.float32)
    ink[1:9, 1:9] = digit * (255 / 16)
    scale, radians = side / 8, math.radians(angle)
    cosine, sine = scale * math.cos(radians), scale * math.sin(radians)
    rotation = np.array([[cosine, -sine], [sine, cosine]])
    # Pixel centres are at integers: the middle of the padded 10×10 pixels is at 4.5. A digit's pixels are always
    # larger than the canvas's, so that linear interpolation shows shifts by a part of a pixel without aliasing.
    offset = center - 0.5 - rotation @ np.array([4.5, 4.5])
    return np.rint(cv2.warpAffine(ink, np.column_stack([rotation, offset]), size[::-1]))


def encode(frames: np.ndarray, rate: Fraction = Fraction(FPS)) -> bytes:
    """An MP4 file of grey frames, uint8 [n, height, width], `rate` a second; equal frames give equal bytes.

    Every frame is a key frame: one that is predicted from those before it would show, by its slightly other quality,
    where it stands in the clip. The encoder is FFmpeg's own, which is part of every build of it.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=rate, options={"qmin": "2", "qmax": "2", "flags": "+bitexact"})
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt, stream.gop_size, stream.thread_count = "yuv420p", 1, 1
        # One for all frames: setting it up takes longer than the rest.
        colours = av.video.reformatter.VideoReformatter()
        for number, grey in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(grey), format="gray")
            frame = colours.reformat(frame, format="yuv420p")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def build(source: Path | None, name: str) -> Recipe:
    """The test split's clips show the digits of the test split of `digits`; `source` is not used."""
    del source
    return Recipe(
        name=name,
        version=_VERSION,
        features=features(CLASSES),
        splits={split: _split(split, indices) for split, indices in digits.split_indices().items()},
        fingerprint={"clips": CLIPS, "per_shard": PER_SHARD},
        description="Digits of 8×8 pixels that move, turn, grow or shrink on a canvas of 64×64; the class is how.",
        homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        noun="videos",
    )


def _split(split: str, digit_indices: np.ndarray) -> Split:
    pixels, _ = digits.load()

    def read(number: int) -> Example:
        rng = np.random.default_rng([list(CLIPS).index(split), number])
        label = number % len(CLASSES)
        digit = pixels[rng.choice(digit_indices)]
        clip = render(digit, draw_path(CLASSES[label], rng))
        return {
            "id": f"{split}_{number:04d}_{CLASSES[label]}",
            "video": encode(clip),
            "num_frames": NUM_FRAMES,
            "fps": FPS,
            "label": label,
        }

    return cut(read, np.random.default_rng(0).permutation(CLIPS[split]), PER_SHARD)


BUILDER = Builder(build, source="", official="the digits ship with this project")
