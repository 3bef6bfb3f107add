import itertools
import math
from fractions import Fraction

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from posmlp_jax.errors import ConfigError
from posmlp_jax.training import default_config
from posmlp_jax.training.step.schedules import SCHEDULES, is_due, learning_rate, to_steps


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        ("300 epochs", 375_342),  # 300 · 1,281,167 / 1024 = 375,341.9
        ("1 epoch", 1251),
        ("0.5 epochs", 626),
        ("1000 steps", 1000),
        ("1step", 1),
        ("1.28e6 examples", 1250),
        ("0 epochs", 0),
    ],
)
def test_lengths_in_steps(length, steps):
    assert to_steps(length, batch_size=1024, num_examples=1_281_167) == steps


def test_a_length_may_be_a_share_of_the_run():
    assert to_steps("12.5 %", batch_size=1, num_examples=1, total=400) == 50
    with pytest.raises(ConfigError, match=r"write '300 epochs', '1000 steps' or '1.28e6 examples'$"):
        to_steps("10 %", batch_size=1, num_examples=1)
    with pytest.raises(ConfigError, match=r"or '10 %' of the run$"):
        to_steps("10", batch_size=1, num_examples=1, total=400)


@pytest.mark.parametrize("length", ["1e400 epochs", "3e9 steps", "1e300 examples"])
def test_more_steps_than_can_be_counted(length):
    with pytest.raises(ConfigError, match=f"'{length}' is more than 2147483647 steps"):
        to_steps(length, batch_size=8, num_examples=10)


@pytest.mark.parametrize("length", ["300", "epochs", "5 hours", "", "-3 epochs", "1.2.3 steps", 7])
def test_what_is_no_length(length):
    with pytest.raises(ConfigError, match=r"write '300 epochs'"):
        to_steps(length, batch_size=1, num_examples=1)


@pytest.mark.parametrize("every", [1, 1.3, 2.5, 4.6, 11.71, 1171.875])
def test_what_is_due_is_due_as_often_as_it_fits(every):
    for times in (1, 3, 15):
        total = round(times * every)
        due = [step for step in range(1, total + 1) if is_due(step, every, total)]
        assert due == sorted({round(k * every) for k in range(1, times + 1)})
    assert is_due(7, 1000, 7)
    assert not is_due(0, 4, 9)


def test_learning_rate_is_the_recipes_formula():
    config = default_config().optimizer
    config.update(peak_rate=2e-3, warmup_rate=1e-5, final_rate=1e-6)
    config.warmup = "10 steps"
    schedule = learning_rate(config, "110 steps", batch_size=1, num_examples=1)

    def formula(step):
        if step < 10:
            return 1e-5 + (2e-3 - 1e-5) * step / 10
        progress = min((step - 10) / 100, 1.0)
        return 1e-6 + (2e-3 - 1e-6) * (1 + math.cos(math.pi * progress)) / 2

    steps = range(140)
    np.testing.assert_allclose([schedule(s) for s in steps], [formula(s) for s in steps], rtol=1e-5, atol=1e-10)


def test_without_warmup_the_first_rate_is_the_peak():
    config = default_config().optimizer
    config.warmup = "0 epochs"
    for config.schedule in SCHEDULES:
        rate = learning_rate(config, "10 steps", batch_size=16, num_examples=40)
        assert rate(0) == pytest.approx(config.peak_rate)


@pytest.mark.parametrize(("batch_size", "cooldown"), [(960, 10), (480, 0), (7, 0)])
def test_timms_learning_rate_by_its_formula(batch_size, cooldown):
    """`CosineLRScheduler(t_initial=300, warmup_t=10)`, set once before each epoch, and 10 more epochs at the lowest."""
    config, images = default_config().optimizer, 1_281_167
    config.update(schedule="timm", peak_rate=1e-3, warmup_rate=1e-5, final_rate=1e-6, warmup="10 epochs")
    schedule = jax.jit(learning_rate(config, "300 epochs", batch_size=batch_size, num_examples=images))

    def formula(epoch):
        if epoch < 10:
            return 1e-5 + epoch * (1e-3 - 1e-5) / 10
        if epoch < 300:
            return 1e-6 + 0.5 * (1e-3 - 1e-6) * (1 + math.cos(math.pi * epoch / 300))
        return 1e-6

    starts = [math.ceil(Fraction(epoch * images, batch_size)) for epoch in range(300 + cooldown + 1)]
    for epoch, (first, after) in enumerate(itertools.pairwise(starts)):
        for step in (first, (first + after) // 2, after - 1):
            assert float(schedule(step)) == pytest.approx(formula(epoch), rel=1e-6), (epoch, step)


def test_timms_learning_rate_in_a_run_of_steps():
    """3.2 epochs of 2.5 steps: they begin at steps 0, 3, 5 and 8."""
    config = default_config().optimizer
    config.update(schedule="timm", peak_rate=1.0, warmup_rate=0.5, final_rate=0.0, warmup="2 steps")
    schedule = learning_rate(config, "8 steps", batch_size=16, num_examples=40)
    wanted = [0.5] * 3 + [(1 + math.cos(math.pi * epoch / 3.2)) / 2 for epoch in (1, 1, 2, 2, 2, 3, 3)] + [0, 0]
    np.testing.assert_allclose([schedule(step) for step in range(12)], wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("warmup", [0, 5])
def test_milestones_by_a_loop(warmup):
    """As mmdetection in small: 12 epochs of 10 steps, a tenth from the eighth on, and of that from the eleventh on."""
    config = default_config().optimizer
    config.update(schedule="step", peak_rate=1e-4, warmup_rate=1e-7, warmup=f"{warmup} steps", decay=0.1)
    config.milestones = ("8 epochs", "91.7 %")
    schedule = jax.jit(learning_rate(config, "12 epochs", batch_size=4, num_examples=40))
    wanted, rate = [], 1e-4
    for step in range(130):
        if step in (80, 110):
            rate *= 0.1
        wanted.append(1e-7 + (1e-4 - 1e-7) * step / warmup if step < warmup else rate)
    np.testing.assert_allclose([schedule(step) for step in range(130)], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("milestones", "message"),
    [
        ("8 epochs", r"milestones is '8 epochs', and should hold lengths, as \('8 epochs', '11 epochs'\)"),
        (("80 steps", "80 steps"), "holds '80 steps', step 80, and should hold .* the warm-up's 10 steps and .* 120"),
        (("13 epochs",), r"holds '13 epochs', step 130, .* as '67 %', goes along with its length"),
        (("9 steps",), "holds '9 steps', step 9"),
        (("eight",), "'eight' is no length of time"),
        ((8,), "'8' is no length of time"),
    ],
)
def test_milestones_that_cannot_be(milestones, message):
    # As a config's JSON may have it.
    config = ConfigDict(
        default_config().optimizer.to_dict() | {"schedule": "step", "warmup": "10 steps", "milestones": milestones}
    )
    with pytest.raises(ConfigError, match=message):
        learning_rate(config, "120 steps", batch_size=4, num_examples=40)


def test_a_warmup_longer_than_the_run_is_a_mistake():
    with pytest.raises(ConfigError, match="warmup is 10 steps, and should be shorter than the run's 10"):
        learning_rate(default_config().optimizer, "10 epochs", batch_size=1, num_examples=1)
