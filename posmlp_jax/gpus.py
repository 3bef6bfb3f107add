"""What is written for GPUs in a way of its own, as their compiler joins operations otherwise than that of CPUs.

A program for several platforms has all of their ways in it, and values are the same.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float


def on_gpus(ours: Callable, default: Callable, *arguments: ArrayLike) -> Array:
    """`ours(*arguments)` in a program for GPUs, and `default(*arguments)` in others."""
    return jax.lax.platform_dependent(*arguments, cuda=ours, rocm=ours, default=default)


def by_token(
    bias: Float[Array, "#channels #tokens"], channels: int, tokens: int
) -> Float[Array, "{channels} {tokens}"]:
    """A bias of channels or of tokens as one of both.

    On GPUs so that its gradient is summed up over examples before it is over tokens or channels: sums of one kind
    are made by the kernel that writes what they are of, sums of two kinds read it again.
    """
    broadcast = jnp.broadcast_to(bias, (channels, tokens))
    return on_gpus(jax.lax.optimization_barrier, lambda bias: bias, broadcast)
