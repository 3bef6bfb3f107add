"""Which weights of which checkpoint: `--step=latest|best|N` and `--weights=raw|ema|best`, the same everywhere."""

import argparse
import math
import re
from dataclasses import dataclass

from posmlp_jax.checkpoints.evaluations import LOSS, WHOSE, Criterion, Evaluations, Metric, Results, better_split, score
from posmlp_jax.errors import CheckpointError, ConfigError

WEIGHTS = ("raw", "ema", "best")
STEP_HELP = "latest (the default), best (by the run's keep_best) or a step"
BEST_WEIGHTS = "the ones that the run's last evaluation found better"
WEIGHTS_HELP = f"raw, ema (the moving average) or best (the default: {BEST_WEIGHTS})"
# What a checkpoint's items are called.
NAMES = {"weights": WHOSE["eval"], "ema": WHOSE["ema"]}


@dataclass(frozen=True)
class Choice:
    """Whose weights: 'weights' or 'ema', as a checkpoint calls them, and why these, in words."""

    item: str
    reason: str


def check_selection(step: str | int, weights: str = "best", prefix: str = "") -> None:
    """Raises a ConfigError unless these are such a step and such weights; `prefix` is of their fields' names."""
    if not re.fullmatch(r"latest|best|\d+", str(step)):
        raise ConfigError(f"{prefix}step is '{step}', and should be latest, best or a step")
    if weights not in WEIGHTS:
        raise ConfigError(f"{prefix}weights is '{weights}', and should be raw, ema or best")


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Adds `--step` and `--weights`, for `open_pretrained`, which checks them."""
    parser.add_argument("--step", default="latest", help=STEP_HELP)
    parser.add_argument("--weights", default="best", help=WEIGHTS_HELP)


def choose_weights(weights: str, step: int, has_ema: bool, evaluations: Evaluations, metric: Metric) -> Choice:
    """Decides between a checkpoint's raw weights and their moving average.

    Args:
      weights: 'raw', 'ema', or 'best': the one that the last evaluation up to this checkpoint found better.
      step: the checkpoint's.
      has_ema: whether it has a moving average.
      evaluations: the run's.
      metric: by which they compare; the loss decides between equals.

    Raises:
      CheckpointError: for the moving average where there is none.
    """
    if weights == "ema" and not has_ema:
        raise CheckpointError(f"the checkpoint of step {step} has no moving average; take weights 'raw' or 'best'")
    if weights != "best":
        return Choice({"raw": "weights", "ema": "ema"}[weights], "as asked for")
    if not has_ema:
        return Choice("weights", "it has no moving average")
    last = evaluations.last(step)
    results = evaluations[last] or {}
    better = better_split(results, metric) if {"eval", "ema"} <= set(results) else None
    if better is None or max(score(Criterion(better, each), results) for each in (metric, LOSS)) == -math.inf:
        return Choice("ema", "no evaluation that compares it with the raw weights is on record")
    when = "" if last == step else f" at step {last}"
    return Choice(
        "weights" if better == "eval" else "ema",
        f"the run's evaluation{when} found {'the raw weights' if better == 'eval' else 'it'} better: "
        f"{_compared(results, better, metric)}",
    )


def _compared(results: Results, better: str, metric: Metric) -> str:
    """As 'top-1 76.10 against 41.75 %'."""
    pair = [results[split] for split in (better, "ema" if better == "eval" else "eval")]
    if pair[0].get(metric.name) == pair[1].get(metric.name):
        metric = LOSS
    first, second = (metric.format(values.get(metric.name, math.nan)) for values in pair)
    return f"{metric.label} {first.removesuffix(' %')} against {second}"
