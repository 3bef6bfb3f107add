"""Where maps get smaller: stems, and the mergings between stages."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from posmlp_jax.gpus import own_gradient
from posmlp_jax.layers import gelu, kernel_init, linear
from posmlp_jax.normalization import NORM_EPSILON, normalization, normalize

DOWNSAMPLINGS = ("conv", "linear")


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
        return own_gradient(normalize(self.norm, x, train))


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
