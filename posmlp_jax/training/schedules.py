"""Lengths of time in a config, and the learning rate over time."""

import re

import optax
from ml_collections import ConfigDict

from posmlp_jax.errors import ConfigError

_LENGTH = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*(step|epoch|example)s?\s*", re.IGNORECASE)


def to_steps(length: str, *, batch_size: int, num_examples: int) -> int:
    """Training steps in a length such as '300 epochs', '1000 steps' or '1.28e6 examples', rounded to whole ones.

    Args:
      length: a number and a unit.
      batch_size: examples a step.
      num_examples: examples an epoch.

    Raises:
      ConfigError: if the text is not of that form.
    """
    match = _LENGTH.fullmatch(str(length))
    try:
        number = float(match[1])
    except (TypeError, ValueError):
        raise ConfigError(
            f"'{length}' is no length of time; write '300 epochs', '1000 steps' or '1.28e6 examples'"
        ) from None
    unit = {"step": 1.0, "epoch": num_examples / batch_size, "example": 1 / batch_size}[match[2].lower()]
    return round(number * unit)


def learning_rate(config: ConfigDict, *, warmup: int, decay: int) -> optax.Schedule:
    """Linear warm-up, cosine decay to `final_rate`, and `final_rate` ever after.

    Args:
      config: the `optimizer` section.
      warmup: steps from `warmup_rate` to `peak_rate`.
      decay: the step, counted from 0, at which `final_rate` is reached.

    Raises:
      ConfigError: if the warm-up is no shorter than the run.
    """
    if warmup >= decay:
        raise ConfigError(f"optimizer.warmup is {warmup} steps, and should be shorter than the run's {decay}")
    return optax.warmup_cosine_decay_schedule(
        init_value=config.warmup_rate if warmup else config.peak_rate,
        peak_value=config.peak_rate,
        warmup_steps=warmup,
        decay_steps=decay,
        end_value=config.final_rate,
    )
