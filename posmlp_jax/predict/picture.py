"""Predictions as a picture: what was looked at, which part of it the model saw, and its classes or objects."""

import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from posmlp_jax.checkpoints.pretrained import Pretrained
from posmlp_jax.data.augment.augmentation import WHOLE
from posmlp_jax.data.augment.crops import uniform_crop_boxes
from posmlp_jax.data.decoding.frames import decode_frames
from posmlp_jax.data.decoding.images import decode
from posmlp_jax.data.sources.files import FileSource
from posmlp_jax.errors import BrokenExampleError
from posmlp_jax.figures import FONT, can_draw, write
from posmlp_jax.predict.loading import takes
from posmlp_jax.tasks.predictor import FilePrediction
from posmlp_jax.terminal import printable
from posmlp_jax.training.saved_config import data_config

# A picture has no more files than this, and a file no more clips.
MOST_FILES, MOST_CLIPS = 16, 10
_THREADS = min(os.cpu_count() or 1, 16)
# Inches. Frames fit into a square, a smaller one where there are many of them.
_FRAMES_WIDTH, _FRAME, _SMALL_FRAME = 11.7, 1.4, 1.05
_MARGIN, _GAP, _LINE = 0.15, 0.06, 0.17
_MOST_HEIGHT = 100.0
_PIXELS = 150  # an inch
_COLOURS = ("#ffcc00", "#ff5ca8", "#30c8ff")


@dataclass(frozen=True)
class _Seen:
    """What a picture shows of a file.

    Attributes:
      frames: uint8 [clips, T, height, width, 3], small and dark where the model did not look; of an image 1 × 1.
      boxes: (top, left, height, width) of the crops in them, each between 0 and 1.
      labels: below each frame, [clips, T].
    """

    frames: np.ndarray
    boxes: Sequence[tuple[float, ...]]
    labels: Sequence[Sequence[str]]


def draw_predictions(
    pretrained: Pretrained, predictions: Iterable[FilePrediction], *, crops: int | None = None
) -> Figure | None:
    """A figure with a part for each file that could be read: its frames, or the image, and its classes.

    Parts follow each other in the order of the files, narrow ones side by side. The files are read once more. What lies
    outside the crops that the model saw is dark; a detector's images have its objects drawn into them. Frames have
    their numbers below them and, where the file says how many there are a second, their times.

    Args:
      pretrained: what made the predictions.
      predictions: of `predict`; the first ones without an error are drawn, at most `MOST_FILES`, and fewer where a file
        has many clips.
      crops: as `predict` was told.

    Returns:
      The figure, with axes for each file; None where there is nothing to draw.
    """
    shown = [one for one in predictions if one.error is None][:MOST_FILES]
    if not shown:
        return None
    with ThreadPoolExecutor(_THREADS) as pool:
        seen = list(pool.map(partial(_look_again, pretrained, crops), shown))
    parts = [_Part(one, what) for one, what in zip(shown, seen, strict=True)]
    heights = np.cumsum([part.height for part in parts])
    parts = parts[: max(np.searchsorted(heights, _MOST_HEIGHT, side="right"), 1)]
    wide = max(part.frames_width for part in parts)
    answer = max(part.answer_width for part in parts)
    width = wide + answer + 3 * _MARGIN
    rows = _in_rows(parts, width, _FRAMES_WIDTH + answer + 3 * _MARGIN)
    height = sum(map(_row_height, rows)) + _MARGIN
    figure = Figure(figsize=(len(rows[0]) * width, height))
    top = height - _MARGIN
    for row in rows:
        for column, part in enumerate(row):
            part.draw(figure, top, column * width, width)
        top -= _row_height(row)
    return figure


def _in_rows(parts: Sequence["_Part"], width: float, most_width: float) -> list[Sequence["_Part"]]:
    """Parts of one width in rows of as many as make the picture squarest, but no wider than one of clips may be."""
    most = max(math.floor(most_width / width), 1)
    choices = [[parts[at : at + columns] for at in range(0, len(parts), columns)] for columns in range(1, most + 1)]
    return min(choices, key=lambda rows: abs(math.log(len(rows[0]) * width / sum(map(_row_height, rows)))))


def _row_height(row: Sequence["_Part"]) -> float:
    return max(part.height for part in row)


def _look_again(pretrained: Pretrained, crops: int | None, prediction: FilePrediction) -> _Seen | None:
    """What a file shows; None when it is not there any more."""
    data = data_config(pretrained)
    size = pretrained.config.input_size[-2:]
    count = data.test_crops if crops is None else crops
    boxes = []

    def small(image: np.ndarray) -> np.ndarray:
        if data.crop in WHOLE:  # All of it is looked at.
            side = prediction.picture_side if not prediction.frames else _FRAME
            return prediction.drawn_into(_thumbnail(image, side))
        height, width = image.shape[:2]
        found = uniform_crop_boxes((height, width), size, data.eval_crop, count)
        boxes[:] = [(top / height, left / width, h / height, w / width) for top, left, h, w in found]
        return _darkened(_thumbnail(image, prediction.picture_side if not prediction.frames else _FRAME), boxes)

    try:
        encoded, _ = FileSource([prediction.file], takes(pretrained)).read(0)
        if not prediction.frames:
            return _Seen(small(decode(encoded))[None, None], boxes, [[""]])
        numbers = np.asarray(prediction.frames[:MOST_CLIPS])
        frames, _ = decode_frames(encoded, numbers.ravel(), None, small)
    except (OSError, BrokenExampleError):
        return None
    labels = [[f"{n} · {n / encoded.fps:.1f} s" if encoded.fps else str(n) for n in clip] for clip in numbers.tolist()]
    return _Seen(frames.reshape(*numbers.shape, *frames.shape[1:]), boxes, labels)


