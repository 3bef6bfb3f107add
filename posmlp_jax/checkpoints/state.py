"""What a training run changes from step to step, as one tree of plain arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from posmlp_jax.errors import ConfigError
from posmlp_jax.models import registry
from posmlp_jax.models.backbone import Backbone, BackboneConfig

Arrays = Any  # A tree of nested dicts (and optax's tuples) of arrays.


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Weights:
    """What a model computes with: learned parameters and BatchNorm's running statistics, as nested dicts of arrays."""

    params: Arrays
    batch_stats: Arrays


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything a step reads and writes.

    Attributes:
      step: int32, how many steps were taken.
      weights: the model's.
      optimizer: optax's state.
      ema: moving average of `weights`, or None.
    """

    step: jax.Array
    weights: Weights
    optimizer: Arrays
    ema: Weights | None


# From weights to the module that computes with them: `nnx.merge` for one architecture.
Bind = Callable[[Weights], Backbone]


def split_model(model: Backbone) -> tuple[Bind, Weights]:
    """A module as a pure function of plain arrays, which is what `jax.jit` dispatches fastest.

    Raises:
      ConfigError: for a folded model, whose matrices are no parameters.
    """
    if model.folded:
        raise ConfigError("a folded model is for inference; take the one that fold() was called on")
    graph, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)

    def bind(weights: Weights) -> Backbone:
        return nnx.merge(graph, weights.params, weights.batch_stats)

    return bind, Weights(nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats))


def module_weights(model: Backbone) -> Weights:
    """The arrays of a module, for instance after a training step has updated its batch statistics."""
    return split_model(model)[1]


def as_dict(weights: Weights) -> dict[str, Arrays]:
    """Weights as a nested dict, which a checkpoint can be read from without our classes."""
    return {"params": weights.params, "batch_stats": weights.batch_stats}


def parameter_name(path) -> str:
    """A leaf's path in a tree of weights as `stages.0.blocks.1.expand.kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def abstract_weights(config: BackboneConfig) -> Weights:
    """The shapes and types of an architecture's weights, as `jax.ShapeDtypeStruct`."""
    return module_weights(registry.abstract_model(config))


def bind_model(config: BackboneConfig) -> Bind:
    """`split_model`'s function for an architecture, without making any parameters."""
    return split_model(registry.abstract_model(config))[0]


def empty_model(config: BackboneConfig) -> Backbone:
    """A model whose parameters are all 0, to be filled from a file: nothing random is drawn or compiled for it."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract_weights(config))
    return bind_model(config)(zeros)


def create_weights(config: BackboneConfig, seed: int) -> Weights:
    """Random weights for an architecture: those of `registry.build(config, nnx.Rngs(seed))`."""
    return module_weights(registry.build(config, registry.Keys(seed)))


def create_state(
    config: BackboneConfig, optimizer: optax.GradientTransformation, seed: int, *, ema: bool
) -> TrainState:
    """A fresh state: a pure function, to be jitted with the sharding its result should have."""
    return initial_state(create_weights(config, seed), optimizer, ema=ema)


def initial_state(weights: Weights, optimizer: optax.GradientTransformation, *, ema: bool) -> TrainState:
    """The state of a run that starts from these weights: a pure function, to be jitted like `create_state`."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        weights=weights,
        optimizer=optimizer.init(weights.params),
        ema=jax.tree.map(jnp.copy, weights) if ema else None,
    )
