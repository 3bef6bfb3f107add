"""A block as one kernel, for windows without masks: nothing of its expansion is ever written to memory.

Without shifts and padding all that a block does happens inside one window. The kernel (Pallas) reads a window, and
writes what becomes of it; the backward pass computes the expansion again from the window. Weights and relations
stay in a TPU's fast memory meanwhile, which a GPU has too little of. Inside, channels come before tokens, and are taken
in chunks of whole groups.
"""

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Float

from posmlp_jax.errors import ConfigError

KERNELS = ("auto", "xla", "pallas")
# How many channels a chunk should have at least: with fewer, a TPU's matrix unit waits for its vector unit.
_CHUNK = 256
# Of a TPU's fast memory, in bytes: all of a TPU v7's, and half of a v5e's and v6e's; what the compiler needs besides.
_FAST_MEMORY, _SPARE = 64 * 2**20, 8 * 2**20
# TPUs that have less.
_TOO_SMALL = ("TPU v2", "TPU v3", "TPU v4")
_SQRT_HALF, _INVERSE_SQRT_TAU = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)
# log₂(1/Φ(x) − 1) / x as a polynomial of x² up to 25, fitted so that the largest error of Φ is least: 1.9e-5. That is
# a hundredth of what rounding to bfloat16 leaves, for a third of erf's operations.
_LOGISTIC = (-2.3017271, -0.10617736, 9.112336e-4)


class Branch(NamedTuple):
    """The parameters of a branch whose gate multiplies halves, as the kernel takes them.

    Attributes:
      scale, shift: of the norm.
      expand: with the channels of X₁ and then those of X₂ in rows.
      expand_bias: theirs.
      relation: W of each group.
      token_bias: b of Eq. 15.
      project: with the gate's channels in rows.
      project_bias: its.
    """

    scale: Float[Array, "1 width"]
    shift: Float[Array, "1 width"]
    expand: Float[Array, "expanded width"]
    expand_bias: Float[Array, "expanded 1"]
    relation: Float[Array, "groups tokens tokens"]
    token_bias: Float[Array, "1 tokens"]
    project: Float[Array, "channels width"]
    project_bias: Float[Array, "1 width"]


def device_kind() -> str:
    """What a program is traced for: devices of the mesh in context, or else JAX's own."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.device_kind if device is not None else jax.devices()[0].device_kind


def is_fused(kernel: str, obstacle: str, x: Float[Array, "batch windows tokens width"]) -> bool:
    """Whether the kernel is to compute a branch, in the program that is being traced.

    Where it is a gain is known of bfloat16 on TPUs alone (docs/performance.md).

    Args:
      kernel: one of `KERNELS`.
      obstacle: what of the branch the kernel cannot do, or ''.
      x: the branch's input.

    Raises:
      ConfigError: for 'pallas', where it cannot.
    """
    if kernel == "xla":
        return False
    device, mesh = device_kind(), jax.sharding.get_abstract_mesh()
    if kernel == "pallas":
        if device != "cpu" and not device.startswith("TPU"):
            obstacle = f"needs a TPU, or a CPU that runs it step by step, and not {device}"
        refuse(obstacle or _splitting_obstacle(x))
        return True
    suited = device.startswith("TPU") and not device.startswith(_TOO_SMALL) and x.dtype == jnp.bfloat16
    # Only a mesh says what a program is compiled for; without one it may be a host's CPU, or an export for others.
    return suited and not mesh.empty and not obstacle and not _splitting_obstacle(x)


def _splitting_obstacle(x: Float[Array, "batch windows tokens width"]) -> str:
    """What stands against telling the kernel how a batch is split over the mesh in context; or ''."""
    mesh, batch = jax.sharding.get_abstract_mesh(), x.shape[0]
    if not isinstance(batch, int):
        return "takes a batch of a known size"
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        return "splits a batch over the mesh itself, whose axes should be AxisType.Auto and not in a shard_map"
    if not mesh.empty and batch % mesh.size:
        return f"takes a batch that the mesh's {mesh.size} devices share equally, and not {batch}"
    return ""


def refuse(obstacle: str) -> None:
    """Raises a ConfigError for what stands against kernel 'pallas', unless that is ''."""
    if obstacle:
        raise ConfigError(f"kernel 'pallas' {obstacle}; 'auto' and 'xla' take this")


def memory_obstacle(width: int, channels: int, groups: int, tokens: int, dtype) -> str:
    """What `is_fused` is told where a TPU's fast memory does not hold a branch and its gradient; else ''."""
    padded = tokens + -tokens % 128
    weights = 3 * channels * width + groups * padded**2
    working = 16 * channels // chunk_count(channels, groups) * padded + 4 * padded * width
    needed = weights * (jnp.dtype(dtype).itemsize + 4) + 4 * working
    if needed <= _FAST_MEMORY - _SPARE:
        return ""
    return f"needs {needed / 2**20:.0f} MiB of a TPU's fast memory for {tokens} tokens and {channels} channels"


