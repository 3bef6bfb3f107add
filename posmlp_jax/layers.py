"""What surrounds the gating units: GELU, linear layers and dropout."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from posmlp_jax.gating import add_bias
from posmlp_jax.gpus import by_token, hold, on_gpus, together

# torch truncates its normal at ±2, a hundred of these standard deviations, which is to say never.
kernel_init = nnx.initializers.normal(0.02)


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
    biases = by_token(layer.bias[...].astype(x.dtype)[:, None], layer.out_features, x.shape[-2], parts)
    return [
        add_bias(_product(kernel, x, -1, number > 0), bias)
        for number, (kernel, bias) in enumerate(zip(kernels, biases, strict=True))
    ]


def channels_last(
    layer: nnx.Linear, parts: Sequence[Float[Array, "channels *batch tokens"]]
) -> Float[Array, "*batch tokens outputs"]:
    """A linear layer of channels that come in parts and in front, with tokens in front of channels again."""
    kernels = jnp.split(_outputs_first(layer, parts[0].dtype), len(parts), axis=1)
    products = (_product(kernel, part, 0, False) for part, kernel in zip(parts, kernels, strict=True))
    return jnp.moveaxis(sum(products), 0, -1) + layer.bias[...].astype(parts[0].dtype)


def _outputs_first(layer: nnx.Linear, dtype) -> Float[Array, "outputs inputs"]:
    # A copy of its own: XLA would have the products do it, for which CPUs have slower ones.
    return on_gpus(lambda kernel: kernel, jax.lax.optimization_barrier, layer.kernel[...].T.astype(dtype))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _product(kernel: Float[Array, "outputs inputs"], x: Float[Array, "*shape"], axis: int, apart: bool):
    """The product of a kernel and an axis of x, with the outputs in front.

    On GPUs all blocks' kernels are rounded together, and products that are to be `apart` are not made one with others
    of x, of which a reader of one part would go past the rest. Kernels' gradients are left to the compiler: a layer's
    are better one product, and no block's should wait for another's on their way to other devices.
    """
    if apart:
        x = on_gpus(jax.lax.optimization_barrier, lambda x: x, x)
    return jnp.tensordot(together(kernel), x, axes=(1, axis))


@_product.defjvp
def _product_jvp(axis: int, apart: bool, primals, tangents):
    (kernel, x), (kernel_tangent, x_tangent) = primals, tangents
    by_kernel = jnp.tensordot(kernel_tangent, x, axes=(1, axis))
    by_x = jnp.tensordot(together(kernel), x_tangent, axes=(1, axis))
    return _product(kernel, x, axis, apart), by_kernel + by_x


class Dropout(nnx.Dropout):
    """`nnx.Dropout` that draws once: XLA would draw again wherever in a step it needs to know what was dropped."""

    def __call__(self, x: Float[Array, "*shape"], *, rngs: Key[Array, ""]) -> Float[Array, "*shape"]:
        """Some values of x become 0 and the others larger, so that their mean stays; `rngs` is a key."""
        if self.deterministic or not self.rate:
            return x
        shape = [1 if axis in self.broadcast_dims else size for axis, size in enumerate(x.shape)]
        keep = together(jnp.full(shape[:1], 1 - self.rate)).reshape(-1, *[1] * (len(shape) - 1))
        kept = hold(jax.random.bernoulli(rngs, keep, shape))
        return jnp.where(kept, x / (1 - self.rate), 0)


def stochastic_depth(rate: float) -> Dropout:
    """Drop path: one draw an example for a whole `[B, windows, N, C]`, scaled by 1/keep."""
    return Dropout(rate, broadcast_dims=(1, 2, 3))
