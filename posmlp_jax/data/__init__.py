"""Data: `open_source` finds the images or videos, `train_batches` and `eval_batches` make batches of them.

An example goes through the rooms `sources` (where it lies), `decoding` (bytes to pixels) and `augment` (pixels to
pixels); `pipeline` leads it, `targets` says what a batch holds besides pixels, and `stream` what comes when. A data set
that has to be made first is a file in `prepare.datasets`; another kind of place, from which examples are read as they
lie, is one in `sources`.
"""

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
