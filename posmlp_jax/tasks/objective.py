"""What a step of training and one of evaluation compute on the devices: all that they know of a task."""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key, UInt8

from posmlp_jax.models.backbone import Backbone

# A batch's arrays by name: uint8 `image` [B, *input_size, 3], what `Task.targets` adds, and in an evaluation `weight`,
# 0 where a batch is filled up, and `index`, the example's in its source.
Batch = dict[str, jax.Array]
Scalars = dict[str, Float[Array, ""]]
# Arrays with a row for each example of a batch.
Rows = dict[str, jax.Array]


@runtime_checkable
class Objective(Protocol):
    """A `Task`, or what has these three methods of one, which say what each is for."""

    def draw(self, key: Key[Array, ""], batch: Batch) -> tuple[Batch, Any]:
        """What is random in a step and not a matter of one example or layer."""

    def loss(self, model: Backbone, batch: Batch, drawn: Any, rngs: nnx.Rngs) -> tuple[Float[Array, ""], Scalars]:
        """What a step's gradient is of, and metrics beside it."""

    def evaluate(self, model: Backbone, batch: Batch) -> tuple[Scalars, Rows]:
        """Sums over a batch, and what there is of each example."""


def normalize_images(images: UInt8[ArrayLike, "*batch 3"], mean, std) -> Float[Array, "*batch 3"]:
    """Pixels as float32 with the data's mean and standard deviation taken out."""
    return (images.astype(jnp.float32) / 255 - jnp.array(mean)) / jnp.array(std)
