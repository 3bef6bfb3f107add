"""PosMLP and PosMLP-Video in JAX: vision models whose token mixing is generated from relative positions."""

from posmlp_jax.models import create_model, list_models
from posmlp_jax.training.transfer import from_pretrained

__version__ = "0.1.0"

__all__ = ["create_model", "from_pretrained", "list_models"]
