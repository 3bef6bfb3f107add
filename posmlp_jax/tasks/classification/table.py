"""Predictions as text to be read in a terminal."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from posmlp_jax.tasks.classification.prediction import Prediction
from posmlp_jax.terminal import printable

_GAP = "  "
_PROBABILITY = len("probability")
# What the column of classes gets at least, however narrow the terminal.
_LEAST_CLASS = 16


class PredictionTable:
    """Makes the rows of a table as predictions arrive; the first ones come with the table's head.

    Nothing is cut off: a file name that is too long for its column has a line of its own, a class name several.

    Args:
      files: the names of all files that there will be.
      classes: the names of all classes.
      width: of the terminal, in columns.
    """

    def __init__(self, files: Sequence[str], classes: Sequence[str], width: int):
        names = [cell_len(printable(name)) for name in classes]
        rest = width - _PROBABILITY - 2 * len(_GAP)
        least = max(min(max(names), rest // 2), _LEAST_CLASS)
        widths = [len("file"), *(cell_len(printable(file)) for file in files)]
        self._file = max(wide for wide in widths if wide <= max(rest - least, len("file")))
        self._class = max(rest - self._file, _LEAST_CLASS)
        self._head = f"{set_cell_size('file', self._file)}{_GAP}probability{_GAP}class\n"
        self._console = Console(width=width)

    def __call__(self, prediction: Prediction) -> str:
        """The rows of one prediction, a row for each class."""
        head, self._head = self._head, ""
        file = printable(prediction.file)
        lines = []
        if cell_len(file) > self._file:
            lines.append(file)
            file = ""
        for each in prediction.classes:
            share = f"{100 * each.probability:.2f} %"
            for part in Text(printable(each.name)).wrap(self._console, self._class, overflow="fold"):
                cells = set_cell_size(file, self._file), share.rjust(_PROBABILITY), part.plain.rstrip()
                lines.append(_GAP.join(cells))
                file = share = ""
        return head + "\n".join(lines)
