"""AdamW as the papers' recipe has it."""

from typing import TYPE_CHECKING

import jax
import optax

from posmlp_jax.checkpoints.state import Arrays, parameter_name
from posmlp_jax.training.step.freezing import frozen_mask, layer_scales
from posmlp_jax.training.step.probe import standardized_head

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def decay_mask(params: Arrays) -> Arrays:
    """True for the parameters that weight decay applies to in the published code: those of two or more axes there.

    Which are those of two or more here (kernels, matrices and tables, Γ and Δ, absolute positions) and, with its shape
    (1, N, 1) there, the token bias of every gate but SGU's, whose b is a linear layer's.
    """
    # What is frozen still says what kind of gate it is in.
    paths = jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda leaf: isinstance(leaf, optax.MaskedNode))
    names = [parameter_name(path) for path, _ in paths]
    gates = {name.partition("relation.")[0] for name in names if "relation." in name}
    token_biases = {f"{gate}bias" for gate in gates if f"{gate}relation.weight" not in names}
    return jax.tree_util.tree_map_with_path(
        lambda path, value: value.ndim > 1 or parameter_name(path) in token_biases, params
    )


def create_optimizer(config: "ConfigDict", schedule: optax.Schedule, freeze: str = "") -> optax.GradientTransformation:
    """Clipping by the global norm, then AdamW with decoupled weight decay, slower in lower layers.

    Args:
      config: the `optimizer` section.
      schedule: the learning rate of each step.
      freeze: the parameters that stay as they are (`freezing.frozen_mask`); they have no optimizer state.
    """
    adamw = optax.adamw(
        schedule,
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        mask=decay_mask,
    )
    parts = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    parts.append(adamw)
    if freeze:

        def labels(params):
            return jax.tree.map(lambda frozen: "frozen" if frozen else "learning", frozen_mask(params, freeze))

        parts = [optax.partition({"learning": optax.chain(*parts), "frozen": optax.set_to_zero()}, labels)]
    if config.layer_decay != 1:
        parts.append(_scale_by_layer(config.layer_decay))
    optimizer = optax.chain(*parts) if len(parts) > 1 else parts[0]
    return standardized_head(optimizer) if config.standardize_head else optimizer


def _scale_by_layer(decay: float) -> optax.GradientTransformation:
    def update(updates, state, params=None):
        return jax.tree.map(lambda scale, x: scale * x, layer_scales(updates, decay), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
