"""Lengths of time in a config, and the learning rate over time."""

import re

import optax
from ml_collections import ConfigDict

from posmlp_jax.errors import ConfigError

_LENGTH = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*(steps?|epochs?|examples?|%)\s*", re.IGNORECASE)
# Steps are counted in int32.
_MOST = 2**31 - 1


def to_steps(length: str, *, batch_size: int, num_examples: int, total: int | None = None) -> int:
    """Training steps in a length such as '300 epochs', '1000 steps' or '1.28e6 examples', rounded to whole ones.

    Args:
      length: a number and a unit.
      batch_size: examples a step.
      num_examples: examples an epoch.
      total: the whole run's steps, where the length may be a share of them, as '10 %'.

    Raises:
      ConfigError: if the text is not of that form, or the steps are too many to be counted (2³¹).
    """
    match = _LENGTH.fullmatch(str(length))
    units = {"step": 1.0, "epoch": num_examples / batch_size, "example": 1 / batch_size}
    if total is not None:
        units["%"] = total / 100
    try:
        number = float(match[1])
        unit = units[match[2].lower().removesuffix("s")]
    except (TypeError, ValueError, KeyError):
        share = "" if total is None else ", or '10 %' of the run"
        raise ConfigError(
            f"'{length}' is no length of time; write '300 epochs', '1000 steps' or '1.28e6 examples'{share}"
        ) from None
    if not number * unit <= _MOST:
        raise ConfigError(f"'{length}' is more than {_MOST} steps, which is as far as steps are counted")
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
