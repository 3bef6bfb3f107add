"""The classification loss and accuracy, on integer labels or soft targets."""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int


def soft_targets(
    labels: Int[ArrayLike, "batch"] | Float[ArrayLike, "batch {num_classes}"], num_classes: int, smoothing: float = 0.0
) -> Float[Array, "batch {num_classes}"]:
    """Targets that sum to 1.

    Args:
      labels: classes, or already soft targets (mixup, cutmix, distillation).
      num_classes: K.
      smoothing: ε of label smoothing: (1 − ε) of the target plus ε/K on every class (Szegedy et al. 2016).
    """
    targets = jax.nn.one_hot(labels, num_classes) if labels.ndim == 1 else jnp.asarray(labels, jnp.float32)
    return optax.smooth_labels(targets, smoothing)


def cross_entropy(
    logits: Float[ArrayLike, "batch classes"], targets: Float[ArrayLike, "batch classes"]
) -> Float[Array, "batch"]:
    """−Σ target · log softmax(logits), in nats; the logits are taken as float32."""
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)


def correct_top(
    logits: Float[ArrayLike, "batch classes"],
    labels: Int[ArrayLike, "batch"] | Float[ArrayLike, "batch classes"],
    k: int,
) -> Bool[Array, "batch"]:
    """Whether a label, or the likeliest class of a soft target, is among the `k` highest logits.

    Of classes with equal logits the one with the lower index counts as higher, as `argmax` has it. Nothing is correct
    where a logit is not a number.
    """
    labels = labels if labels.ndim == 1 else jnp.argmax(labels, axis=-1)
    chosen = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    before = jnp.arange(logits.shape[-1]) < labels[:, None]
    rank = jnp.sum((logits > chosen) | ((logits == chosen) & before), axis=-1)
    return (rank < k) & ~jnp.isnan(logits).any(axis=-1)
