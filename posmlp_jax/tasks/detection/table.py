"""The objects that were found in files as text to be read in a terminal."""

from collections.abc import Sequence

from posmlp_jax.tasks.detection.prediction import DetectionPrediction
from posmlp_jax.tasks.table import FileTable


class ObjectTable(FileTable):
    """A row for each object: its score, its box in the image's own pixels, rounded, and its class.

    Args:
      files: the names of all files that there will be.
      classes: the names of all classes.
      width: of the terminal, in columns.
    """

    def __init__(self, files: Sequence[str], classes: Sequence[str], width: int):
        super().__init__(files, classes, ["score", " left", "  top", "right", "bottom"], width)

    def __call__(self, prediction: DetectionPrediction) -> str:
        """The rows of one prediction; one that says so where nothing was found."""
        found = [
            ([f"{each.score:.2f}", *(f"{side:.0f}" for side in each.box)], each.name) for each in prediction.objects
        ]
        return self.rows(prediction.file, found or [([""] * 5, "(nothing found)")])
