"""What an evaluation takes from the run, and what may be changed of it."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from runs import ROOT, save_model

from posmlp_jax import create_model
from posmlp_jax.data import open_source
from posmlp_jax.errors import CheckpointError, ConfigError, PosMLPError
from posmlp_jax.training import default_config, open_pretrained
from posmlp_jax.training.config import plain
from posmlp_jax.training.saved_config import check_overrides, evaluated, from_plain, get_config, protocol

pytestmark = pytest.mark.heavy

TINY = {
    "image_size": 16,
    "widths": (8, 16),
    "depths": (1, 1),
    "windows": (4, 2),
    "groups": (2, 4),
}
CONFIGS = sorted(file for file in ROOT.glob("configs/**/*.py") if "def get_config" in file.read_text())
MODELS = {"posmlp_t": TINY | {"expansions": (2, 2)}, "posmlp_video_s": TINY | {"num_frames": 4}}


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory) -> dict[str, Path]:
    """A folder with random weights for each family, without a run's `config.json`, as `convert` writes it."""
    folder = tmp_path_factory.mktemp("models")
    for name, fields in MODELS.items():
        save_model(folder / name, name, create_model(name, num_classes=3, **fields))
    return {name: folder / name for name in MODELS}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_a_config_comes_back_from_json(file):
    names = {}
    exec(file.read_text(), names)
    config = names["get_config"]()
    again = from_plain(json.loads(json.dumps(plain(config))), "runs/any")
    assert again.to_dict() == config.to_dict()
    assert type(again.data.crop_scale) is tuple


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"batch_size": "many"},
            "the run in runs/any has batch_size 'many' in its config, and should have one like 1024",
        ),
        ({"data.train_sizes": 64}, r"the run in runs/any has data.train_sizes 64 in its config, and .* like \(\)"),
        ({"task": 7}, "unknown task '7'; known: action_detection, classification"),
        ({"task": ["classification"]}, "unknown task '..classification..'; did you mean 'classification'"),
    ],
)
def test_a_value_of_another_kind_is_a_mistake(changes, message):
    """As someone may write it into `config.json`."""
    saved = plain(default_config())
    for name, value in changes.items():
        section, _, field = name.rpartition(".")
        (saved[section] if section else saved)[field] = value
    with pytest.raises(PosMLPError, match=message):
        from_plain(saved, "runs/any")


@pytest.mark.parametrize(
    ("name", "field", "value", "there"),
    [
        ("posmlp_t", "gate", "add", "'multiply'"),
        ("posmlp_t", "covariance", "free", "'psd'"),
        ("posmlp_t", "shift_windows", True, "False"),
        ("posmlp_t", "windows", (2, 2), "((4, 4), (2, 2))"),
        ("posmlp_t", "image_size", 32, "(16, 16)"),
        ("posmlp_video_s", "block", "temporal_spatial", "'parallel'"),
        ("posmlp_video_s", "gate", "add", "'multiply'"),
    ],
)
def test_what_contradicts_the_checkpoint_is_refused(workdirs, name, field, value, there):
    pretrained = open_pretrained(workdirs[name])
    config = get_config(workdirs[name])
    config.model[field] = value
    with pytest.raises(ConfigError) as error:
        evaluated(config, pretrained)
    message = str(error.value)
    assert (
        f"of that of step 0 in {workdirs[name]} the config says something else: model.{field} {there} there" in message
    )
    assert "\n" not in message


