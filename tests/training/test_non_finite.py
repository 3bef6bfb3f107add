import json
import math
import os
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from runs import TINY, losses, run, saved_arrays, steps

from posmlp_jax.data import open_source, train_batches
from posmlp_jax.training import non_finite, train
from posmlp_jax.training.non_finite import NonFiniteLoss
from posmlp_jax.training.records.metrics import StepClock

pytestmark = pytest.mark.heavy

# The second step's rate makes parameters of 10^29; the third step's loss is not a number.
DIVERGING = {"optimizer.peak_rate": 1e30, "optimizer.warmup": "2 steps", "checkpoint_every": "1 steps"}


@pytest.fixture(scope="module")
def diverged(tiny_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("diverged")
    config = tiny_config(**DIVERGING, log_every="4 steps", seed=5)
    with pytest.raises(NonFiniteLoss) as raised:
        train(config, workdir)
    return config, workdir, raised.value


def test_the_step_is_named_and_nothing_after_it_is_saved(diverged):
    _, workdir, error = diverged
    assert error.step == 3
    assert error.exit_code == 3
    assert "the loss of step 3, or its gradient, is not finite; the last checkpoint is of step 2, and " in str(error)
    assert steps(workdir) == [1, 2]
    for leaf in jax.tree.leaves(saved_arrays(workdir, 2)):
        assert np.isfinite(leaf).all()
    assert losses(workdir) == []


def test_the_examples_are_those_of_the_stream_from_its_start(diverged):
    config, workdir, _ = diverged
    source = open_source(config.data, "train")
    batches = train_batches(source, config.data, (16, 16), batch_size=16, seed=5)
    third = [next(batches)["index"] for _ in range(3)][-1]
    batches.close()
    names = (workdir / "non_finite_step_3.txt").read_text().splitlines()
    assert names == [source.example_id(int(index)) for index in third]
    assert len(set(names)) == 16


def test_examples_whose_names_are_no_utf8(tmp_path):
    source = SimpleNamespace(example_id=lambda index: os.fsdecode(b"caf\xe9 %d" % index))

    def batches(start_step, alone):
        assert (start_step, alone) == (0, True)
        yield {"index": np.array([7])}

    non_finite.stop_at(1, SimpleNamespace(train_source=source, batches=batches), tmp_path, None)
    assert (tmp_path / "non_finite_step_1.txt").read_bytes() == b"caf\xe9 7\n"


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([(1.0, 1.0)] * 3, None),
        ([(1.0, 1.0), (math.nan, 1.0), (math.nan, math.nan)], 1),
        ([(1.0, math.inf), (1.0, 1.0)], 1),
        ([(1.0, 1.0), (-math.inf, 1.0)], 0),
    ],
)
def test_loss_and_gradient_are_looked_at(values, wanted):
    clock = StepClock(batch_size=1, devices=1)
    for loss, norm in values:
        clock.add({"loss": np.float32(loss), "grad_norm": np.float32(norm)}, macs=1)
    assert clock.first_non_finite() == wanted


def test_a_clock_goes_on_with_the_steps_that_no_line_has_had():
    draws = np.float32(np.random.default_rng(0).normal(size=(7, 2)))
    metrics = [{"loss": loss, "learning_rate": rate} for loss, rate in draws]
    whole, first = (StepClock(batch_size=1, devices=1) for _ in range(2))
    for each in metrics:
        whole.add(each, macs=1)
    for each in metrics[:3]:
        first.add(each, macs=1)
    # Through a checkpoint's JSON.
    second = StepClock(batch_size=1, devices=1, earlier=json.loads(json.dumps(first.pending())))
    for each in metrics[3:]:
        second.add(each, macs=1)
    wanted, found = whole.collect(), second.collect()
    assert all(found[name] == wanted[name] for name in ("loss", "learning_rate"))
    assert second.pending() == []


def test_the_program_ends_with_a_code_of_its_own(tmp_path):
    result = run(*TINY, f"--workdir={tmp_path}", "--config.length=9 steps", "--config.optimizer.peak_rate=1e30")
    assert result.code == 3
    assert len(result.error_lines) == 1
    assert "not finite; there is no checkpoint yet, and " in result.errors
