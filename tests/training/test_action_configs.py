"""The configs of action detection: on AVA the values of the note's sources, and small on the built-in films."""

import re
from pathlib import Path

import numpy as np
import pytest
from published_recipes import recipe_module

from posmlp_jax.data.canvases import Canvases
from posmlp_jax.models import parameter_count, registry
from posmlp_jax.models.cost import model_cost
from posmlp_jax.training.config import check_fields, check_values, resolve_model
from posmlp_jax.training.step.schedules import learning_rate

FOLDER = Path(__file__).parents[2] / "configs" / "ava"
MODELS = {"s16x4": "action_posmlp_video_s", "b16x4": "action_posmlp_video_b"}


def open_config(name: str):
    config = recipe_module(f"ava.{name}").get_config()
    check_fields(config)
    check_values(config)
    return config


def test_the_files():
    assert {path.stem for path in FOLDER.glob("*.py")} - {"recipe"} == {*MODELS, "acting_digits"}


@pytest.mark.parametrize("name", MODELS)
def test_ava(name):
    config = open_config(name)
    model = resolve_model(config, {"num_classes": 80})
    assert (config.model.name, model.num_frames, config.data.stride, config.data.fps) == (MODELS[name], 16, 4, 30.0)
    assert (model.box_side, model.box_dropout, model.image_size) == (7, 0.5, (224, 224))
    text = recipe_module(f"ava.{name}").__doc__
    parameters, macs = model_cost(MODELS[name])
    assert parameters == parameter_count(registry.abstract_model(model))
    assert f"{parameters / 1e6:.1f} M parameters, {macs / 1e9:.1f} GMACs" in text
    assert set(re.findall(r"configs/ava/\w+\.py", text)) == {f"configs/ava/{name}.py"}
    # Every film that lies has a canvas.
    sizes = np.stack([np.full(100, 256), np.linspace(256, 1000, 100).astype(int)], axis=-1)
    assert (Canvases(config.data.canvases, config.data)(sizes) >= 0).all()
    assert (Canvases(config.data.canvases, config.data)(sizes[:50, ::-1]) >= 0).all()


def test_the_rate_of_ava():
    """A tenth of 1.25e-4 at first, all of it after 5 epochs, half of it in the middle of the rest, and then nothing."""
    config = open_config("s16x4")
    epoch = 1000
    rate = learning_rate(config.optimizer, config.length, batch_size=64, num_examples=64 * epoch)
    rates = [float(rate(step * epoch)) for step in (0, 5, 12.5, 20)]
    assert rates == pytest.approx([1.25e-5, 1.25e-4, 6.25e-5, 0], rel=1e-3, abs=1e-9)


def test_the_built_in_films():
    config = open_config("acting_digits")
    model = resolve_model(config, {"num_classes": 10})
    # With an even number the frames' mean would lie beside the key frame, and tell directions without reading time.
    assert (config.data.name, model.num_frames) == ("acting_digits", 9)
    assert "configs/ava/acting_digits.py" in recipe_module("ava.acting_digits").__doc__
