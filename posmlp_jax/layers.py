"""What surrounds the gating units: normalisation, stems, mergings and the residual block."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.gating import NORM_EPSILON
from posmlp_jax.windows import WindowLayout

DOWNSAMPLINGS = ("conv", "linear")
NORMS = ("batch", "layer")

# torch truncates its normal at ±2, a hundred of these standard deviations, which is to say never.
kernel_init = nnx.initializers.normal(0.02)


def normalization(
    kind: str, channels: int, dtype, rngs: nnx.Rngs, *, epsilon: float = NORM_EPSILON
) -> nnx.BatchNorm | nnx.LayerNorm:
    """'batch' or 'layer' normalisation over the last axis, statistics in float32.

    Batch statistics are those of the whole array: under `jax.jit` with a sharded batch, of the global batch.
    """
    if kind == "batch":
        # Without a dtype, which would round the running statistics too.
        return nnx.BatchNorm(channels, momentum=0.9, epsilon=epsilon, rngs=rngs)
    if kind == "layer":
        return nnx.LayerNorm(channels, epsilon=epsilon, dtype=dtype, rngs=rngs)
    raise ConfigError(f"unknown norm '{kind}'; {nearest(kind, NORMS)}")


def normalize(norm: nnx.BatchNorm | nnx.LayerNorm, x: Float[Array, "*shape"], train: bool) -> Float[Array, "*shape"]:
    """Applies either kind, in x's type.

    `train` takes the batch's statistics, and updates the running ones by them, unless the norm's own
    `use_running_average` is set, as it is for frozen layers.
    """
    if isinstance(norm, nnx.BatchNorm):
        return norm(x, use_running_average=norm.use_running_average or not train).astype(x.dtype)
    return norm(x)


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The exact GELU, x·Φ(x), in x's type.

    `jax.nn.gelu(approximate=False)` takes erfc where this takes erf: twice the time on CPU, for digits that only matter
    relative to results below 1e-7. In bfloat16 those digits are larger, so the arithmetic is float32.
    """
    x32 = x.astype(jnp.float32)
    return (0.5 * x32 * (1 + jax.lax.erf(x32 * math.sqrt(0.5)))).astype(x.dtype)


def linear(channels: int, out_channels: int, dtype, rngs: nnx.Rngs, *, bias: bool = True) -> nnx.Linear:
    """A fully connected layer over channels with the papers' initial values."""
    return nnx.Linear(channels, out_channels, use_bias=bias, kernel_init=kernel_init, dtype=dtype, rngs=rngs)


def channels_first(
    layer: nnx.Linear, x: Float[Array, "*batch tokens channels"], parts: int
) -> list[Float[Array, "_outputs *batch tokens"]]:
    """What a linear layer gives, in equal parts of its outputs, with channels in front.

    A product for each part: to cut the result of one would copy it on a TPU.
    """
    kernels = jnp.split(_outputs_first(layer, x.dtype), parts)
    biases = jnp.split(layer.bias[...].astype(x.dtype), parts)
    return [
        jnp.tensordot(kernel, x, axes=(1, -1)) + bias.reshape(-1, *[1] * (x.ndim - 1))
        for kernel, bias in zip(kernels, biases, strict=True)
    ]


def channels_last(
    layer: nnx.Linear, parts: Sequence[Float[Array, "channels *batch tokens"]]
) -> Float[Array, "*batch tokens outputs"]:
    """A linear layer of channels that come in parts and in front, with tokens in front of channels again."""
    kernels = jnp.split(_outputs_first(layer, parts[0].dtype), len(parts), axis=1)
    products = (jnp.tensordot(kernel, part, axes=(1, 0)) for part, kernel in zip(parts, kernels, strict=True))
    return jnp.moveaxis(sum(products), 0, -1) + layer.bias[...].astype(parts[0].dtype)


def _outputs_first(layer: nnx.Linear, dtype) -> Float[Array, "outputs inputs"]:
    # A copy of its own: XLA would have the products do it, for which CPUs have slower ones.
    return jax.lax.optimization_barrier(layer.kernel[...].T.astype(dtype))


