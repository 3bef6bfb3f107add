"""What surrounds the gating units: normalisation, GELU, linear layers and dropout."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.gating import NORM_EPSILON, add_bias
from posmlp_jax.gpus import hold, on_gpus

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
        add_bias(jnp.tensordot(kernel, x, axes=(1, -1)), bias[:, None])
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
    return on_gpus(lambda kernel: kernel, jax.lax.optimization_barrier, layer.kernel[...].T.astype(dtype))


class Dropout(nnx.Dropout):
    """`nnx.Dropout` that draws once: XLA would draw again wherever in a step it needs to know what was dropped."""

    def __call__(self, x: Float[Array, "*shape"], *, rngs: Key[Array, ""]) -> Float[Array, "*shape"]:
        """Some values of x become 0 and the others larger, so that their mean stays; `rngs` is a key."""
        if self.deterministic or not self.rate:
            return x
        shape = [1 if axis in self.broadcast_dims else size for axis, size in enumerate(x.shape)]
        kept = hold(jax.random.bernoulli(rngs, 1 - self.rate, shape))
        return jnp.where(kept, x / (1 - self.rate), 0)


def stochastic_depth(rate: float) -> Dropout:
    """Drop path: one draw an example for a whole `[B, windows, N, C]`, scaled by 1/keep."""
    return Dropout(rate, broadcast_dims=(1, 2, 3))
