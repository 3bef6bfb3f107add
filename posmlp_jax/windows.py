"""Windows: how a feature map becomes groups of tokens that mix with each other, and a map again.

A map `[B, *map, C]` with any number of axes is padded at its ends until windows divide it, optionally rolled (the
shifted windows of Swin, which the paper takes for detection, section 5.5), and cut into `[B, windows, tokens, C]`.
Tokens that do not belong together, across the seam of a roll or in the padding, are kept apart by masks.
"""

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Bool, Int, Shaped


@dataclass(frozen=True, eq=False)
class WindowLayout:
    """How one map size is cut. Made by `window_layout`; static under jit.

    Attributes:
      map_size: tokens along each axis of the map.
      window: tokens along each axis of a window.
      shift: by how much the map is rolled back along each axis before it is cut.
      counts: windows along each axis.
      masks: True where a query (row) may see a key; None where every token sees its whole window.
      mask_index: each window's row in `masks`. Only windows at the seam and the border differ, so there are at most 3^D
        kinds of them, for a map of D axes, however large it is.
    """

    map_size: tuple[int, ...]
    window: tuple[int, ...]
    shift: tuple[int, ...]
    counts: tuple[int, ...]
    masks: Bool[np.ndarray, "kinds tokens tokens"] | None
    mask_index: Int[np.ndarray, "windows"] | None


@functools.cache
def window_layout(map_size: tuple[int, ...], window: tuple[int, ...], shifted: bool = False) -> WindowLayout:
    """The layout for a map; `shifted` rolls by half a window along every axis that has more than one window."""
    counts = tuple(math.ceil(size / side) for size, side in zip(map_size, window, strict=True))
    shift = tuple(side // 2 if shifted and count > 1 else 0 for side, count in zip(window, counts, strict=True))
    padded = tuple(count * side for count, side in zip(counts, window, strict=True))
    if padded == tuple(map_size) and not any(shift):
        return WindowLayout(map_size, window, shift, counts, None, None)

    # A token's region: which axes' seams it has crossed by the roll, or, for padding, a region of its own.
    region = np.zeros(padded, np.int32)
    padding = np.zeros(padded, bool)
    for axis, (size, roll) in enumerate(zip(map_size, shift, strict=True)):
        along = np.arange(padded[axis]).reshape([-1 if a == axis else 1 for a in range(len(padded))])
        region += (along < roll) * 2**axis
        padding |= along >= size
    region[padding] = -1
    tokens = _cut(np.roll(region, [-s for s in shift], range(len(shift)))[None, ..., None], counts, window)[0, ..., 0]
    # Windows with the same regions first: a clip has many windows, of few kinds, and masks are large.
    kinds, kind = _distinct(tokens)
    masks, index = _distinct(regions[:, None] == regions[None, :] for regions in kinds)
    return WindowLayout(map_size, window, shift, counts, masks, index[kind])


def _distinct(arrays: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Those of some arrays of one shape and type that differ, ordered by their bytes, and each one's number there.

    `np.unique` would make a record with a field for every element, of which a large window's mask has millions.
    """
    keys, found = [], {}
    for array in arrays:
        keys.append(array.tobytes())
        found.setdefault(keys[-1], array)
    number = {key: place for place, key in enumerate(sorted(found))}
    return np.stack([found[key] for key in number]), np.array([number[key] for key in keys])


def partition(
    x: Shaped[Array, "batch *map channels"], layout: WindowLayout
) -> Shaped[Array, "batch windows tokens channels"]:
    """A map in windows: both they and the tokens in each are in row-major order."""
    ends = [
        count * side - size for count, side, size in zip(layout.counts, layout.window, layout.map_size, strict=True)
    ]
    if any(ends):
        x = jnp.pad(x, [(0, 0), *((0, end) for end in ends), (0, 0)])
    if any(layout.shift):
        x = jnp.roll(x, [-s for s in layout.shift], range(1, len(ends) + 1))
    return _cut(x, layout.counts, layout.window)


def merge(
    tokens: Shaped[Array, "batch windows tokens channels"], layout: WindowLayout
) -> Shaped[Array, "batch *map channels"]:
    """The inverse of `partition`: the map."""
    axes = len(layout.window)
    counts, inner = _axis_names(axes)
    pattern = " ".join(f"({n} {w})" for n, w in zip(counts, inner, strict=True))
    sizes = dict(zip(counts + inner, layout.counts + layout.window, strict=True))
    x = rearrange(tokens, f"b ({' '.join(counts)}) ({' '.join(inner)}) c -> b {pattern} c", **sizes)
    if any(layout.shift):
        x = jnp.roll(x, layout.shift, range(1, axes + 1))
    return x[(slice(None), *(slice(size) for size in layout.map_size))]


def _cut(
    x: Shaped[Array | np.ndarray, "batch *map channels"], counts: tuple[int, ...], window: tuple[int, ...]
) -> Shaped[Array | np.ndarray, "batch windows tokens channels"]:
    """A map that windows divide, NumPy or JAX, in windows."""
    outer, inner = _axis_names(len(window))
    pattern = " ".join(f"({n} {w})" for n, w in zip(outer, inner, strict=True))
    sizes = dict(zip(inner, window, strict=True))
    return rearrange(x, f"b {pattern} c -> b ({' '.join(outer)}) ({' '.join(inner)}) c", **sizes)


def _axis_names(axes: int) -> tuple[list[str], list[str]]:
    return [f"n{axis}" for axis in range(axes)], [f"w{axis}" for axis in range(axes)]
