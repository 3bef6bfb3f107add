"""Anchors: the boxes, the same in every image of a size, that a detector's deltas start from.

They are NumPy arrays, constants of a compiled program, and ordered as a head's map `[H, W, A·K]` is when it is reshaped
to `[H·W·A, K]`: by row, column, then the anchors of a cell.
"""

import functools
import math

import numpy as np
from jaxtyping import Float32


def cell_anchors(sizes: tuple[float | int, ...], ratios: tuple[float | int, ...]) -> Float32[np.ndarray, "anchors 4"]:
    """The anchors of one cell of a map, round the origin: those of the first ratio, one for each size, then the next.

    Args:
      sizes: square roots of areas, in pixels. They are not rounded, as torchvision's are.
      ratios: height / width.
    """
    widths, heights = zip(
        *((size / math.sqrt(ratio), size * math.sqrt(ratio)) for ratio in ratios for size in sizes), strict=True
    )
    half = np.stack([widths, heights], axis=-1) / 2
    return np.concatenate([-half, half], axis=-1).astype(np.float32)


def grid_anchors(
    map_size: tuple[int, int], stride: int, cells: Float32[np.ndarray, "anchors 4"]
) -> Float32[np.ndarray, "{map_size[0]*map_size[1]*len(cells)} 4"]:
    """The anchors of all cells of a map (height, width): cell (row, column) has its round (column, row) · stride."""
    rows, columns = np.meshgrid(*map(np.arange, map_size), indexing="ij")
    corners = np.stack([columns, rows, columns, rows], axis=-1).astype(np.float32) * stride
    return (corners[:, :, None] + cells).reshape(-1, 4)


@functools.cache
def pyramid_anchors(
    map_sizes: tuple[tuple[int, int], ...],
    strides: tuple[int, ...],
    scales: tuple[float | int, ...],
    ratios: tuple[float | int, ...] = (0.5, 1.0, 2.0),
) -> tuple[Float32[np.ndarray, "_ 4"], ...]:
    """The anchors of each level of a pyramid.

    Args:
      map_sizes: (height, width) of each level's map.
      strides: pixels between a level's cells. They are the pyramid's, not an image's size over its map's.
      scales: sizes in strides: 4·(1, 2^⅓, 2^⅔) of RetinaNet, 8 of a region proposal network.
      ratios: height / width.
    """
    return tuple(
        grid_anchors(size, stride, cell_anchors(tuple(scale * stride for scale in scales), ratios))
        for size, stride in zip(map_sizes, strides, strict=True)
    )
