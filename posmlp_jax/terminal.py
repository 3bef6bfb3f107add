"""Lines for the terminal, and any text, such as names of files and classes, as one can show it."""

import re
import sys
import unicodedata

import jax


def report(line: str) -> None:
    """Prints a line without tearing a progress bar, on the first host only."""
    # Not above: who only loads weights does without it.
    from tqdm import tqdm

    if jax.process_index() == 0:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()


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
