"""What a detector's heads are trained with, a value for each anchor or region: how to sum and divide is the model's.

All are float32, whatever the predictions are, and 0 with a gradient of 0 where nothing shall be learned.
"""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Int

from posmlp_jax.detection.matching import IGNORED


def focal_loss(
    logits: Float[ArrayLike, "*anchors classes"],
    targets: Int[ArrayLike, "*anchors"],
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Float32[Array, "*anchors"]:
    """−α_t (1 − p_t)^γ log p_t, summed over the classes, each with a sigmoid of its own (Lin et al. 2017, Focal Loss).

    Args:
      logits: of the classes; background has none.
      targets: each anchor's class, or −1 for background, or −2 to ignore it: what `matching.match` gives of boxes.
      alpha: the weight of what is there; 1 − α of what is not.
      gamma: how much what is predicted well already counts less.
    """
    labels = jax.nn.one_hot(targets, logits.shape[-1])
    losses = optax.sigmoid_focal_loss(logits.astype(jnp.float32), labels, alpha=alpha, gamma=gamma)
    return jnp.where(targets == IGNORED, 0, jnp.sum(losses, axis=-1))


def box_loss(
    deltas: Float[ArrayLike, "*boxes 4"], targets: Float[ArrayLike, "*boxes 4"], beta: float = 0.0
) -> Float32[Array, "*boxes"]:
    """L1, or with a `beta` smooth-L1, summed over the deltas.

    The latter is d² / 2β of a difference d that is less than β, and d − β / 2 of a greater one.
    """
    deltas = deltas.astype(jnp.float32)
    losses = optax.huber_loss(deltas, targets, delta=beta) / beta if beta else jnp.abs(deltas - targets)
    return jnp.sum(losses, axis=-1)
