"""Classes in pictures: what a training image is labelled as, and how probable a model finds a class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from posmlp_jax.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Inches.
BARS_WIDTH, BAR_HEIGHT = 4.0, 0.24
# A label's parts below this are not worth a place in a caption.
_LEAST_SHARE = 0.005


def caption(target: np.ndarray, class_names: Sequence[str] | None) -> str:
    """'cat', or for a mixed image 'cat 70 %' and 'dog 30 %' on two lines, the larger share first.

    Args:
      target: the share of each class, [classes].
      class_names: in the order of the classes; None: numbers.
    """
    names = class_names or [f"class {number}" for number in range(len(target))]
    present = [number for number in np.argsort(-target, kind="stable") if target[number] >= _LEAST_SHARE]
    if len(present) == 1:
        return _shortened(names[present[0]])
    return "\n".join(f"{_shortened(names[number], 14)} {100 * target[number]:.0f} %" for number in present)


def _shortened(name: str, length: int = 19) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def draw_bar(axes: "Axes", name: str, index: int, probability: float, left: float, top: float) -> None:
    """A bar as long as a class's probability, the class's name over it; places are inches from the upper left corner.

    Args:
      axes: to draw into.
      name: the class's.
      index: the class's number, which stands for a name that the font cannot write.
      probability: the class's.
      left: of the bar.
      top: of the bar.
    """
    # Not above: Matplotlib takes a third of a second, which a run should not wait for.
    from matplotlib.patches import Rectangle

    from posmlp_jax.figures import FONT, can_draw, write

    width, height = BARS_WIDTH - 0.5, BAR_HEIGHT - 0.05
    axes.add_patch(Rectangle((left, top), width, height, color="#eeeeee", linewidth=0))
    axes.add_patch(Rectangle((left, top), width * probability, height, color="#9ecae1", linewidth=0))
    name = printable(name)
    name = name if can_draw(name) else f"class {index}"
    most = int(width * 72 / (0.62 * FONT))
    write(axes, left + 0.05, top + height / 2, name if len(name) <= most else f"{name[: most - 1]}…")
    write(axes, left + width + 0.48, top + height / 2, f"{100 * probability:.1f} %", ha="right")
