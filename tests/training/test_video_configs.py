"""`configs/video/` and the image models before them: they hold the published recipes, and can be opened."""

from pathlib import Path

import pytest
from published_recipes import VIDEO, VIDEO_NETWORK, differing_fields, field_value, recipe_module, values

from posmlp_jax.training import default_config
from posmlp_jax.training.config import check_fields, check_values, resolve_model

CONFIGS = Path(__file__).parents[2] / "configs"
WIDTHS = {"s": (72, 144, 288, 576), "b": (112, 224, 448, 896)}
# What a recipe says beside what was published: how the run is worked off, and what flips would do if they were on.
OURS = {"data.threads", "eval_batch_size", "model.remat", "data.flip_label_pairs"}


def test_the_files():
    assert {path.stem for path in (CONFIGS / "video").glob("*.py")} - {"recipe"} == set(VIDEO)


@pytest.mark.parametrize("name", VIDEO)
def test_a_config_has_what_was_published_and_nothing_else(name):
    config = recipe_module(f"video.{name}").get_config()
    check_fields(config)
    check_values(config)
    published = values(VIDEO[name])
    assert {field: field_value(config, field) for field in published} == published
    default = default_config(config.model.name)
    changed = differing_fields(config, default)
    assert changed <= set(published) | OURS
    assert f"configs/video/{name}.py" in recipe_module(f"video.{name}").__doc__


@pytest.mark.parametrize("name", VIDEO)
def test_a_network_is_the_published_one_or_says_that_it_is_not(name):
    config = recipe_module(f"video.{name}").get_config()
    model = resolve_model(config, {"num_classes": 400 if name.startswith("k400") else 174})
    size, frames = name.split("_")[1][0], int(name.split("_")[1][1:3])
    assert model.widths == WIDTHS[size]
    assert model.input_size == (frames, 224, 224)
    assert model.stem == ("conv3d" if frames == 32 else "conv2d")
    published = {field: getattr(model, field) for field in VIDEO_NETWORK} == VIDEO_NETWORK
    text = " ".join(recipe_module(f"video.{name}").__doc__.split())
    assert ("The network is an extrapolation" in text) == (name != "ssv1_s16")
    assert ("For 32 frames another network was published" in text) == (frames == 32)
    assert published == (size == "s" and frames == 16)
    (file,) = [source.split("/", 1)[1] for source in VIDEO[name] if source.endswith(".yaml")]
    assert f"published configs/{file}" in text


@pytest.mark.parametrize("size", ["s", "b"])
def test_images_first(size):
    config = recipe_module(f"posmlp_video_{size}_image").get_config()
    check_fields(config)
    check_values(config)
    model = resolve_model(config, {"num_classes": 1000})
    assert model.input_size == (224, 224)
    assert model.widths == WIDTHS[size]
    assert config.data.name == "imagenet2012"
