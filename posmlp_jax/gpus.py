"""What is written for GPUs in a way of its own, as their compiler joins operations otherwise than that of CPUs.

A program for several platforms has all of their ways in it, and values are the same.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, UInt8


def on_gpus(ours: Callable, default: Callable, *arguments: ArrayLike) -> Array:
    """`ours(*arguments)` in a program for GPUs, and `default(*arguments)` in others."""
    return jax.lax.platform_dependent(*arguments, cuda=ours, rocm=ours, default=default)


@jax.custom_jvp
def own_gradient(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x, whose gradient on GPUs is an array of x's own type, where their compiler would write float32 for bfloat16.

    A barrier for x itself would keep it from being made by the kernel that goes on with it.
    """
    return x


@own_gradient.defjvp
def _own_gradient_jvp(primals, tangents):
    return primals[0], on_gpus(jax.lax.optimization_barrier, lambda tangent: tangent, tangents[0])


def together(x: Float[Array, "first *rest"]) -> Float[Array, "first *rest"]:
    """Gives x, for which and for whose gradient GPUs then have one kernel with others of its shape, where they can.

    Each block of a model makes small arrays of its parameters, by kernels that take longer to start than to run. GPUs'
    compiler makes one of those that read the same array; so here x is multiplied by ones that lie in memory.
    """

    def times_ones(x):
        ones = jax.lax.optimization_barrier(jnp.ones(len(x), x.dtype))
        return x * jnp.expand_dims(ones, range(1, x.ndim))

    return on_gpus(times_ones, lambda x: x, x)


def by_token(
    bias: Float[Array, "#channels #tokens"], channels: int, tokens: int, parts: int = 1
) -> list[Float[Array, "{channels}//{parts} {tokens}"]]:
    """A bias of channels or of tokens as one of both, in equal parts of the channels.

    On GPUs so that its gradient is summed up over examples before it is over tokens or channels: sums of one kind
    are made by the kernel that writes what they are of, sums of two kinds read it again.
    """
    broadcast = jnp.split(together(jnp.broadcast_to(bias, (channels, tokens))), parts)
    return [on_gpus(jax.lax.optimization_barrier, lambda bias: bias, part) for part in broadcast]


def hold(bits: Bool[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """Bools that are computed once, and not again wherever in a step they are needed.

    On GPUs they lie in memory as bits, eight of the last axis in a byte, of which training reads an eighth.
    """
    barrier = jax.lax.optimization_barrier
    if not bits.shape or bits.shape[-1] % 8:
        return barrier(bits)
    return on_gpus(lambda bits: unpack_bits(barrier(pack_bits(bits))), barrier, bits)


def pack_bits(bits: Bool[Array, "*batch count"]) -> UInt8[Array, "*batch count//8"]:
    """Eight bools in each byte, the first one in the lowest bit."""
    eights = bits.reshape(*bits.shape[:-1], -1, 8).astype(jnp.uint8)
    return jnp.sum(eights << jnp.arange(8, dtype=jnp.uint8), axis=-1, dtype=jnp.uint8)


def unpack_bits(packed: UInt8[Array, "*batch count"]) -> Bool[Array, "*batch count*8"]:
    """What `pack_bits` has packed."""
    bits = packed[..., None] >> jnp.arange(8, dtype=jnp.uint8) & 1
    return bits.reshape(*packed.shape[:-1], -1).astype(bool)
