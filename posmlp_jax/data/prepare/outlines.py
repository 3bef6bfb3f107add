"""Masks as COCO writes them: polygons along the pixels' edges, or run lengths; and the box of a mask."""

from typing import Any

import numpy as np


def bounding_box(mask: np.ndarray) -> list[int]:
    """The smallest box that holds a mask, [x, y, width, height]; `mask`: bool [height, width], not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Compressed RLE of a mask, bool [height, width]: {'size': [height, width], 'counts': str}."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def outlines(mask: np.ndarray) -> list[list[int]]:
    """Polygons [x, y, x, y, …] whose union is a mask, exactly; they go along the edges of pixels.

    COCO's polygons have no holes: a part with one is cut in two there.

    Args:
      mask: bool [height, width].
    """
    loops = _loops(mask)
    hole = next((loop for loop in loops if _signed_area(loop) < 0), None)
    if hole is None:
        return [[int(value) for corner in loop for value in corner] for loop in loops]
    column = np.arange(mask.shape[1])
    # A column inside the hole: after it there is an edge of the hole on both sides.
    cut = min(x for x, _ in hole) + 1
    return outlines(mask & (column < cut)) + outlines(mask & (column >= cut))


def _loops(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """The closed ways round the parts of a mask and its holes, as corners (x, y), with the mask on the right.

    Pixels that touch at a corner alone are of different parts.
    """
    inside = np.pad(mask, 1)
    # From where to where edges go, by direction: right above a pixel, left below it, down on its right, up on its left.
    ways: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (dy, dx), (start, end) in {
        (-1, 0): ((0, 0), (1, 0)),
        (1, 0): ((1, 1), (0, 1)),
        (0, 1): ((1, 0), (1, 1)),
        (0, -1): ((0, 1), (0, 0)),
    }.items():
        outside = ~np.roll(inside, (-dy, -dx), (0, 1))[1:-1, 1:-1]
        for y, x in np.argwhere(mask & outside).tolist():
            ways.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    loops = []
    while ways:
        here = first = min(ways)
        loop, before = [], None
        while here in ways:
            choices = ways[here]
            # Where two ways cross, the one that turns right stays with its part.
            there = choices[0] if before is None else max(choices, key=lambda to: _turn(before, here, to))
            choices.remove(there)
            if not choices:
                del ways[here]
            if before is None or _turn(before, here, there):
                loop.append(here)
            before, here = here, there
            if here == first:
                break
        # Where it began may be in the middle of a straight line, but the first in order never is.
        loops.append(loop)
    return loops


def _turn(before: tuple[int, int], here: tuple[int, int], there: tuple[int, int]) -> int:
    """1 for a turn to the right, as seen on a picture, −1 to the left, 0 straight on; edges have length 1."""
    return (here[0] - before[0]) * (there[1] - here[1]) - (here[1] - before[1]) * (there[0] - here[0])


def _signed_area(loop: list[tuple[int, int]]) -> float:
    """Of a way round something that lies on its right, on a picture whose y points down; negative for a hole."""
    x, y = np.array(loop).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
