"""Feature pyramids: maps of every scale, each told what the coarser ones see (Lin et al. 2017)."""

from collections.abc import Sequence
from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class FPN(nnx.Module):
    """From maps, each of half the side of the one before, to as many of one width, and coarser ones after these.

    Biases start at 0 and kernels by Xavier's uniform distribution, as mmdetection's.

    Args:
      widths: channels of the maps, from fine to coarse.
      width: channels of the levels.
      extra: how many levels come after those of the maps.
      extra_convs: whether these are convolutions of stride 2, the first of the last map and the others each of the one
        before, without an activation between (RetinaNet's P6 and P7), or each takes every second row and column of the
        level before (Mask R-CNN's P6).
      dtype: compute type.
    """

    def __init__(self, widths: Sequence[int], width: int, *, extra: int, extra_convs: bool, dtype, rngs: nnx.Rngs):
        conv = partial(nnx.Conv, kernel_init=nnx.initializers.xavier_uniform(), dtype=dtype, rngs=rngs)
        self.laterals = nnx.List([conv(inputs, width, (1, 1)) for inputs in widths])
        self.outputs = nnx.List([conv(width, width, (3, 3)) for _ in widths])
        self.extra = extra
        # Both sides padded: 'SAME' would pad the end alone where the side is even.
        halving = partial(conv, kernel_size=(3, 3), strides=2, padding=((1, 1), (1, 1)))
        self.extra_convs = nnx.List(
            [halving(width if index else widths[-1], width) for index in range(extra if extra_convs else 0)]
        )

    def __call__(
        self, maps: Sequence[Float[Array, "batch _height _width _channels"]]
    ) -> list[Float[Array, "batch _rows _columns width"]]:
        """The levels, from fine to coarse; sides of coarser ones are halves, rounded up."""
        merged = [lateral(m) for lateral, m in zip(self.laterals, maps, strict=True)]
        for index in reversed(range(len(merged) - 1)):
            merged[index] += upsampled(merged[index + 1], merged[index].shape[1:3])
        levels = [output(m) for output, m in zip(self.outputs, merged, strict=True)]
        coarsest = maps[-1]
        for conv in self.extra_convs:
            coarsest = conv(coarsest)
            levels.append(coarsest)
        while len(levels) < len(maps) + self.extra:
            levels.append(levels[-1][:, ::2, ::2])
        return levels


def upsampled(
    x: Float[Array, "batch height width channels"], size: tuple[int, int]
) -> Float[Array, "batch _rows _columns channels"]:
    """A map of twice the side by repetition, the last row or column but once where the finer map's side is odd."""
    rows, columns = size
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)[:, :rows, :columns]
