"""Which anchors, or regions, of an image a step trains on: a random choice of a fixed number, some of them matched."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int, Int32, Key

from posmlp_jax.detection.matching import BACKGROUND


def sample(
    key: Key[Array, ""], matches: Int[ArrayLike, "anchors"], number: int, positive_fraction: float
) -> tuple[Int32[Array, "{number}"], Bool[Array, "{number}"]]:
    """Random anchors: matched ones up to their share of the number, and background for the rest of it.

    As in mmdetection, background fills up what positives leave, but not the other way round. All of a kind are equally
    likely.

    Args:
      key: decides alone. Made of the seed, the step and the example it is the same after resuming and on any devices.
      matches: see `matching.match`; those that are ignored are never chosen.
      number: 256 of a region proposal network, 512 regions for the heads.
      positive_fraction: ½ of the former, ¼ of the latter.

    Returns:
      The anchors' numbers, those of matched ones first, and whether there is one. An image that has too few leaves the
      last places empty, with number 0.
    """
    matches = jnp.asarray(matches)
    draws = jax.random.uniform(key, matches.shape)

    def choose(among, most):
        value, chosen = jax.lax.top_k(jnp.where(among, draws, -1), min(most, len(matches)))
        return chosen, value >= 0

    positives, are_positive = choose(matches >= 0, int(number * positive_fraction))
    others, are_others = choose(matches == BACKGROUND, number)
    chosen, exist = jnp.concatenate([positives, others]), jnp.concatenate([are_positive, are_others])
    (places,) = jnp.nonzero(exist, size=number, fill_value=0)
    valid = jnp.arange(number) < jnp.sum(exist)
    return jnp.where(valid, chosen[places], 0), valid