class ConvStem(nnx.Module):
    """ConvPE (Figure 2 b): two 3×3 convolutions of stride 2 and a 1×1, each normalised, GELU between; 4× smaller.

    PosMLP-Video's (its Figure 4) has no 1×1 convolution. Frames are convolved one by one, unless time is halved.

    Args:
      channels: of the result.
      norm: 'batch' or 'layer'.
      pointwise: whether the 1×1 convolution is there.
      halve_time: whether the first convolution is 3×3×3 and of stride 2 in time too.
      epsilon: of the norms.
    """

    def __init__(
        self,
        channels: int,
        norm: str,
        dtype,
        rngs: nnx.Rngs,
        *,
        pointwise: bool = True,
        halve_time: bool = False,
        epsilon: float = NORM_EPSILON,
    ):
        first = (3,) * (3 if halve_time else 2)
        sizes = [(3, channels // 2, first), (channels // 2, channels, (3, 3))]
        if pointwise:
            sizes.append((channels, channels, (1, 1)))
        self.convs = nnx.List([conv(*size, dtype, rngs) for size in sizes])
        self.norms = nnx.List([normalization(norm, outputs, dtype, rngs, epsilon=epsilon) for _, outputs, _ in sizes])

    def __call__(
        self, images: Float[ArrayLike, "batch *_time height width 3"], *, train: bool = False
    ) -> Float[Array, "batch *_time (height+3)//4 (width+3)//4 channels"]:
        """The map of images, or that of clips with T or, if time is halved, ⌈T/2⌉ steps."""
        x = normalize(self.norms[0], self.convs[0](images), train)
        for layer, norm in zip(self.convs[1:], self.norms[1:], strict=True):
            x = normalize(norm, layer(gelu(x)), train)
        return x


def conv(inputs: int, outputs: int, kernel: tuple[int, ...], dtype, rngs: nnx.Rngs) -> nnx.Conv:
    """A convolution over as many axes as `kernel` has: of stride 2 with sides of 3, point-wise with sides of 1.

    Axes before those (the frames of a clip, for a kernel of two) are taken one by one.
    """
    return nnx.Conv(
        inputs,
        outputs,
        kernel,
        strides=tuple(side // 2 + 1 for side in kernel),
        padding=tuple((side // 2, side // 2) for side in kernel),  # Hashable, as a static argument has to be.
        kernel_init=kernel_init,
        dtype=dtype,
        rngs=rngs,
    )


class LinearStem(nnx.Module):
    """Non-overlapping patches through one linear layer, then an optional norm (Table 10 "Linear"; gMLP's stem)."""

    def __init__(
        self, channels: int, patch: int, norm: str | None, dtype, rngs: nnx.Rngs, *, epsilon: float = NORM_EPSILON
    ):
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
        self.norm = normalization(norm, channels, dtype, rngs, epsilon=epsilon) if norm else None

    def __call__(
        self, images: Float[ArrayLike, "*batch height width 3"], *, train: bool = False
    ) -> Float[Array, "*batch -(-height//{self.patch}) -(-width//{self.patch}) channels"]:
        """The map of images, or of each frame of clips; the last patches are padded with zeros."""
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

    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch (height+1)//2 (width+1)//2 2*channels"]:
        """The map at half the resolution, with twice the channels."""
        x = depthwise_conv(x, self.kernel[...].astype(x.dtype)) + self.bias[...].astype(x.dtype)
        return normalize(self.norm, x, train)


@jax.jit  # Named in the traced function, so that its multiply-accumulates can be counted.
def depthwise_conv(
    x: Float[Array, "batch height width channels"], kernel: Float[Array, "3 3 1 outputs"]
) -> Float[Array, "batch (height+1)//2 (width+1)//2 outputs"]:
    """A 3×3 depth-wise convolution of stride 2 and padding 1, with a multiple of the channels as outputs.

    What is fast depends on the platform, so that each has its own, in an exported program, too: TPUs a convolution of
    all channels, most of whose weights are zero, the others a sum of slices. XLA's gradient of a grouped convolution
    takes 28 times as long as either on a TPU, and on a CPU seconds a layer.
    """
    return jax.lax.platform_dependent(x, kernel, tpu=depthwise_by_whole_kernel, default=depthwise_by_taps)


def depthwise_by_whole_kernel(
    x: Float[Array, "batch height width channels"], kernel: Float[Array, "3 3 1 outputs"]
) -> Float[Array, "batch (height+1)//2 (width+1)//2 outputs"]:
    """`depthwise_conv` as a convolution of all channels, with zeros between those that do not belong together."""
    channels = x.shape[-1]
    own = np.repeat(np.eye(channels, dtype=bool), kernel.shape[-1] // channels, axis=1)
    return jax.lax.conv_general_dilated(
        x,
        jnp.where(own, kernel, 0),
        window_strides=(2, 2),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def depthwise_by_taps(
    x: Float[Array, "batch height width channels"], kernel: Float[Array, "3 3 1 outputs"]
) -> Float[Array, "batch (height+1)//2 (width+1)//2 outputs"]:
    """`depthwise_conv` as nine strided slices times weights."""
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


class FullConvMerging(nnx.Module):
    """PosMLP-Video's merging: a 3×3 convolution of stride 2 over all channels, frame by frame, then LayerNorm."""

    def __init__(self, channels: int, out_channels: int, dtype, rngs: nnx.Rngs, *, epsilon: float = NORM_EPSILON):
        self.conv = conv(channels, out_channels, (3, 3), dtype, rngs)
        self.norm = normalization("layer", out_channels, dtype, rngs, epsilon=epsilon)

    def __call__(
        self, x: Float[Array, "*batch height width channels"], *, train: bool = False
    ) -> Float[Array, "*batch (height+1)//2 (width+1)//2 out_channels"]:
        """The map at half the resolution."""
        return normalize(self.norm, self.conv(x), train)


class LinearMerging(nnx.Module):
    """Swin's patch merging (Table 10 "Linear"): 2×2 neighbours concatenated, a norm, Linear 4C → 2C without bias."""

    def __init__(self, channels: int, norm: str, dtype, rngs: nnx.Rngs):
        self.norm = normalization(norm, 4 * channels, dtype, rngs)
        self.linear = linear(4 * channels, 2 * channels, dtype, rngs, bias=False)

    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch (height+1)//2 (width+1)//2 2*channels"]:
        """The map at half the resolution, with twice the channels; odd maps are padded with zeros."""
        x = _pad_to_multiple(x, 2)
        neighbours = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
        return self.linear(normalize(self.norm, jnp.concatenate(neighbours, axis=-1), train))


def _pad_to_multiple(
    x: Float[ArrayLike, "*batch height width channels"], multiple: int
) -> Float[Array, "*batch -(-height//{multiple})*{multiple} -(-width//{multiple})*{multiple} channels"]:
    height, width = x.shape[-3:-1]
    outer = [(0, 0)] * (x.ndim - 3)
    return jnp.pad(x, (*outer, (0, -height % multiple), (0, -width % multiple), (0, 0)))


class Dropout(nnx.Dropout):
    """`nnx.Dropout` that draws once: XLA would draw again wherever in a step it needs to know what was dropped."""

    def __call__(self, x: Float[Array, "*shape"], *, rngs: Key[Array, ""]) -> Float[Array, "*shape"]:
        """Some values of x become 0 and the others larger, so that their mean stays; `rngs` is a key."""
        if self.deterministic or not self.rate:
            return x
        shape = [1 if axis in self.broadcast_dims else size for axis, size in enumerate(x.shape)]
        kept = jax.lax.optimization_barrier(jax.random.bernoulli(rngs, 1 - self.rate, shape))
        return jnp.where(kept, x / (1 - self.rate), 0)


class GatedBranch(nnx.Module):
    """What a block adds to its input: Dropout(Linear(gate(GELU(Linear(Norm(x))))))."""

    def __init__(
        self,
        channels: int,
        expansion: int,
        make_gate,
        *,
        dropout: float = 0.0,
        epsilon: float = NORM_EPSILON,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Args: `make_gate(channels)` builds the gate for the expanded channels; `dropout` is a probability."""
        self.norm = nnx.LayerNorm(channels, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.expand = linear(channels, expansion * channels, dtype, rngs)
        self.gate = make_gate(expansion * channels)
        self.project = linear(self.gate.out_channels, channels, dtype, rngs)
        self.dropout = Dropout(dropout)

    def __call__(
        self,
        x: Float[Array, "batch windows tokens channels"],
        layout: WindowLayout | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "batch windows tokens channels"]:
        """What to add to x; with a random `key` the branch drops, without one it does not."""
        parts = [gelu(part) for part in channels_first(self.expand, self.norm(x), self.gate.parts)]
        y = channels_last(self.project, self.gate(parts, layout))
        return y if key is None else self.dropout(y, rngs=key)


class GatedBlock(GatedBranch):
    """The block of gMLP and PosMLP (Figure 1 a): x + DropPath(branch(x))."""

    def __init__(self, channels: int, expansion: int, make_gate, *, drop_path: float = 0.0, **options):
        """Args: as `GatedBranch`; `drop_path` is a probability."""
        super().__init__(channels, expansion, make_gate, **options)
        self.drop_path = stochastic_depth(drop_path)

    def __call__(
        self,
        x: Float[Array, "batch windows tokens channels"],
        layout: WindowLayout | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "batch windows tokens channels"]:
        """The block's output; with a random `key` the block drops, without one it does not."""
        if key is None:
            return x + super().__call__(x, layout)
        dropout_key, path_key = jax.random.split(key)
        return x + self.drop_path(super().__call__(x, layout, dropout_key), rngs=path_key)


def stochastic_depth(rate: float) -> Dropout:
    """Drop path: one draw an example for a whole `[B, windows, N, C]`, scaled by 1/keep."""
    return Dropout(rate, broadcast_dims=(1, 2, 3))
