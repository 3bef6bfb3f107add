"""Predictions as text to be read in a terminal."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

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


def printable(text: str) -> str:
    """The text on one line: what no terminal should get (line breaks, control characters, broken UTF-8) is escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def display_width(text: str) -> int:
    """How many columns of a terminal a text takes: Chinese characters and most emoji two, combining marks none."""
    return sum(
        0 if unicodedata.category(char) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text: broken between words, or within one that is longer than a line."""
    lines = [""]
    for word in re.findall(r"\S+\s*|\s+", text):
        if lines[-1] and display_width(lines[-1] + word.rstrip()) > width:
            lines.append("")
        for char in word:
            if not char.isspace() and display_width(lines[-1] + char) > width:
                lines.append("")
            lines[-1] += char
    return [line.rstrip() for line in lines]


def _pad(text: str, width: int) -> str:
    return text + " " * (width - display_width(text))
