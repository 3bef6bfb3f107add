"""PosMLP and PosMLP-Video in JAX: vision models whose token mixing is generated from relative positions."""

from posmlp_jax.lazy import lazily

__version__ = "0.1.0"

__all__ = [
    "create_detector",
    "create_model",
    "from_pretrained",
    "list_detectors",
    "list_models",
    "list_pretrained",
]

__getattr__ = lazily(
    __name__,
    {
        "create_detector": "models",
        "create_model": "models",
        "list_detectors": "models",
        "list_models": "models",
        "from_pretrained": "checkpoints",
        "list_pretrained": "checkpoints",
    },
)
