"""Data: `open_source` finds the images or videos, `train_batches` and `eval_batches` make batches of them."""

from posmlp_jax.data.loading import Batches
from posmlp_jax.data.pipeline import check_config, check_source, eval_batches, train_batches
from posmlp_jax.data.sources.opening import open_source
from posmlp_jax.data.sources.source import Source

__all__ = ["Batches", "Source", "check_config", "check_source", "eval_batches", "open_source", "train_batches"]
