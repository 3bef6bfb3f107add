"""Data: `open_source` finds the images or videos, `train_batches` and `eval_batches` make batches of them."""

from posmlp_jax.data.check import check_config, check_source
from posmlp_jax.data.loading import Batches
from posmlp_jax.data.pipeline import eval_batches, train_batches
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.data.sources.opening import open_source
from posmlp_jax.data.sources.source import Source
from posmlp_jax.data.stream import training_sizes
from posmlp_jax.data.targets import Labels, Targets

__all__ = [
    "Batches",
    "LabelledSource",
    "Labels",
    "Source",
    "Targets",
    "check_config",
    "check_source",
    "eval_batches",
    "open_source",
    "train_batches",
    "training_sizes",
]
