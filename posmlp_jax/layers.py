"""What surrounds the gating units: normalisation, stems, mergings and the residual block."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.gating import NORM_EPSILON, GatingUnit
from posmlp_jax.windows import WindowLayout

DOWNSAMPLINGS = ("conv", "linear")
NORMS = ("batch", "layer")

# torch truncates its normal at ±2, a hundred of these standard deviations, which is to say never.
kernel_init = nnx.initializers.normal(0.02)


def normalization(kind: str, channels: int, dtype, rngs: nnx.Rngs) -> nnx.BatchNorm | nnx.LayerNorm:
    """'batch' or 'layer' normalisation over the last axis, statistics in float32.

    Batch statistics are those of the whole array: under `jax.jit` with a sharded batch, of the global batch.
    """
    if kind == "batch":
        # Without a dtype, which would round the running statistics too.
        return nnx.BatchNorm(channels, momentum=0.9, epsilon=NORM_EPSILON, rngs=rngs)
    if kind == "layer":
        return nnx.LayerNorm(channels, epsilon=NORM_EPSILON, dtype=dtype, rngs=rngs)
    raise ConfigError(f"unknown norm '{kind}'; {nearest(kind, NORMS)}")


def normalize(norm: nnx.BatchNorm | nnx.LayerNorm, x: jax.Array, train: bool) -> jax.Array:
    """Applies either kind, in x's type.

    `train` takes the batch's statistics, and updates the running ones by them, unless the norm's own
    `use_running_average` is set, as it is for frozen layers.
    """
    if isinstance(norm, nnx.BatchNorm):
        return norm(x, use_running_average=norm.use_running_average or not train).astype(x.dtype)
    return norm(x)


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, x·Φ(x), in x's type.

    `jax.nn.gelu(approximate=False)` takes erfc where this takes erf: twice the time on CPU, for digits that only matter
    relative to results below 1e-7. In bfloat16 those digits are larger, so the arithmetic is float32.
    """
    x32 = x.astype(jnp.float32)
    return (0.5 * x32 * (1 + jax.lax.erf(x32 * math.sqrt(0.5)))).astype(x.dtype)


def linear(channels: int, out_channels: int, dtype, rngs: nnx.Rngs, *, bias: bool = True) -> nnx.Linear:
    """A fully connected layer over channels with the papers' initial values."""
    return nnx.Linear(channels, out_channels, use_bias=bias, kernel_init=kernel_init, dtype=dtype, rngs=rngs)


