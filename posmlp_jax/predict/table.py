"""Predictions as text to be read in a terminal."""

from collections.abc import Sequence
from typing import Any

from posmlp_jax.terminal import display_width, printable, wrapped

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
        names = [display_width(printable(name)) for name in classes]
        rest = width - _PROBABILITY - 2 * len(_GAP)
        least = max(min(max(names), rest // 2), _LEAST_CLASS)
        widths = [len("file"), *(display_width(printable(file)) for file in files)]
        self._file = max(wide for wide in widths if wide <= max(rest - least, len("file")))
        self._class = max(rest - self._file, _LEAST_CLASS)
        self._head = f"{_pad('file', self._file)}{_GAP}probability{_GAP}class\n"

    def __call__(self, prediction: Any) -> str:
        """The rows of one `Prediction`, a row for each class."""
        head, self._head = self._head, ""
        file = printable(prediction.file)
        lines = []
        if display_width(file) > self._file:
            lines.append(file)
            file = ""
        for each in prediction.classes:
            share = f"{100 * each.probability:.2f} %"
            for part in wrapped(printable(each.name), self._class):
                lines.append(f"{_pad(file, self._file)}{_GAP}{share:>{_PROBABILITY}}{_GAP}{part}")
                file = share = ""
        return head + "\n".join(lines)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - display_width(text))
