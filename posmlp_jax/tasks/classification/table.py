"""The most probable classes of files as text to be read in a terminal."""

from collections.abc import Sequence

from posmlp_jax.tasks.classification.prediction import Prediction
from posmlp_jax.tasks.table import FileTable


class PredictionTable(FileTable):
    """A row for each class.

    Args:
      files: the names of all files that there will be.
      classes: the names of all classes.
      width: of the terminal, in columns.
    """

    def __init__(self, files: Sequence[str], classes: Sequence[str], width: int):
        super().__init__(files, classes, ["probability"], width)

    def __call__(self, prediction: Prediction) -> str:
        """The rows of one prediction."""
        return self.rows(
            prediction.file, (([f"{100 * each.probability:.2f} %"], each.name) for each in prediction.classes)
        )
