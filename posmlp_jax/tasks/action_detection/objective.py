"""What action detection computes on the devices: the loss of boxes and, of each, the scores of all actions."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key, UInt8

from posmlp_jax.models.detectors.action_detector import ActionDetector
from posmlp_jax.tasks.detection.losses import Term, of_batch, of_images
from posmlp_jax.tasks.detection.objective import detector_input
from posmlp_jax.tasks.objective import Batch, Rows, Scalars


def action_term(
    logits: Float[ArrayLike, "batch n classes"],
    labels: UInt8[ArrayLike, "batch n classes"],
    valid: UInt8[ArrayLike, "batch n"],
) -> Term:
    """Binary cross-entropy, of each clip: sums over its boxes and all actions, to be divided by how many these are."""
    wrong = optax.sigmoid_binary_cross_entropy(logits, labels.astype(jnp.float32))
    there = jnp.asarray(valid) > 0
    counts = jnp.sum(there, axis=1) * logits.shape[-1]
    return Term(jnp.sum(jnp.where(there[..., None], wrong, 0), axis=(1, 2)), counts.astype(jnp.float32))


@dataclass(frozen=True)
class ActionObjective:
    """Binary cross-entropy of every action in every box; batches are as `targets.ActionTargets` makes them.

    Attributes:
      mean, std: the data's.
    """

    mean: Sequence[float]
    std: Sequence[float]

    def draw(self, key: Key[Array, ""], batch: Batch) -> tuple[Batch, None]:
        """Nothing."""
        del key
        return batch, None

    def loss(
        self, model: ActionDetector, batch: Batch, drawn: None, rngs: nnx.Rngs
    ) -> tuple[Float[Array, ""], Scalars]:
        """The mean over the batch's boxes and all actions, as SlowFast has it of all its GPUs' together."""
        del drawn
        logits = model(self._input(batch), batch["boxes"], train=True, rngs=rngs)
        return of_batch({"action": action_term(logits, batch["labels"], batch["valid"])})["action"], {}

    def evaluate(self, model: ActionDetector, batch: Batch) -> tuple[Scalars, Rows]:
        """The loss of each clip by itself, and the scores of all actions in all of its boxes."""
        logits = model(self._input(batch), batch["boxes"])
        loss = of_images({"action": action_term(logits, batch["labels"], batch["valid"])})
        return {"loss": jnp.sum(loss * batch["weight"])}, {"scores": jax.nn.sigmoid(logits)}

    def _input(self, batch: Batch) -> Float[Array, "batch frames height width 3"]:
        return detector_input(batch["image"], batch["size"], self.mean, self.std)
