"""Which weights of which checkpoint: `--step=latest|best|N` and `--weights=raw|ema|best`, the same everywhere."""

import argparse
import math
import re
from dataclasses import dataclass

from posmlp_jax.checkpoints.evaluations import WHOSE, Evaluations, Results, better_split, score
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


def choose_weights(weights: str, step: int, has_ema: bool, evaluations: Evaluations, keep_best: str) -> Choice:
    """Decides between a checkpoint's raw weights and their moving average.

    Args:
      weights: 'raw', 'ema', or 'best': the one that the last evaluation up to this checkpoint found better.
      step: the checkpoint's.
      has_ema: whether it has a moving average.
      evaluations: the run's.
      keep_best: the run's, whose metric decides; without it top-1 does. The loss decides between equals.

    Raises:
      CheckpointError: for the moving average where there is none.
    """
    if weights == "ema" and not has_ema:
        raise CheckpointError(f"the checkpoint of step {step} has no moving average; take weights 'raw' or 'best'")
    if weights != "best":
        return Choice({"raw": "weights", "ema": "ema"}[weights], "as asked for")
    if not has_ema:
        return Choice("weights", "it has no moving average")
    last, metric = evaluations.last(step), keep_best.partition("/")[2] or "top1"
    results = evaluations[last] or {}
    better = better_split(results, metric) if {"eval", "ema"} <= set(results) else None
    if better is None or max(score(f"{better}/{name}", results) for name in (metric, "loss")) == -math.inf:
        return Choice("ema", "no evaluation that compares it with the raw weights is on record")
    when = "" if last == step else f" at step {last}"
    return Choice(
        "weights" if better == "eval" else "ema",
        f"the run's evaluation{when} found {'the raw weights' if better == 'eval' else 'it'} better: "
        f"{_compared(results, better, metric)}",
    )


def _compared(results: Results, better: str, metric: str) -> str:
    """As 'top-1 76.10 against 41.75 %'."""
    other = "ema" if better == "eval" else "eval"
    values = [results[split].get(metric) for split in (better, other)]
    if values[0] == values[1]:
        metric, values = "loss", [results[split].get("loss") for split in (better, other)]
    if metric == "loss":
        shown = [("nan" if value is None else f"{value:.4f}") for value in values]
        return f"loss {shown[0]} against {shown[1]}"
    shown = ["nan" if value is None else f"{100 * value:.2f}" for value in values]
    name = {"top1": "top-1", "top5": "top-5"}.get(metric, metric)
    return f"{name} {shown[0]} against {shown[1]} %"
