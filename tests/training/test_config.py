import importlib
import math

import pytest

from posmlp_jax.errors import ConfigError
from posmlp_jax.training import default_config
from posmlp_jax.training.config import check_fields, check_override, check_values, plain, resolve_model
from posmlp_jax.training.step.moving_average import decay_of
from posmlp_jax.training.workdir import as_begun, differences, without_newer_fields


def test_fields_of_the_model_are_open_until_they_are_set():
    config = default_config("posmlp_s")
    model = resolve_model(config, {"num_classes": 7})
    assert (model.widths, model.num_classes, model.dtype) == ((128, 256, 512, 1024), 7, "float32")
    config.model.update(num_classes=9, dtype="bfloat16", shift_windows=True)
    model = resolve_model(config, {"num_classes": 7})
    assert (model.num_classes, model.dtype, model.shift_windows) == (9, "bfloat16", True)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("batchsize", "did you mean 'batch_size'?"),
        ("data.nam", "in 'data'; did you mean 'name'?"),
        ("model.window", "in 'model'; did you mean 'windows'?"),
        ("optimizer.lr", "in 'optimizer'; known: b1, b2, clip_norm"),
        ("seed.x", "'seed' has no fields"),
    ],
)
def test_an_unknown_override_names_the_nearest(path, hint):
    with pytest.raises(ConfigError) as error:
        check_override(path)
    assert hint in str(error.value)


def test_every_field_can_be_overridden():
    for path in ("seed", "data.name", "model.windows", "optimizer.peak_rate"):
        check_override(path)


def test_a_config_made_by_hand_is_checked():
    config = default_config().to_dict()
    config["optimizer"]["momentum"] = 0.9
    with pytest.raises(ConfigError, match=r"unknown config field .optimizer\.momentum"):
        check_fields(config)
    del config["optimizer"]["momentum"], config["seed"]
    with pytest.raises(ConfigError, match="the config has no field 'seed'"):
        check_fields(config)


def test_differences_are_those_of_the_experiment():
    saved, current = default_config(), default_config()
    current.data.threads = saved.data.threads + 1
    current.log_every = "7 steps"
    assert not list(differences(plain(saved), plain(current)))
    current.model.windows = (7, 7, 7, 7)
    current.seed = 3
    assert set(differences(plain(saved), plain(current))) == {
        "seed: 0 -> 3",
        "model.windows: None -> [7, 7, 7, 7]",
    }


def test_a_run_that_began_before_the_warmup_of_averages_goes_on_without():
    saved, current = plain(default_config()), default_config()
    del saved["ema_warmup"], saved["ema_length"]
    assert list(differences(saved, plain(current))) == ["ema_warmup: False -> True"]
    begun = as_begun(current, saved)
    assert not begun.ema_warmup
    assert not list(differences(saved, plain(begun)))
    assert current.ema_warmup
    # The run's config.json still tells, however often it is started again.
    assert "ema_warmup" not in without_newer_fields(plain(begun), saved)
    assert without_newer_fields(plain(current), plain(current)) == plain(current)
    for own in (None, plain(current)):
        assert as_begun(current, own).ema_warmup


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("optimizer.schedule", "tim", "optimizer.schedule is tim, and should be one of cosine, timm"),
        ("mixing.group", 7, r"mixing.group is 7, and should be 0 \(the whole batch\) or an even number"),
        ("mixing.group", -2, "mixing.group is -2"),
    ],
)
def test_values_that_cannot_be(field, value, message):
    config = default_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=message):
        check_values(config)


def test_an_average_has_one_length():
    config = default_config()
    config.ema_length = "10 %"
    with pytest.raises(ConfigError, match=r"ema_length is '10 %' and ema_decay 0.99992.*add --config.ema_decay=0"):
        check_values(config)
    config.update(ema_decay=0.0, keep_best="ema/top1")
    check_values(config)
    assert decay_of(config, {"10 %": 50}.__getitem__) == pytest.approx(math.exp(-0.02), rel=1e-15)
    with pytest.raises(ConfigError, match="ema_length '10 %' is less than one step"):
        decay_of(config, lambda length: 0)


@pytest.mark.parametrize("name", ["cifar10", "cifar10_recipe", "digits", "moving_digits"])
def test_small_configs_let_their_average_forget_its_start(name):
    assert importlib.import_module(f"configs.{name}").get_config().ema_warmup


@pytest.mark.parametrize("name", ["posmlp_t", "posmlp_s", "posmlp_b"])
def test_published_recipes_have_no_warmup_of_the_average(name):
    assert not importlib.import_module(f"configs.{name}").get_config().ema_warmup


def test_a_run_of_a_version_with_fewer_fields_goes_on():
    saved, current = plain(default_config()), default_config()
    del saved["freeze"], saved["optimizer"]["layer_decay"]
    assert not list(differences(saved, plain(current)))
    current.freeze = "stem"
    assert list(differences(saved, plain(current))) == ["freeze:  -> stem"]