def chunk_count(channels: int, groups: int) -> int:
    """Into how many chunks of whole groups the mixed channels are cut, of `_CHUNK` channels or the next that fit."""
    counts = [count for count in range(1, groups + 1) if groups % count == 0 and channels // count >= _CHUNK]
    return max(counts, default=1)


def _normalized(x, epsilon: float):
    """(x − mean) / deviation in float32, and 1 / deviation."""
    x = x.astype(jnp.float32)
    mean = jnp.mean(x, axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.mean((x - mean) ** 2, axis=-1, keepdims=True) + epsilon)
    return (x - mean) * inverse, inverse


def _dot(a, b, contracting: tuple[int, int]):
    """A product of two matrices over an axis of each, summed up in float32."""
    # Of float32 the whole numbers, where a matrix unit would round them to bfloat16.
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    dimensions = ((contracting[:1], contracting[1:]), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, precision=precision, preferred_element_type=jnp.float32)


def _normal_cdf(x, dtype):
    """Φ(x) of float32, as exact as `dtype`, of which the result is to be."""
    if dtype != jnp.bfloat16:
        return 0.5 * (1 + jax.lax.erf(x * _SQRT_HALF))
    square = jnp.minimum(x * x, 25.0)
    exponent = x * ((_LOGISTIC[2] * square + _LOGISTIC[1]) * square + _LOGISTIC[0])
    # Far below 0 it would be infinite, and then nothing times infinity.
    below = 1 + jnp.exp2(jnp.minimum(exponent, 100.0))
    # One step of Newton's takes what the vector unit has for 1/x to float32's precision.
    inverse = pl.reciprocal(below, approx=True)
    return inverse * (2 - below * inverse)


class _Chunk(NamedTuple):
    """Some of the mixed channels: their place, and their groups'."""

    rows: slice
    others: slice
    groups: range
    channels: int  # Of a group.


def _chunks(weights: Branch) -> Iterator[_Chunk]:
    channels, groups = weights.project.shape[0], weights.relation.shape[0]
    count = chunk_count(channels, groups)
    for start, size in ((chunk * channels // count, channels // count) for chunk in range(count)):
        first = start * groups // channels
        yield _Chunk(
            slice(start, start + size),
            slice(channels + start, channels + start + size),
            range(first, first + groups // count),
            channels // groups,
        )


def _expanded(weights: Branch, rows: slice, y):
    """Rows of the expansion before GELU, and Φ of them, `[channels, tokens]` in float32."""
    before = _dot(weights.expand[rows], y, (1, 1)) + weights.expand_bias[rows].astype(jnp.float32)
    return before, _normal_cdf(before, y.dtype)


def _by_group(chunk: _Chunk, x) -> Iterator[tuple[int, Array]]:
    for place, group in enumerate(chunk.groups):
        yield group, x[place * chunk.channels : (place + 1) * chunk.channels]


def _mixed(weights: Branch, chunk: _Chunk, a):
    """W X₁ + b of a chunk, group by group."""
    rows = [_dot(part, weights.relation[group], (1, 1)) for group, part in _by_group(chunk, a)]
    return jnp.concatenate(rows) + weights.token_bias[...].astype(jnp.float32)


def _forward_kernel(x_ref, *refs, epsilon: float, residual: bool):
    *refs, out_ref = refs
    kept, weights = _kept_and_weights(refs)
    x = x_ref[0]
    normal, _ = _normalized(x, epsilon)
    y = (normal * weights.scale[...] + weights.shift[...]).astype(x.dtype)
    total = jnp.broadcast_to(weights.project_bias[...].astype(jnp.float32), x.shape)
    for chunk in _chunks(weights):
        a, o = (before * cdf for before, cdf in (_expanded(weights, rows, y) for rows in chunk[:2]))
        gated = _mixed(weights, chunk, a.astype(x.dtype)) * o
        total += _dot(gated.astype(x.dtype), weights.project[chunk.rows], (0, 0))
    total = total if kept is None else total * kept
    out_ref[0] = (x.astype(jnp.float32) + total if residual else total).astype(out_ref.dtype)


def _backward_kernel(x_ref, z_ref, *refs, epsilon: float, residual: bool):
    """`z_ref` is the gradient of the result. Those of the weights are summed over the windows, one after the other."""
    count = len(Branch._fields)
    (*refs, dx_ref), sums = refs[:-count], Branch(*refs[-count:])
    kept, weights = _kept_and_weights(refs)

    @pl.when(pl.program_id(0) == 0)
    def _():
        for ref in sums:
            ref[...] = jnp.zeros(ref.shape, ref.dtype)

    x, dresult = x_ref[0], z_ref[0].astype(jnp.float32)
    normal, inverse = _normalized(x, epsilon)
    y = (normal * weights.scale[...] + weights.shift[...]).astype(x.dtype)
    dz = dresult if kept is None else dresult * kept
    sums.project_bias[...] += jnp.sum(dz, axis=0, keepdims=True)
    dz, dy = dz.astype(x.dtype), jnp.zeros(x.shape, jnp.float32)
    for chunk in _chunks(weights):
        (before_a, cdf_a), (before_o, cdf_o) = (_expanded(weights, rows, y) for rows in chunk[:2])
        a, o = (before_a * cdf_a).astype(x.dtype), before_o * cdf_o
        mixed = _mixed(weights, chunk, a)
        sums.project[chunk.rows] += _dot((mixed * o).astype(x.dtype), dz, (1, 0))
        dgated = _dot(weights.project[chunk.rows], dz, (1, 1))
        dmixed, do = dgated * o, dgated * mixed
        sums.token_bias[...] += jnp.sum(dmixed, axis=0, keepdims=True)
        da = []
        for (group, dpart), (_, part) in zip(
            _by_group(chunk, dmixed.astype(x.dtype)), _by_group(chunk, a), strict=True
        ):
            sums.relation[group] += _dot(dpart, part, (0, 0))
            da.append(_dot(dpart, weights.relation[group], (1, 0)))
        for rows, gradient, before, cdf in (
            (chunk.rows, jnp.concatenate(da), before_a, cdf_a),
            (chunk.others, do, before_o, cdf_o),
        ):
            gradient *= cdf + before * (_INVERSE_SQRT_TAU * jnp.exp(-0.5 * before * before))
            sums.expand_bias[rows] += jnp.sum(gradient, axis=1, keepdims=True)
            gradient = gradient.astype(x.dtype)
            sums.expand[rows] += _dot(gradient, y, (1, 0))
            dy += _dot(gradient, weights.expand[rows], (0, 0))
    sums.scale[...] += jnp.sum(dy * normal, axis=0, keepdims=True)
    sums.shift[...] += jnp.sum(dy, axis=0, keepdims=True)
    dnormal = dy * weights.scale[...].astype(jnp.float32)
    mean = jnp.mean(dnormal, axis=-1, keepdims=True)
    slope = jnp.mean(dnormal * normal, axis=-1, keepdims=True)
    dx = inverse * (dnormal - mean - normal * slope)
    dx_ref[0] = (dx + dresult if residual else dx).astype(dx_ref.dtype)


def _kept_and_weights(refs):
    """What of the branch is kept, in float32, or None for all; and the weights."""
    count = len(Branch._fields)
    kept, weights = refs[:-count], Branch(*refs[-count:])
    return (kept[0][0].astype(jnp.float32) if kept else None), weights


def _call(kernel, name: str, windows: tuple[Array, ...], weights: Branch, results, **options):
    """A kernel once a window, all of which see the same weights.

    Args:
      kernel: takes references to a window of each of `windows`, to all weights and to the results, and the options.
      name: in profiles.
      windows: `[windows, tokens, width]` each.
      weights: the branch's.
      results: shapes, the first of windows as well, others of sums over them.
      **options: the kernel's.
    """

    def one(array) -> pl.BlockSpec:
        return pl.BlockSpec((1, *array.shape[1:]), lambda window: (window, 0, 0))

    def whole(array) -> pl.BlockSpec:
        return pl.BlockSpec(array.shape, lambda window: (0,) * len(array.shape))

    first, *sums = results
    return pl.pallas_call(
        functools.partial(kernel, **options),
        name=name,
        grid=(len(windows[0]),),
        in_specs=[*map(one, windows), *map(whole, weights)],
        out_specs=[one(first), *map(whole, sums)],
        out_shape=results,
        compiler_params=pltpu.CompilerParams(vmem_limit_bytes=_FAST_MEMORY - _SPARE),
        # Elsewhere its operations are run one by one.
        interpret=not device_kind().startswith("TPU"),
    )(*windows, *weights)


def _with_all_devices(function, windows: tuple[Array, ...], weights: Branch, results: int):
    """`function(windows, weights)`, run on each device of the mesh in context with its share of the windows.

    Args:
      function: gives something of each window, and sums over them.
      windows: arrays of windows.
      weights: which all devices see.
      results: how many results there are, the sums included.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return function(windows, weights)
    axes = mesh.axis_names

    def share(windows, weights):
        of_windows, *sums = function(windows, weights)
        return of_windows, *(jax.lax.psum(each, axes) for each in sums)

    split, whole = PartitionSpec(axes), PartitionSpec()
    return jax.shard_map(
        share,
        in_specs=(split, whole),
        out_specs=(split, *[whole] * (results - 1)),
        check_vma=False,  # Of which kernels say nothing.
    )(windows, weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _block(x, kept, weights: Branch, epsilon: float, residual: bool):
    def share(windows, weights):
        return _call(
            _forward_kernel, "block", windows, weights, [_shape(windows[0])], epsilon=epsilon, residual=residual
        )

    windows = (x,) if kept is None else (x, kept)
    return _with_all_devices(share, windows, weights, 1)[0]


def _forward(x, kept, weights: Branch, epsilon: float, residual: bool):
    return _block(x, kept, weights, epsilon, residual), (x, kept, weights)


def _backward(epsilon: float, residual: bool, saved, dz):
    def share(windows, weights):
        results = [_shape(windows[0]), *(_shape(each, jnp.float32) for each in weights)]
        return _call(_backward_kernel, "block_gradient", windows, weights, results, epsilon=epsilon, residual=residual)

    x, kept, weights = saved
    windows = (x, dz) if kept is None else (x, dz, kept)
    dx, *sums = _with_all_devices(share, windows, weights, 1 + len(weights))
    # What is kept is drawn, and depends on no parameter.
    gradients = Branch(*(total.astype(each.dtype) for total, each in zip(sums, weights, strict=True)))
    return dx, jax.tree.map(jnp.zeros_like, kept), gradients


_block.defvjp(_forward, _backward)


def _shape(array, dtype=None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, dtype or array.dtype)


def fused_branch(
    x: Float[Array, "batch windows tokens width"],
    kept: Float[Array, "batch windows tokens width"] | None = None,
    *,
    scale: Float[Array, "width"],
    shift: Float[Array, "width"],
    expand: Float[Array, "width expanded"],
    expand_bias: Float[Array, "expanded"],
    relation: Float[Array, "groups tokens tokens"],
    token_bias: Float[Array, "tokens"],
    project: Float[Array, "channels width"],
    project_bias: Float[Array, "width"],
    epsilon: float,
    residual: bool,
) -> Float[Array, "batch windows tokens width"]:
    """Linear(gate(GELU(Linear(Norm(x))))) of `GatedBranch`, whose gate multiplies halves, in x's type.

    It has gradients of the first order, backwards, and no `jax.jvp`.

    Args:
      x: windows without masks.
      kept: what the result is multiplied by, which is not differentiated; None is 1.
      scale: of the norm.
      shift: its.
      expand: the first linear layer's, as that has it.
      expand_bias: its.
      relation: W of Eq. 9.
      token_bias: b of Eq. 15.
      project: the second linear layer's.
      project_bias: its.
      epsilon: of the norm.
      residual: whether x is added to that.
    """
    weights = Branch(
        scale=scale[None],
        shift=shift[None],
        expand=expand.T.astype(x.dtype),
        expand_bias=expand_bias[:, None],
        relation=relation.astype(x.dtype),
        token_bias=token_bias[None],
        project=project.astype(x.dtype),
        project_bias=project_bias[None],
    )
    windows = (None if each is None else each.reshape(-1, *x.shape[2:]) for each in (x, kept))
    return _block(*windows, weights, epsilon, residual).reshape(x.shape)
