"""Data: `open_source` finds the images, `train_batches` and `eval_batches` make batches of them."""

from posmlp_jax.data.pipeline import Batches, check_config, eval_batches, train_batches
from posmlp_jax.data.source import Source
from posmlp_jax.data.sources import open_source

__all__ = ["Batches", "Source", "check_config", "eval_batches", "open_source", "train_batches"]
