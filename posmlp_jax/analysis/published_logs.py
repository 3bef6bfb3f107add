"""The authors' own training logs, epoch by epoch: what a run of their recipe can be laid over."""

import csv
import functools
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

import numpy as np

from posmlp_jax.errors import ConfigError, nearest


class Curve(NamedTuple):
    """What one split's line of a log has at the end of its epochs, each value an array `[epochs]`.

    Attributes:
      epochs: their numbers, from 1.
      loss: the mean over the epoch's training images, mixed and augmented, or over the 50,000 of the evaluation.
      top1: a share of these; None of training, of which the logs have none.
    """

    epochs: np.ndarray
    loss: np.ndarray
    top1: np.ndarray | None


@functools.cache
def published_logs() -> Mapping[str, Mapping[str, Curve]]:
    """By model and split: 'train', 'eval' (the weights) and 'ema' (their moving average).

    Read off logs/PosMLP-T.csv and logs/PosMLP-S.csv of Zhicaiwww/PosMLP: 300 and 310 epochs of ImageNet-1k.
    """
    with (resources.files("posmlp_jax.analysis") / "published_logs.csv").open() as file:
        rows = list(csv.DictReader(file))
    logs = {}
    for model in sorted({row["model"] for row in rows}):
        columns = {
            name: np.array([float(row[name]) for row in rows if row["model"] == model])
            for name in rows[0].keys() - {"model"}
        }
        logs[model] = {
            split: Curve(
                columns["epoch"] + 1,
                columns[f"{split}_loss"],
                columns[f"{split}_top1"] / 100 if f"{split}_top1" in columns else None,
            )
            for split in ("train", "eval", "ema")
        }
    return logs


def published_log(model: str) -> Mapping[str, Curve]:
    """The log of a model, by split.

    Raises:
      ConfigError: for a model that none was published of (the message has the nearest).
    """
    logs = published_logs()
    if model not in logs:
        raise ConfigError(f"there is no published log of '{model}'; {nearest(model, logs)}")
    return logs[model]
