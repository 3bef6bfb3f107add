"""The moving average of a run's weights: how much of it each step leaves."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import optax

from posmlp_jax.errors import ConfigError

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def has_average(config: "ConfigDict") -> bool:
    """Whether a run has a moving average of its weights."""
    return bool(config.ema_decay or config.ema_length)


def decay_of(config: "ConfigDict", steps: Callable[[str], int]) -> float:
    """What a step leaves of the average, by `ema_decay` or `ema_length`: after n steps of exp(−1/n), 1/e is left.

    Args:
      config: the whole config.
      steps: the steps in a length of time.

    Raises:
      ConfigError: if the length is less than a step.
    """
    if not config.ema_length:
        return config.ema_decay
    length = steps(config.ema_length)
    if length < 1:
        raise ConfigError(f"ema_length '{config.ema_length}' is less than one step")
    return math.exp(-1 / length)


def update_average(average, new, step: jax.Array, decay: float, *, warmup: bool):
    """The average, a tree of arrays, after step `step`, counted from 0, whose weights are `new`.

    With warm-up the step leaves min(decay, (1 + step) / (10 + step)) of it, which the step alone decides.
    """
    taken = jnp.maximum(1 - decay, 9 / (10 + step.astype(jnp.float32))) if warmup else 1 - decay
    return optax.incremental_update(new, average, taken)
