"""From pixels to what a model sees."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, UInt8


def normalize_images(images: UInt8[ArrayLike, "*batch 3"], mean, std) -> Float[Array, "*batch 3"]:
    """Pixels as float32 with the data's mean and standard deviation taken out."""
    return (images.astype(jnp.float32) / 255 - jnp.array(mean)) / jnp.array(std)
