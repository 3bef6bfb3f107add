"""AdamW as the papers' recipe has it."""

import jax
import optax
from ml_collections import ConfigDict


def decay_mask(params):
    """True for the parameters that weight decay applies to: not biases, norms and others of fewer than two axes."""
    return jax.tree.map(lambda value: value.ndim > 1, params)


def create_optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Clipping by the global norm, then AdamW with decoupled weight decay.

    Args:
      config: the `optimizer` section.
      schedule: the learning rate of each step.
    """
    adamw = optax.adamw(
        schedule,
        b1=config.b1,
        b2=config.b2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        mask=decay_mask,
    )
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw) if config.clip_norm else adamw
