"""Training and evaluation."""

from posmlp_jax.checkpoints import from_pretrained, open_pretrained
from posmlp_jax.training.config import default_config
from posmlp_jax.training.evaluation import evaluate
from posmlp_jax.training.loop import train

__all__ = ["default_config", "evaluate", "from_pretrained", "open_pretrained", "train"]
