"""Training and evaluation."""

from posmlp_jax.training.config import default_config
from posmlp_jax.training.evaluation import evaluate
from posmlp_jax.training.loop import train
from posmlp_jax.training.pretrained import open_pretrained
from posmlp_jax.training.transfer import from_pretrained

__all__ = ["default_config", "evaluate", "from_pretrained", "open_pretrained", "train"]
