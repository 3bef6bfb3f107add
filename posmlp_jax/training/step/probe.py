"""A linear probe's head that learns as if the features had mean 0 and deviation 1.

A trunk that was trained on other images may give features whose means are many times what tells these images apart.
A batch's gradient is then mostly noise along the means, and in the few steps that a few hundred images give the head
finds no more than the largest class. The same head over standardised features, (x − μ) / σ, has the weights W′ = σ W
and b′ = b + μᵀW; steps are taken in these, and the model stays as it is.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from posmlp_jax.checkpoints.state import Arrays, TrainState

# A feature that hardly varies beside others is not blown up to their size.
_LEAST_DEVIATION = 1e-3


class StandardizedState(NamedTuple):
    """Optimizer state: μ and σ of the pooled features, float32 `[C]`, and the state of the optimizer inside."""

    mean: jax.Array
    deviation: jax.Array
    inner: Any


def standardized_head(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner` with the head's parameters, gradients and updates in terms of standardised features.

    They are not until `with_statistics` has given the state μ and σ.
    """

    def init(params: Arrays) -> StandardizedState:
        width = params["head"]["kernel"].shape[0]
        return StandardizedState(jnp.zeros(width), jnp.ones(width), inner.init(params))

    def update(gradients: Arrays, state: StandardizedState, params: Arrays) -> tuple[Arrays, StandardizedState]:
        mean, deviation = state.mean[:, None], state.deviation[:, None]
        kernel, bias = gradients["head"]["kernel"], gradients["head"]["bias"]
        gradients = _with_head(gradients, (kernel - mean * bias) / deviation, bias)
        kernel, bias = params["head"]["kernel"], params["head"]["bias"]
        params = _with_head(params, deviation * kernel, bias + state.mean @ kernel)
        updates, inner_state = inner.update(gradients, state.inner, params)
        kernel = updates["head"]["kernel"] / deviation
        updates = _with_head(updates, kernel, updates["head"]["bias"] - state.mean @ kernel)
        return updates, StandardizedState(state.mean, state.deviation, inner_state)

    return optax.GradientTransformation(init, update)


def _with_head(tree: Arrays, kernel: jax.Array, bias: jax.Array) -> Arrays:
    return {**tree, "head": {"kernel": kernel, "bias": bias}}


def with_statistics(state: TrainState, batches: Iterable[np.ndarray]) -> TrainState:
    """A state of `standardized_head`'s with μ and σ of pooled features, which come as `[B, C]` arrays."""
    features = np.concatenate([np.asarray(batch, np.float64) for batch in batches])
    deviation = features.std(axis=0)
    least = _LEAST_DEVIATION * deviation.max() or 1.0
    statistics = features.mean(axis=0), np.maximum(deviation, least)
    optimizer = state.optimizer
    mean, deviation = (
        jax.make_array_from_callback(leaf.shape, leaf.sharding, values.astype(np.float32).__getitem__)
        for leaf, values in zip((optimizer.mean, optimizer.deviation), statistics, strict=True)
    )
    optimizer = StandardizedState(mean, deviation, optimizer.inner)
    return TrainState(state.step, state.weights, optimizer, state.ema)