def test_what_sets_an_evaluation_apart_is_named(workdirs, tmp_path):
    workdir = shutil.copytree(workdirs["posmlp_video_s"], tmp_path / "run")
    own = get_config(workdir)
    # Of a checkpoint that says what it is, this need not be there, nor be any version's.
    (workdir / "config.json").write_text('{"data": {"of_another_version": 1')
    for name, fields in {
        "": {"threads": 2, "augment": "none", "test_average": "logits"},
        "4x3_views": {"test_clips": 4, "test_crops": 3},
        "eval_crop=1.0_stride=2_1x3_views_logits": {
            "eval_crop": 1.0,
            "stride": 2,
            "test_crops": 3,
            "test_average": "logits",
        },
        "short_side=8_long_side=9_crop=fit_canvases=4x16x20+4x12x12": {
            "crop": "fit",
            "short_side": 8,
            "long_side": 9,
            "canvases": ((16, 20), 12),
        },
    }.items():
        config = own.copy_and_resolve_references()
        config.data.update(name="synthetic", num_examples=4, **fields)
        source = open_source(config.data, "eval", kind="video")
        assert protocol(config, open_pretrained(workdir), source) == name


def test_what_says_the_same_or_nothing_is_not(workdirs):
    pretrained = open_pretrained(workdirs["posmlp_t"])
    for fields in ({}, {"image_size": (16, 16), "gate": "multiply", "windows": (4, (2, 2))}):
        config = default_config("posmlp_t")
        config.model.update(fields)
        config.data.mean = ()
        config.optimizer.peak_rate = 1.0  # Which evaluation does not read.
        config, (name, model) = evaluated(config, pretrained)
        assert (name, model) == ("posmlp_t", pretrained.config)
        assert config.data.mean == (0.485, 0.456, 0.406)
    config.model.dtype = "bfloat16"
    config.data.eval_crop = 0.5
    with pytest.raises(ConfigError, match=r"something else: task 'another' there, 'classification' here$"):
        evaluated(config, dataclasses.replace(pretrained, task="another"))
    config, (_, model) = evaluated(config, pretrained)
    assert model == pretrained.config.replace(dtype="bfloat16")
    assert config.data.eval_crop == 0.5
    config.data.std = (0.5, 0.5, 0.5)
    config.model.name = "posmlp_s"
    with pytest.raises(ConfigError, match=r"model.name 'posmlp_t' there, 'posmlp_s' here; data.std \(0.229, "):
        evaluated(config, pretrained)


def test_flags_that_nothing_would_read(workdirs):
    workdir = workdirs["posmlp_t"]
    config = get_config(workdir)
    config.data.name, config.eval_batch_size, config.batch_size = "digits", 7, 8
    check_overrides(["data.name", "eval_batch_size", "length", "model.gate"], config, workdir)
    with pytest.raises(ConfigError, match=r"batch_size is 8 here and 1024 in the run in .*config.batch_size out"):
        check_overrides(["data.name", "batch_size"], config, workdir)


def test_a_config_of_another_version(tmp_path):
    saved = plain(default_config())
    del saved["ema_warmup"], saved["data"]["stride"]
    config = from_plain(saved, "runs/old")
    assert (config.ema_warmup, config.data.stride) == (False, 4)
    with pytest.raises(CheckpointError, match=r"runs/new has a config field 'data.depth', which this version"):
        from_plain({**saved, "data": {"depth": 3}}, "runs/new")
    (tmp_path / "config.json").write_text('{"seed"')
    with pytest.raises(CheckpointError, match=r"config.json is damaged"):
        get_config(tmp_path)


def test_a_config_is_read_before_hosts_have_met(workdirs, tmp_path, monkeypatch):
    """JAX may not be asked for devices or processes before that."""
    wanted = plain(get_config(workdirs["posmlp_t"]))
    assert wanted == plain(default_config("posmlp_t"))

    def fail(*arguments, **options):
        raise AssertionError("asked too early")

    for name in ("process_count", "process_index", "devices", "local_devices"):
        monkeypatch.setattr(f"jax.{name}", fail)
    assert plain(get_config(workdirs["posmlp_t"])) == wanted
    with pytest.raises(CheckpointError, match=rf"^there is no checkpoint in {tmp_path}/checkpoints; name the folder"):
        get_config(tmp_path)
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"checkpoints/3/run/metadata, which .* is missing or damaged; take anot"):
        get_config(tmp_path)
