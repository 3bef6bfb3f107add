"""Lines for the terminal, and any text, such as names of files and classes, as one can show it."""

import io
import shutil
import sys

import jax
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

# Of a line that goes to no terminal.
_ANY_WIDTH = 10_000


def report(line: str) -> None:
    """Prints a line without tearing a progress bar, on the first host only."""
    # Not above: who only loads weights does without it.
    from tqdm import tqdm

    if jax.process_index() == 0:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()


def as_text(table: Table, whole: bool = False) -> str:
    """A table as plain lines, no wider than the terminal; of any width where the output is a file or a pipe.

    `whole`: wider than a narrow terminal rather than with a word or a number that is cut.
    """
    width = shutil.get_terminal_size((_ANY_WIDTH, 0)).columns
    # In a notebook too a text, and nowhere in colours.
    console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False)
    if whole:
        endless = console.options.update_width(_ANY_WIDTH)
        console.width = max(width, Measurement.get(console, endless, table).minimum)
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def printable(text: str) -> str:
    """The text on one line: what no terminal should get (line breaks, control characters, broken UTF-8) is escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )
