"""Draws a confusion matrix."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from posmlp_jax.figures import can_draw
from posmlp_jax.terminal import printable

# More classes than this have no picture: their names could not be read. Up to the second number, cells show counts.
MOST_CLASSES, _WITH_COUNTS = 100, 25
_LONGEST_NAME = 24


def draw_confusion(matrix: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    """A figure with a row for each true class, whose cells' shade is the share of the row.

    Args:
      matrix: examples of class i that were taken for class j, int [K, K].
      class_names: K of them, K at most `MOST_CLASSES`.
      title: above it.
    """
    classes = len(class_names)
    names = [_drawable(number, name) for number, name in enumerate(class_names)]
    longest = max(map(len, names))
    # A cell is large enough for its number, or for a name of this size beside it.
    cell, font = (0.45, 9) if classes <= _WITH_COUNTS else (0.16, 7)
    side, margin = cell * max(classes, 6), 0.8 + 0.0105 * font * longest
    figure = Figure(figsize=(side + margin + 1.3, side + margin + 0.7), layout="constrained")
    axes = figure.subplots()
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    figure.suptitle(title, fontsize=10)
    axes.set(xlabel="taken for", ylabel="true class")
    # A name such as '$5' is no mathematics.
    axes.set_xticks(range(classes), names, rotation=90, fontsize=font, parse_math=False)
    axes.set_yticks(range(classes), names, fontsize=font, parse_math=False)
    if classes <= _WITH_COUNTS:
        for row, column in np.argwhere(matrix):
            colour = "white" if shares[row, column] > 0.55 else "black"
            size = font if matrix[row, column] < 1000 else font - 3
            axes.text(column, row, matrix[row, column], ha="center", va="center", color=colour, fontsize=size)
    bar = figure.colorbar(image, ax=axes, fraction=0.05, shrink=0.7, pad=0.02)
    bar.set_label("% of the true class", fontsize=font)
    bar.ax.tick_params(labelsize=font)
    return figure


def _drawable(number: int, name: str) -> str:
    """The name on one line and not too long; in its place the class's number where the font lacks a letter of it."""
    name = printable(name)
    if not can_draw(name):
        return f"class {number}"
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
