"""Training and evaluation."""

from posmlp_jax.training.checkpoints import load_model
from posmlp_jax.training.config import default_config
from posmlp_jax.training.evaluation import evaluate
from posmlp_jax.training.loop import train

__all__ = ["default_config", "evaluate", "load_model", "train"]