def _thumbnail(image: np.ndarray, inches: float) -> np.ndarray:
    """The image at a size that fits into a square; what is enlarged shows its pixels."""
    scale = inches * _PIXELS / max(image.shape[:2])
    height, width = (max(round(scale * side), 1) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)


def _darkened(image: np.ndarray, boxes: Sequence[tuple[float, ...]]) -> np.ndarray:
    """The image, dark outside the boxes."""
    result = (image * 0.4).astype(np.uint8)
    for box in boxes:
        top, left, bottom, right = _corners(box, *image.shape[:2])
        inside = slice(round(top), round(bottom)), slice(round(left), round(right))
        result[inside] = image[inside]
    return result


def _corners(box: tuple[float, ...], height: float, width: float) -> tuple[float, ...]:
    """(top, left, bottom, right) of a box in an image of this size."""
    top, left, share_of_height, share_of_width = box
    return top * height, left * width, (top + share_of_height) * height, (left + share_of_width) * width


class _Part:
    """The part of a picture that is about one file. Lengths are in inches.

    Attributes:
      frames_width: of its frames.
      answer_width: of what the model says.
      height: of all of it.
    """

    def __init__(self, prediction: FilePrediction, seen: _Seen | None):
        self._prediction, self._seen = prediction, seen
        self.answer_width, answer_height = prediction.drawn_size()
        self.frames_width, frames_height = prediction.picture_side, 0.0
        if seen is not None:
            clips, count, height, width = seen.frames.shape[:4]
            side = prediction.picture_side if not prediction.frames else _FRAME if count <= 16 else _SMALL_FRAME
            self._frame = side * height / max(height, width), side * width / max(height, width)
            most = max(math.floor((_FRAMES_WIDTH + _GAP) / (self._frame[1] + _GAP)), 1)
            self._lines = math.ceil(count / most)
            # As many in each line, but for the last.
            self._columns = math.ceil(count / self._lines)
            self._pitch = self._frame[0] + (_LINE if prediction.frames else 0) + _GAP, self._frame[1] + _GAP
            self.frames_width = self._columns * self._pitch[1]
            # Several clips have a heading each.
            self._heading = _LINE if clips > 1 else 0
            frames_height = clips * (self._lines * self._pitch[0] + self._heading)
        self.height = 1.6 * _LINE + max(frames_height, answer_height) + 1.5 * _MARGIN

    def draw(self, figure: Figure, top: float, left: float, width: float) -> None:
        """Draws it in a column of the figure, below `top`; the two places are measured from its lower left corner."""
        whole = figure.get_size_inches()
        axes = figure.add_axes(
            (left / whole[0], (top - self.height) / whole[1], width / whole[0], self.height / whole[1])
        )
        # Inches, from the upper left corner.
        axes.set(xlim=(0, width), ylim=(self.height, 0))
        axes.set_axis_off()
        self._draw_title(axes, width)
        if self._seen is None:
            write(axes, _MARGIN, 2.5 * _LINE, "cannot be read any more", color="grey")
        else:
            self._draw_frames(axes)
            # Images have set limits and an aspect of their own.
            axes.set(xlim=(0, width), ylim=(self.height, 0), aspect="auto")
        self._prediction.draw(axes, width - self.answer_width - _MARGIN, 1.6 * _LINE)

    def _draw_title(self, axes: Axes, width: float) -> None:
        title, frames = _drawable_file(self._prediction.file), self._prediction.frames
        said = []
        if len(frames) > MOST_CLIPS:
            said.append(f"the first {MOST_CLIPS} of {len(frames)} clips")
        if self._prediction.replaced:
            said.append(f"{self._prediction.replaced} of {sum(map(len, frames))} frames stand for damaged ones")
        said = f"   ({'; '.join(said)})" if said else ""
        # The end of a long name says more than its beginning.
        room = max(int((width - 2 * _MARGIN) * 72 / (0.62 * FONT)) - len(said), 20)
        title = title if len(title) <= room else f"…{title[1 - room :]}"
        write(axes, _MARGIN, 0.7 * _LINE, title + said, weight="bold")

    def _draw_frames(self, axes: Axes) -> None:
        height, width = self._frame
        for clip, frames in enumerate(self._seen.frames):
            above = 1.6 * _LINE + clip * (self._lines * self._pitch[0] + self._heading) + self._heading
            if self._heading:
                write(axes, _MARGIN, above - _LINE / 2, f"clip {clip + 1}", color="#444444")
            for number, frame in enumerate(frames):
                line, column = divmod(number, self._columns)
                top, left = above + line * self._pitch[0], _MARGIN + column * self._pitch[1]
                axes.imshow(frame, extent=(left, left + width, top + height, top), interpolation="antialiased")
                for place, box in enumerate(self._seen.boxes):
                    upper, first, lower, last = _corners(box, height, width)
                    axes.add_patch(
                        Rectangle(
                            (left + first, top + upper),
                            last - first,
                            lower - upper,
                            fill=False,
                            color=_COLOURS[place],
                            linewidth=1,
                        )
                    )
                label = self._seen.labels[clip][number]
                write(axes, left + width / 2, top + height + _LINE / 2, label, ha="center", color="#444444")


def _drawable_file(file: str) -> str:
    """A file's name on one line, letters that the font lacks as Python escapes them."""
    return "".join(letter if can_draw(letter) else ascii(letter)[1:-1] for letter in printable(file))
