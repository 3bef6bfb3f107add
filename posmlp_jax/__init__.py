"""PosMLP and PosMLP-Video in JAX: vision models whose token mixing is generated from relative positions."""

from posmlp_jax.models import create_model, list_models

__version__ = "0.1.0"

__all__ = ["create_model", "from_pretrained", "list_models"]


def __getattr__(name: str):
    # Only when it is asked for: Orbax, which reads checkpoints, takes a third of a second to import, and processes that
    # load data can do without.
    if name == "from_pretrained":
        from posmlp_jax.checkpoints import from_pretrained

        return from_pretrained
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
