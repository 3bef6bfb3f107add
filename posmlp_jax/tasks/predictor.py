"""What a model says of a file, before it is known what it was trained for."""

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    # Matplotlib takes a third of a second, which a run should not wait for.
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class FilePrediction:
    """What is known of an image or video file that a model looked at, or why it did not; a task adds its answer.

    Attributes:
      file: its name.
      error: why it cannot be read, in one line; None for one that was.
      frames: of a video, the numbers of the frames that were looked at, for each clip that was taken of it; the first
        frame is 0.
      replaced: how many of them stand for others, which cannot be decoded.
      size: (height, width) of the image, or of the video's frames, as it is seen upright.
      fitted: (height, width) that it has in what the model saw, from the upper left corner on; all of that where it
        is not padded (`data.crop`).
      picture_side: in inches, of the square that a picture of several files shows an image in.
    """

    picture_side: ClassVar[float] = 2.0

    file: str
    error: str | None = None
    frames: tuple[tuple[int, ...], ...] = ()
    replaced: int = 0
    size: tuple[int, int] = (0, 0)
    fitted: tuple[int, int] = (0, 0)

    def to_json(self) -> dict[str, Any]:
        """The answer for programs, of a file that could be read: beside its name in a line of JSON."""
        return {}

    def drawn_into(self, image: np.ndarray) -> np.ndarray:
        """The image, uint8 [height, width, 3] of any size, with what of the answer has a place in it; or as it is."""
        return image

    def drawn_size(self) -> tuple[float, float]:
        """The width and height, in inches, that `draw` needs."""
        return 0.0, 0.0

    def draw(self, axes: "Axes", left: float, top: float) -> None:
        """Draws the answer into axes in inches from the upper left corner, beside what was looked at."""
        del axes, left, top


class Predictor(abc.ABC):
    """A trained model that answers for one kind of task."""

    @abc.abstractmethod
    def __call__(self, pixels: np.ndarray, sizes: np.ndarray) -> Any:
        """What the model makes of a batch, a tree of arrays with a row for each example; does not wait for the device.

        Args:
          pixels: uint8, as evaluation sees them (`data.views.EvalViews`).
          sizes: int32 [B, 2], the `FilePrediction.fitted` of each row; the rest is padding.
        """

    @abc.abstractmethod
    def read(self, file: FilePrediction, row: Any) -> FilePrediction:
        """The prediction for a file.

        Args:
          file: what is known of it.
          row: its row of the tree as NumPy arrays, or None where it could not be read.

        Raises:
          CheckpointError: when the model gives what is not a number.
        """


class Annotations(abc.ABC):
    """What predictions for files come to as one file that programs for annotated images read."""

    @abc.abstractmethod
    def add(self, prediction: FilePrediction, name: str) -> None:
        """Takes what is said of a file that could be read; `name` is what it is to be called."""

    @abc.abstractmethod
    def to_json(self) -> dict[str, Any]:
        """All that was taken."""
