"""What models say of files as text to be read in a terminal."""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from posmlp_jax.terminal import printable

_GAP = "  "
# What the last column gets at least, however narrow the terminal.
_LEAST_CLASS = 16


class FileTable:
    """Makes the rows of a table as predictions arrive; the first ones come with the table's head.

    Nothing is cut off: a file name that is too long for its column has a line of its own, a class name several.

    Args:
      files: the names of all files that there will be.
      classes: the names of all classes, which the last column has.
      columns: what is above those between, of numbers as wide as that.
      width: of the terminal, in columns of letters.
    """

    def __init__(self, files: Sequence[str], classes: Sequence[str], columns: Sequence[str], width: int):
        self._columns = [len(column) for column in columns]
        names = [cell_len(printable(name)) for name in classes]
        rest = width - sum(self._columns) - (len(columns) + 1) * len(_GAP)
        least = max(min(max(names), rest // 2), _LEAST_CLASS)
        widths = [len("file"), *(cell_len(printable(file)) for file in files)]
        self._file = max(wide for wide in widths if wide <= max(rest - least, len("file")))
        self._class = max(rest - self._file, _LEAST_CLASS)
        self._head = _GAP.join([set_cell_size("file", self._file), *columns, "class"]) + "\n"
        self._console = Console(width=width)

    def rows(self, file: str, answers: Iterable[tuple[Sequence[str], str]]) -> str:
        """The rows of one file, a row for each answer: what the columns have, and the name of its class."""
        head, self._head = self._head, ""
        file = printable(file)
        lines = []
        if cell_len(file) > self._file:
            lines.append(file)
            file = ""
        for numbers, name in answers:
            for part in Text(printable(name)).wrap(self._console, self._class, overflow="fold"):
                between = [number.rjust(wide) for number, wide in zip(numbers, self._columns, strict=True)]
                lines.append(_GAP.join([set_cell_size(file, self._file), *between, part.plain.rstrip()]))
                file, numbers = "", [""] * len(self._columns)
        return head + "\n".join(lines)
