"""Lengths of time in a config, and the learning rate over time."""

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax

from posmlp_jax.errors import ConfigError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

SCHEDULES = ("cosine", "timm", "step")
_LENGTH = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*(steps?|epochs?|examples?|%)\s*", re.IGNORECASE)
# Steps are counted in int32.
_MOST = 2**31 - 1


def to_steps(length: str, *, batch_size: int, num_examples: int, total: int | None = None) -> int:
    """As `in_steps`, but rounded to whole ones."""
    return round(in_steps(length, batch_size=batch_size, num_examples=num_examples, total=total))


def in_steps(length: str, *, batch_size: int, num_examples: int, total: int | None = None) -> float:
    """Training steps in a length such as '300 epochs', '1000 steps' or '1.28e6 examples'; an epoch is no whole number.

    Args:
      length: a number and a unit.
      batch_size: examples a step.
      num_examples: examples an epoch.
      total: the whole run's steps, where the length may be a share of them, as '10 %'.

    Raises:
      ConfigError: if the text is not of that form, or the steps are too many to be counted (2³¹).
    """
    units = {"step": 1.0, "epoch": num_examples / batch_size, "example": 1 / batch_size}
    steps = _measure(length, units if total is None else units | {"%": total / 100})
    if not steps <= _MOST:
        raise ConfigError(f"'{length}' is more than {_MOST} steps, which is as far as steps are counted")
    return steps


def is_due(step: int, every: float, total: int) -> bool:
    """Whether a step is the nearest one to a multiple of `every` steps, at least 1, or the last of `total`.

    So what is done every 3 of 15 epochs is done five times, wherever an epoch ends within a step.
    """
    return step == total or (step > 0 and round(round(step / every) * every) == step)


def to_epochs(length: str, *, batch_size: int, num_examples: int) -> float:
    """As `to_steps`, but epochs, and not rounded."""
    return _measure(length, {"step": batch_size / num_examples, "epoch": 1.0, "example": 1 / num_examples})


def _measure(length: str, units: Mapping[str, float]) -> float:
    match = _LENGTH.fullmatch(str(length))
    try:
        return float(match[1]) * units[match[2].lower().removesuffix("s")]
    except (TypeError, ValueError, KeyError):
        share = ", or '10 %' of the run" if "%" in units else ""
        raise ConfigError(
            f"'{length}' is no length of time; write '300 epochs', '1000 steps' or '1.28e6 examples'{share}"
        ) from None


def learning_rate(config: "ConfigDict", length: str, *, batch_size: int, num_examples: int) -> optax.Schedule:
    """Linear warm-up, cosine decay to `final_rate`, and `final_rate` ever after.

    With `schedule` 'cosine' the rate changes at every step, and its cosine begins where the warm-up ends. With 'timm'
    it is that of timm's `CosineLRScheduler`: it changes where an epoch begins, and its cosine counts from the run's
    start, so that it is a little below the peak where it takes over from the warm-up. With 'step' there is no cosine:
    the rate is multiplied by `decay` at each of the `milestones`, and stays what it is after the last.

    Args:
      config: the `optimizer` section.
      length: until `final_rate` is reached.
      batch_size: examples a step.
      num_examples: examples an epoch.

    Raises:
      ConfigError: for a text that is no length, a warm-up no shorter than the run, and milestones that do not come one
        after the other between its end and the run's.
    """
    sizes = {"batch_size": batch_size, "num_examples": num_examples}
    warmup, decay = to_steps(config.warmup, **sizes), to_steps(length, **sizes)
    if warmup >= decay:
        raise ConfigError(f"optimizer.warmup is {warmup} steps, and should be shorter than the run's {decay}")
    if config.schedule == "timm":
        return _timm_cosine(config, length, **sizes)
    if config.schedule == "step":
        return _by_milestones(config, warmup, decay, **sizes)
    return optax.warmup_cosine_decay_schedule(
        init_value=config.warmup_rate if warmup else config.peak_rate,
        peak_value=config.peak_rate,
        warmup_steps=warmup,
        decay_steps=decay,
        end_value=config.final_rate,
    )


def _by_milestones(config: "ConfigDict", warmup: int, total: int, **sizes: int) -> optax.Schedule:
    if isinstance(config.milestones, str):
        raise ConfigError(
            f"optimizer.milestones is '{config.milestones}', and should hold lengths, as ('8 epochs', '11 epochs')"
        )
    milestones = [to_steps(each, **sizes, total=total) for each in config.milestones]
    for text, before, step in zip(config.milestones, [warmup - 1, *milestones], milestones, strict=False):
        if not before < step < total:
            wanted = f"between the warm-up's {warmup} steps and the run's {total}, one after the other"
            raise ConfigError(
                f"optimizer.milestones holds '{text}', step {step}, and should hold lengths {wanted}; what is a share "
                "of the run, as '67 %', goes along with its length"
            )
    after = optax.piecewise_constant_schedule(config.peak_rate, {step - warmup: config.decay for step in milestones})
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(config.warmup_rate, config.peak_rate, warmup), after], [warmup])


def _timm_cosine(config: "ConfigDict", length: str, *, batch_size: int, num_examples: int) -> optax.Schedule:
    in_epochs = partial(to_epochs, batch_size=batch_size, num_examples=num_examples)
    warmup, decay = in_epochs(config.warmup), in_epochs(length)
    epochs = np.arange(math.ceil(decay) + 1)
    rising = config.warmup_rate + (config.peak_rate - config.warmup_rate) * epochs / max(warmup, 1)
    falling = (1 + np.cos(np.pi * np.minimum(epochs / decay, 1))) / 2
    falling = config.final_rate + (config.peak_rate - config.final_rate) * falling
    rates = np.where(epochs < warmup, rising, falling).astype(np.float32)
    # An epoch begins with the first step that takes none of its examples from the one before.
    starts = -(-epochs * num_examples // batch_size)

    def schedule(step: jax.Array) -> jax.Array:
        return jnp.asarray(rates)[jnp.sum(starts <= step) - 1]

    return schedule
