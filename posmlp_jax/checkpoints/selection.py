"""Which weights of which checkpoint: `--step=latest|best|N` and `--weights=raw|ema|best`, the same everywhere."""

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from posmlp_jax.checkpoints.evaluations import (
    LOSS,
    WHOSE,
    Criterion,
    Evaluations,
    Metric,
    Results,
    better_split,
    criteria,
    score,
)
from posmlp_jax.checkpoints.folders import no_checkpoint_in
from posmlp_jax.checkpoints.packed import Packed
from posmlp_jax.checkpoints.run import read_keep_best, read_metrics
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.errors import CheckpointError, ConfigError

WEIGHTS = ("raw", "ema", "best")
CHECKPOINT_HELP = "a run's folder, one checkpoint in it, DIR/checkpoints/STEP, or one of python -m posmlp_jax.zoo"
STEP_HELP = "latest (the default), best (by the run's keep_best) or a step"
BEST_WEIGHTS = "the ones that the run's last evaluation found better"
WEIGHTS_HELP = f"raw, ema (the moving average) or best (the default: {BEST_WEIGHTS})"
# What a checkpoint's items are called, and what is asked for to get them.
NAMES = {"weights": WHOSE["eval"], "ema": WHOSE["ema"]}
ASKED = {"weights": "raw", "ema": "ema"}


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


def select_step(checkpoints: Checkpoints | Packed, which: str | int) -> int:
    """The step of one checkpoint.

    Args:
      checkpoints: those that there are.
      which: 'latest', 'best' (by the `keep_best` that the newest was trained with) or a step.

    Raises:
      CheckpointError: if there is none such.
    """
    steps, folder = checkpoints.steps(), checkpoints.directory
    if not steps:
        raise no_checkpoint_in(folder)
    if which == "latest":
        return steps[-1]
    if which == "best":
        return _best_step(checkpoints, steps)
    if str(which) not in map(str, steps):
        raise CheckpointError(f"there is no checkpoint of step {which} in {folder}; there are {steps}")
    return int(which)


def _best_step(checkpoints: Checkpoints | Packed, steps: list[int]) -> int:
    run = checkpoints.run(steps[-1])
    with checkpoints.damaged(steps[-1], "run"):
        keep_best, metrics = read_keep_best(run), read_metrics(run)
    if not keep_best:
        raise CheckpointError(
            f"{checkpoints.directory} has no best checkpoint: it was trained with keep_best='', and should be with "
            "'eval/top1', for example"
        )
    criterion = criteria(metrics).get(keep_best)
    best = criterion and checkpoints.evaluations.best(criterion, steps)
    if best is None:
        raise CheckpointError(
            f"no evaluation on record of the checkpoints {steps} in {checkpoints.directory} has {keep_best}, by which "
            "the best was to be kept; take one of them, or the latest"
        )
    return best


def choose_weights(
    weights: str, step: int, holds: Callable[[str], bool], evaluations: Evaluations, metric: Metric
) -> Choice:
    """Decides between a checkpoint's raw weights and their moving average.

    Args:
      weights: 'raw', 'ema', or 'best': the one that the last evaluation up to this checkpoint found better.
      step: the checkpoint's.
      holds: whether it has 'weights', or 'ema'.
      evaluations: the run's.
      metric: by which they compare; the loss decides between equals.

    Raises:
      CheckpointError: for those that it does not have.
    """
    if weights != "best":
        item = next(item for item, asked in ASKED.items() if asked == weights)
        if not holds(item):
            has, other = ("no moving average", "raw") if item == "ema" else ("its moving average alone", "ema")
            raise CheckpointError(f"the checkpoint of step {step} has {has}; take weights '{other}' or 'best'")
        return Choice(item, "as asked for")
    held = [item for item in NAMES if holds(item)]
    last = evaluations.last(step)
    results = evaluations[last] or {}
    better = better_split(results, metric) if {"eval", "ema"} <= set(results) else None
    known = better and max(score(Criterion(better, each), results) for each in (metric, LOSS)) > -math.inf
    item = "weights" if known and better == "eval" else "ema"
    if item not in held:
        return Choice(*held, "it has no moving average" if item == "ema" else "it has nothing else")
    if not known:
        return Choice(item, "no evaluation that compares it with the raw weights is on record")
    when = "" if last == step else f" at step {last}"
    found = f"the run's evaluation{when} found {'the raw weights' if better == 'eval' else 'it'} better"
    return Choice(item, f"{found}: {_compared(results, better, metric)}")


def _compared(results: Results, better: str, metric: Metric) -> str:
    """As 'top-1 76.10 against 41.75 %'."""
    pair = [results[split] for split in (better, "ema" if better == "eval" else "eval")]
    if pair[0].get(metric.name) == pair[1].get(metric.name):
        metric = LOSS
    first, second = (metric.format(values.get(metric.name, math.nan)) for values in pair)
    return f"{metric.label} {first.removesuffix(' %')} against {second}"
