"""Trained weights on disk: saved, restored, chosen, and carried over to other models."""

from posmlp_jax.checkpoints.pretrained import Pretrained, open_pretrained
from posmlp_jax.checkpoints.transfer import from_pretrained

__all__ = ["Pretrained", "from_pretrained", "open_pretrained"]