class ConvStem(nnx.Module):
    """ConvPE (Figure 2 b): two 3×3 convolutions of stride 2 and a 1×1, each normalised, GELU between; 4× smaller."""

    def __init__(self, channels: int, norm: str, dtype, rngs: nnx.Rngs):
        def conv(inputs: int, outputs: int, side: int) -> nnx.Conv:
            return nnx.Conv(
                inputs,
                outputs,
                (side, side),
                strides=side // 2 + 1,
                padding=side // 2,
                kernel_init=kernel_init,
                dtype=dtype,
                rngs=rngs,
            )

        sizes = [(3, channels // 2, 3), (channels // 2, channels, 3), (channels, channels, 1)]
        self.convs = nnx.List([conv(*size) for size in sizes])
        self.norms = nnx.List([normalization(norm, outputs, dtype, rngs) for _, outputs, _ in sizes])

    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """`[B, H, W, 3]` to `[B, ⌈H/4⌉, ⌈W/4⌉, channels]`."""
        x = normalize(self.norms[0], self.convs[0](images), train)
        for conv, norm in zip(self.convs[1:], self.norms[1:], strict=True):
            x = normalize(norm, conv(gelu(x)), train)
        return x


class LinearStem(nnx.Module):
    """Non-overlapping patches through one linear layer, then an optional norm (Table 10 "Linear"; gMLP's stem)."""

    def __init__(self, channels: int, patch: int, norm: str | None, dtype, rngs: nnx.Rngs):
        self.conv = nnx.Conv(
            3,
            channels,
            (patch, patch),
            strides=patch,
            padding="VALID",
            kernel_init=kernel_init,
            dtype=dtype,
            rngs=rngs,
        )
        self.patch = patch
        self.norm = normalization(norm, channels, dtype, rngs) if norm else None

    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """`[B, H, W, 3]` to `[B, ⌈H/patch⌉, ⌈W/patch⌉, channels]`; the last patches are padded with zeros."""
        x = self.conv(_pad_to_multiple(images, self.patch))
        return x if self.norm is None else normalize(self.norm, x, train)


class ConvMerging(nnx.Module):
    """ConvPM (Figure 2 c): a depth-wise 3×3 convolution of stride 2, C → 2C, then a norm.

    Outputs 2k and 2k + 1 see input k only. The kernel has `nnx.Conv`'s shape for that, `[3, 3, 1, 2C]`.
    """

    def __init__(self, channels: int, norm: str, dtype, rngs: nnx.Rngs):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (3, 3, 1, 2 * channels), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(2 * channels))
        self.norm = normalization(norm, 2 * channels, dtype, rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """`[B, H, W, C]` to `[B, ⌈H/2⌉, ⌈W/2⌉, 2C]`."""
        x = depthwise_conv(x, self.kernel[...].astype(x.dtype)) + self.bias[...].astype(x.dtype)
        return normalize(self.norm, x, train)


@jax.jit  # Named in the traced function, so that its multiply-accumulates can be counted.
def depthwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A 3×3 depth-wise convolution of stride 2 and padding 1: `[B, H, W, C]`, `[3, 3, 1, m·C]` to `[B, H/2, W/2, m·C]`.

    Written as nine strided slices times weights: XLA's gradient of a grouped convolution on CPU takes seconds a layer
    where this takes milliseconds.
    """
    batch, height, width, channels = x.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    weights = kernel.reshape(3, 3, channels, -1)
    taps = (
        padded[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2, :, None] * weights[i, j]
        for i in range(3)
        for j in range(3)
    )
    return sum(taps).reshape(batch, rows, columns, -1)


class LinearMerging(nnx.Module):
    """Swin's patch merging (Table 10 "Linear"): 2×2 neighbours concatenated, a norm, Linear 4C → 2C without bias."""

    def __init__(self, channels: int, norm: str, dtype, rngs: nnx.Rngs):
        self.norm = normalization(norm, 4 * channels, dtype, rngs)
        self.linear = linear(4 * channels, 2 * channels, dtype, rngs, bias=False)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """`[B, H, W, C]` to `[B, ⌈H/2⌉, ⌈W/2⌉, 2C]`; odd maps are padded with zeros."""
        x = _pad_to_multiple(x, 2)
        neighbours = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
        return self.linear(normalize(self.norm, jnp.concatenate(neighbours, axis=-1), train))


def _pad_to_multiple(x: jax.Array, multiple: int) -> jax.Array:
    height, width = x.shape[1:3]
    return jnp.pad(x, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)))


class GatedBlock(nnx.Module):
    """The block of gMLP and PosMLP (Figure 1 a): x + DropPath(Dropout(Linear(gate(GELU(Linear(Norm(x)))))))."""

    def __init__(
        self,
        channels: int,
        expansion: int,
        make_gate,
        *,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Args: `make_gate(channels)` builds the `GatingUnit` for the expanded channels; rates are probabilities."""
        self.norm = nnx.LayerNorm(channels, epsilon=NORM_EPSILON, dtype=dtype, rngs=rngs)
        self.expand = linear(channels, expansion * channels, dtype, rngs)
        self.gate: GatingUnit = make_gate(expansion * channels)
        self.project = linear(self.gate.out_channels, channels, dtype, rngs)
        self.dropout = nnx.Dropout(dropout)
        # One draw an example for the whole residual branch, scaled by 1/keep: stochastic depth.
        self.drop_path = nnx.Dropout(drop_path, broadcast_dims=(1, 2, 3))

    def __call__(self, x: jax.Array, layout: WindowLayout | None = None, key: jax.Array | None = None) -> jax.Array:
        """`[B, windows, N, C]` to the same; with a random `key` the block drops, without one it does not."""
        y = gelu(self.expand(self.norm(x)))
        y = self.project(self.gate(y, layout))
        if key is not None:
            dropout_key, path_key = jax.random.split(key)
            y = self.dropout(y, rngs=dropout_key)
            y = self.drop_path(y, rngs=path_key)
        return x + y
