"""Weights learned on one token grid, for another: other image sizes, other windows and other clip lengths.

What belongs to places (token biases, absolute positions, dense relations) or to offsets (learned tables), in space or
time, is interpolated; the quadratic relation's parameters are functions of the offset already, and are taken as they
are. A convolution of single frames becomes one over time (`inflate`).
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np
from flax import nnx
from jaxtyping import Float, Float32, Float64

from posmlp_jax.gating import GatingUnit
from posmlp_jax.models.backbone import Backbone
from posmlp_jax.relations import DenseRelation, LearnedRelation

# The names of a parameter's module and of itself, as in nested dicts of parameters.
Path = tuple[str | int, ...]
Resize = Callable[[np.ndarray], np.ndarray]


@functools.cache
def interpolation_matrix(size: int, target: int) -> Float64[np.ndarray, "{target} {size}"]:
    """Bicubic interpolation of `size` values at `target` places.

    Both sequences have their ends at half a step before the first and after the last value, as Swin and timm resize
    relative tables (torch's `align_corners=False`). The kernel is Keys' with a = −½, Pillow's and JAX's: unlike torch's
    −¾ it reproduces linear ramps. Beyond its ends the sequence goes on in a straight line, so that a ramp stays a ramp
    there too. The same size gives the identity.
    """
    if size == 1:
        return np.ones((target, 1))
    matrix = np.zeros((target, size))
    for index in range(target):
        place = (index + 0.5) * size / target - 0.5
        first = int(np.floor(place)) - 1
        for neighbour in range(first, first + 4):
            weight = _keys(abs(place - neighbour))
            # x[−k] = x[0] − k·(x[1] − x[0]), and likewise at the other end.
            inside = min(max(neighbour, 0), size - 1)
            outside = neighbour - inside
            matrix[index, inside] += weight
            if outside:
                matrix[index, inside] += abs(outside) * weight
                matrix[index, inside - np.sign(outside)] -= abs(outside) * weight
    matrix.setflags(write=False)  # It is shared.
    return matrix


def _keys(distance: float) -> float:
    """The cubic convolution kernel with a = −½ (Keys 1981, Eq. 15)."""
    if distance < 1:
        return 1.5 * distance**3 - 2.5 * distance**2 + 1
    return -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2 if distance < 2 else 0.0


def interpolate(
    array: Float[np.ndarray, "*before"], sizes: tuple[int, ...], targets: tuple[int, ...]
) -> Float32[np.ndarray, "*after"]:
    """Bicubic interpolation of an array's first axes, one after the other: `[*sizes, …]` to `[*targets, …]`."""
    for axis, (size, target) in enumerate(zip(sizes, targets, strict=True)):
        if size != target:
            along = np.tensordot(interpolation_matrix(size, target), array, axes=(1, axis))
            array = np.moveaxis(along, 0, axis)
    return array.astype(np.float32)


def resize_table(
    table: Float[np.ndarray, "offsets groups"], grid: tuple[int, ...], target: tuple[int, ...]
) -> Float32[np.ndarray, "new_offsets groups"]:
    """A learned relation's table, of ∏(2nᵢ − 1) offsets, for another grid."""
    sizes, targets = (tuple(2 * n - 1 for n in one) for one in (grid, target))
    return interpolate(table.reshape(*sizes, -1), sizes, targets).reshape(-1, table.shape[-1])


def resize_bias(
    bias: Float[np.ndarray, "tokens"], grid: tuple[int, ...], target: tuple[int, ...]
) -> Float32[np.ndarray, "new_tokens"]:
    """A token bias for another grid."""
    return interpolate(bias.reshape(grid), grid, target).reshape(-1)


def resize_dense(
    matrix: Float[np.ndarray, "groups tokens tokens"], grid: tuple[int, ...], target: tuple[int, ...]
) -> Float32[np.ndarray, "groups new_tokens new_tokens"]:
    """A dense relation for another grid, along the axes of its queries and of its keys."""
    last = np.moveaxis(matrix, 0, -1).reshape(*grid, *grid, -1)
    resized = interpolate(last, grid + grid, target + target)
    tokens = int(np.prod(target))
    return np.moveaxis(resized.reshape(tokens, tokens, -1), -1, 0)


def inflate(
    kernel: Float[np.ndarray, "height width inputs outputs"], depth: int
) -> Float[np.ndarray, "{depth} height width inputs outputs"]:
    """A kernel over time too, 0 but for the frame in the middle (of an odd depth).

    That is ViViT's central frame initialisation. Convolved over time, it gives at each step what the kernel gave for
    the frame in the middle: exactly, for any clip and at its ends too, where I3D's share for every frame would see
    the padding.
    """
    inflated = np.zeros((depth, *kernel.shape), kernel.dtype)
    inflated[depth // 2] = kernel
    return inflated


def inflates(source: Backbone, target: Backbone) -> Iterator[tuple[Path, Resize]]:
    """The kernels of `target` that are over time and in `source` over single frames, and what brings them there."""
    modules = dict(nnx.iter_modules(source))
    for path, module in nnx.iter_modules(target):
        before = modules.get(path)
        if isinstance(module, nnx.Conv) and isinstance(before, nnx.Conv):
            depth, *frame = module.kernel_size
            if tuple(frame) == tuple(before.kernel_size):
                yield (*path, "kernel"), functools.partial(inflate, depth=depth)


def resizes(source: Backbone, target: Backbone) -> Iterator[tuple[Path, Resize]]:
    """The parameters of `target` that lie on another grid than in `source`, and what brings them there."""
    modules = dict(nnx.iter_modules(source))
    for path, module in nnx.iter_modules(target):
        before = modules.get(path)
        if type(before) is not type(module):
            continue
        if isinstance(module, Backbone):
            if module.position is not None and before.position is not None:
                grids = before.position.shape[:-1], module.position.shape[:-1]
                if grids[0] != grids[1]:
                    yield (*path, "position"), functools.partial(interpolate, sizes=grids[0], targets=grids[1])
            continue
        grid = module.relation.grid if isinstance(module, GatingUnit) else getattr(module, "grid", None)
        old = before.relation.grid if isinstance(module, GatingUnit) else getattr(before, "grid", None)
        if grid == old:
            continue
        if isinstance(module, GatingUnit) and module.bias is not None:
            yield (*path, "bias"), functools.partial(resize_bias, grid=old, target=grid)
        elif isinstance(module, LearnedRelation):
            yield (*path, "table"), functools.partial(resize_table, grid=old, target=grid)
        elif isinstance(module, DenseRelation):
            yield (*path, "weight"), functools.partial(resize_dense, grid=old, target=grid)
