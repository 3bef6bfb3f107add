"""Text in figures, and figures in files."""

import io
import os
from collections.abc import Callable, Iterable, Sequence

from etils import epath
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D

from posmlp_jax.errors import ConfigError
from posmlp_jax.paths import as_path
from posmlp_jax.writing import check_result, write_result

# The size of what `write` writes, in points.
FONT = 8


def save_figure(figure: Figure, path: str | os.PathLike, say: Callable[[str], None] = print) -> None:
    """Writes a figure in the format that the file's ending names, and says so.

    Raises:
      ConfigError: for an ending that Matplotlib has no format for, or a file that cannot be written.
    """
    file = _drawable_file(path)
    figure.savefig(content := io.BytesIO(), format=file.suffix[1:].lower(), dpi=120)
    write_result(path, content.getvalue())
    say(f"wrote {path}")


def check_figure_path(path: str | os.PathLike, read: Iterable[str | os.PathLike] = ()) -> None:
    """Raises the ConfigError that `save_figure` would raise, as far as that can be told before there is a figure.

    `read`: as for `check_result`.
    """
    _drawable_file(path)
    check_result(path, read)


def write(axes: Axes, x: float, y: float, text: str, **style) -> None:
    """Writes a line of any text: a name such as '$5' is no mathematics."""
    axes.text(x, y, text, fontsize=FONT, va="center", parse_math=False, **style)


def add_legend(owner: Axes | Figure, lines: Sequence[Line2D], **options) -> None:
    """A legend of lines with any labels: a folder's name such as '$5' is no mathematics, and '_x' is not left out."""
    legend = owner.legend(lines, [""] * len(lines), **options)
    for text, line in zip(legend.get_texts(), lines, strict=True):
        text.set(text=line.get_label(), parse_math=False)


def can_draw(text: str) -> bool:
    """Whether the font that figures have knows every letter of a text."""
    font = get_font(findfont("DejaVu Sans"))
    return all(font.get_char_index(ord(letter)) for letter in text)


def _drawable_file(path: str | os.PathLike) -> epath.Path:
    file, formats = as_path(path), FigureCanvasBase.get_supported_filetypes()
    if file.suffix[1:].lower() not in formats:
        raise ConfigError(f"cannot draw '{path}'; the ending should be one of {', '.join(sorted(formats))}")
    return file
