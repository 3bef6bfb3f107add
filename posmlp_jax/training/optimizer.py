"""AdamW as the papers' recipe has it."""

import jax
import optax
from ml_collections import ConfigDict

from posmlp_jax.training.finetuning import frozen_mask, layer_scales


def decay_mask(params):
    """True for the parameters that weight decay applies to: not biases, norms and others of fewer than two axes."""
    return jax.tree.map(lambda value: value.ndim > 1, params)


def create_optimizer(config: ConfigDict, schedule: optax.Schedule, freeze: str = "") -> optax.GradientTransformation:
    """Clipping by the global norm, then AdamW with decoupled weight decay, slower in lower layers.

    Args:
      config: the `optimizer` section.
      schedule: the learning rate of each step.
      freeze: the parameters that stay as they are (`finetuning.frozen_mask`); they have no optimizer state.
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
    return optax.chain(*parts) if len(parts) > 1 else parts[0]


def _scale_by_layer(decay: float) -> optax.GradientTransformation:
    def update(updates, state, params=None):
        return jax.tree.map(lambda scale, x: scale * x, layer_scales(updates, decay), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
