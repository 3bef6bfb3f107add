"""`configs/video/` and the image models before them: they hold the published recipes, and can be opened."""

import importlib
from pathlib import Path

import pytest

from posmlp_jax.training.config import check_fields, check_values, resolve_model

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(path.stem for path in (CONFIGS / "video").glob("*_*.py"))
PARTS = {"s": ((72, 144, 288, 576), 0.1), "b": ((112, 224, 448, 896), 0.6)}


def test_the_files():
    sizes = ("b16", "b32", "s16", "s32")
    wanted = [f"k400_{size}x4" for size in sizes] + [f"ssv{v}_{size}" for v in (1, 2) for size in sizes]
    assert wanted == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_published_recipe(name):
    config = importlib.import_module(f"configs.video.{name}").get_config()
    check_fields(config)
    check_values(config)
    data, of_kinetics = config.data, name.startswith("k400")
    size, frames = name.split("_")[1][0], int(name.split("_")[1][1:3])
    model = resolve_model(config, 400 if of_kinetics else 174)
    assert (model.widths, model.drop_path) == PARTS[size]
    assert model.input_size == (frames, 224, 224)
    assert model.stem == ("conv3d" if frames == 32 else "conv2d")
    assert data.name == ("kinetics400" if of_kinetics else f"something_something_v{name[3]}")
    assert (data.test_clips, data.test_crops) == ((4, 1) if of_kinetics else (1, 3))
    assert data.sampling == ("dense" if of_kinetics else "segment")
    assert data.stride == 4
    assert data.flip == of_kinetics
    assert (set(data.mean), set(data.std)) == ({0.45}, {0.225})
    assert (data.randaugment, data.erasing_probability, data.repeats) == ("rand-m7-n4-mstd0.5-inc1", 0.25, 2)
    assert (config.mixing.mixup, config.mixing.cutmix, config.label_smoothing) == (0.8, 1.0, 0.1)
    # 64 videos, two samples of each.
    assert (config.batch_size, config.length, config.optimizer.weight_decay) == (128, "60 epochs", 0.05)
    rate, warmup = (2e-4, "10 epochs") if of_kinetics else (4e-4, "5 epochs")
    assert (config.optimizer.peak_rate, config.optimizer.warmup, config.optimizer.final_rate) == (rate, warmup, 1e-6)
    assert f"configs/video/{name}.py" in importlib.import_module(f"configs.video.{name}").__doc__


@pytest.mark.parametrize("size", ["s", "b"])
def test_images_first(size):
    config = importlib.import_module(f"configs.posmlp_video_{size}_image").get_config()
    check_fields(config)
    check_values(config)
    model = resolve_model(config, 1000)
    assert model.input_size == (224, 224)
    assert model.widths == PARTS[size][0]
    assert config.data.name == "imagenet2012"
