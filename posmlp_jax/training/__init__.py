"""Training and evaluation."""

from posmlp_jax.lazy import lazily

__all__ = ["default_config", "evaluate", "from_pretrained", "leave_one_out", "open_pretrained", "train"]

__getattr__ = lazily(
    __name__,
    {
        "default_config": "config",
        "evaluate": "evaluation",
        "leave_one_out": "folds",
        "train": "loop",
        "from_pretrained": ".checkpoints",
        "open_pretrained": ".checkpoints",
    },
)
