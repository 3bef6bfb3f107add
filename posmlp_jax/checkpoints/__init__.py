"""Trained weights on disk: saved, restored, chosen, and carried over to other models."""

from posmlp_jax.lazy import lazily

__all__ = ["Pretrained", "from_pretrained", "list_pretrained", "open_pretrained"]

__getattr__ = lazily(
    __name__,
    {
        "Pretrained": "pretrained",
        "open_pretrained": "pretrained",
        "from_pretrained": "transfer",
        "list_pretrained": "zoo",
    },
)
