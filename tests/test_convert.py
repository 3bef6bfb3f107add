"""The authors' published models, loaded into ours, give what the authors' code gives (reference_outputs/README.md)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx

from posmlp_jax import create_model
from posmlp_jax.convert import load_published
from posmlp_jax.errors import CheckpointError
from posmlp_jax.models import PosMLPVideo

FOLDER = Path(__file__).parent / "reference_outputs"
SIZES = {
    "image_size": 128,
    "widths": (8, 16, 32, 64),
    "depths": (1, 1, 2, 1),
    "expansions": (4, 4, 4, 2),
    "windows": (8, 8, 8, 4),
    "groups": (2, 4, 4, 8),
    "num_classes": 10,
}
ONE = {"groups": (1, 1, 1, 1)}
PUBLISHED = {
    "ggqpe": {},
    "ggqpe_ln_stem_bn_merge": {"stem_norm": "layer", "merge_norm": "batch"},
    "ggqpe_gamma_covariance": {"covariance": "free"},
    "ggqpe_isotropic": {"covariance": "isotropic"},
    "ggqpe_no_bias": {"token_bias": False},
    "glrpe": {"relation": "lrpe"},
    "lrpe_m": {"relation": "lrpe_m"} | ONE,
    "glrpe_m": {"relation": "lrpe_m"},
    "sgu": {"relation": "dense"} | ONE,
    "video_t4": {"num_frames": 4},
}


VIDEO = {name: value for name, value in SIZES.items() if name != "expansions"} | {"num_frames": 4}


def make_model(**overrides):
    """A model of the files' sizes; nothing of it is initialised, so that only what is loaded has a value.

    One of clips where `num_frames` is given.
    """
    name, sizes = ("posmlp_video_s", VIDEO) if "num_frames" in overrides else ("posmlp_t", SIZES)
    graph, state = nnx.split(nnx.eval_shape(lambda: create_model(name, **sizes | overrides)))
    return nnx.merge(graph, jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), state))


def load(name: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """State dict, input, features and logits; images as NHWC, clips as NTHWC and their features as N,(T·H·W),C."""
    with np.load(FOLDER / f"posmlp_{name}.npz") as file:
        prefix = "state_dict/"
        state_dict = {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}
        inputs, features = np.moveaxis(file["input"], 1, -1), file["features"]
        return state_dict, inputs, features if features.ndim == 3 else features.transpose(0, 2, 3, 1), file["logits"]


def test_every_file_is_tested():
    assert {path.stem.removeprefix("posmlp_") for path in FOLDER.glob("*.npz")} == set(PUBLISHED)


@pytest.mark.parametrize(("name", "overrides"), PUBLISHED.items(), ids=PUBLISHED)
def test_published_outputs(name, overrides):
    state_dict, images, features, logits = load(name)
    model = make_model(**overrides)
    load_published(model, state_dict)
    our_features, our_logits = jax.jit(lambda images: (model.features(images)[-1], model(images)))(images)
    if isinstance(model, PosMLPVideo):  # Written before its final norm.
        weights = (np.asarray(values[...], np.float64) for values in (model.norm.scale, model.norm.bias))
        features = naive.layer_norm(features.astype(np.float64), *weights, 1e-5).reshape(our_features.shape)
    naive.assert_close(our_features, features)
    naive.assert_close(our_logits, logits)


def test_what_is_not_learned_is_ignored():
    state_dict = load("ggqpe")[0]
    state_dict["levels.0.encoder.0.gate_unit.pos.rel_indices"] = np.zeros((1, 64, 64, 5))
    del state_dict["patch_embed.norms.0.num_batches_tracked"]
    load_published(make_model(), state_dict)


def test_without_temporal_parts():
    """What is left of a published state dict fills the image form, and as the whole does the video model."""
    state_dict = load("video_t4")[0]
    video, image = make_model(num_frames=4), make_model(num_frames=0, block="spatial")
    load_published(video, state_dict)
    load_published(image, {name: value for name, value in state_dict.items() if ".t_fc." not in name})
    ours, theirs = (nnx.to_flat_state(nnx.state(model, nnx.Param)) for model in (image, video))
    assert set(ours.paths) == {path for path in theirs.paths if "temporal" not in path}
    for path, value in ours:
        np.testing.assert_array_equal(value[...], dict(theirs)[path][...])


def assert_refused(model, state_dict, message: str) -> None:
    """With one line, and before anything was loaded."""
    with pytest.raises(CheckpointError, match=message) as error:
        load_published(model, state_dict)
    assert "\n" not in str(error.value)
    assert all(np.all(np.isnan(leaf)) for leaf in jax.tree.leaves(nnx.state(model)))


@pytest.mark.parametrize("name", ["ggqpe", "glrpe", "lrpe_m", "sgu", "video_t4"])
def test_missing_left_over_and_misshapen_parameters(name):
    """Each parameter in turn: without it, under another name, and with one number too many."""
    state_dict = {key: value for key, value in load(name)[0].items() if not key.endswith("num_batches_tracked")}
    model = make_model(**PUBLISHED[name])
    assert len(state_dict) > 60
    # One of each kind: those of the first level, the first merging and what is outside the levels.
    others = (
        "levels.2",
        "levels.3",
        "levels.1.encoder",
        "blocks2",
        "blocks3",
        "blocks4",
        "patch_embed3",
        "patch_embed4",
    )
    parameters = [key for key in state_dict if not key.startswith(others)]
    for key in parameters:
        rest = {other: value for other, value in state_dict.items() if other != key}
        assert_refused(model, rest, f"has no '{key}'")
        larger = np.zeros([n + 1 for n in state_dict[key].shape], np.float32)
        assert_refused(model, rest | {key: larger}, f"'{key}' has shape")
        assert_refused(model, rest | {key: state_dict[key][..., None]}, f"'{key}' has shape")
    assert_refused(model, state_dict | {"levels.9.new": np.zeros(3)}, "no place for 'levels.9.new' and 0 more")


@pytest.mark.parametrize(
    ("name", "overrides", "parameter"),
    [
        ("ggqpe", {"relation": "lrpe"}, "gate_unit.pos.window_relative_position_bias_table"),
        ("ggqpe", {"relation": "dense"} | ONE, "gate_unit.norm_list.0.weight"),
        ("ggqpe", {"gate_norm": True}, "gate_unit.norm_list.0.weight"),
        ("glrpe", {}, "gate_unit.pos.attention_centers"),
        ("glrpe", {"relation": "lrpe_m"}, "gate_unit.token_proj_n_weight"),
        ("glrpe_m", {"relation": "lrpe"}, "gate_unit.token_proj_n_weight"),
        ("sgu", {"relation": "dense"}, "levels.0.encoder.0.gate_unit.proj_list.0.weight"),
        ("sgu", {"relation": "dense", "gate_norm": False} | ONE, "gate_unit.norm_list.0.bias"),
        ("ggqpe", {"covariance": "isotropic"}, "gate_unit.pos.attention_spreads"),
        ("ggqpe", {"learn_center": False}, "gate_unit.pos.attention_centers"),
        ("ggqpe", {"stem_norm": "layer"}, "patch_embed.norms.0.running_mean"),
        ("ggqpe", {"num_classes": 11}, "head.weight"),
        ("ggqpe", {"num_classes": 0}, "head.bias"),
        ("ggqpe", {"depths": (1, 1, 1, 1)}, "levels.2.encoder.1."),
        ("ggqpe", {"windows": (4, 8, 8, 4)}, "levels.0.encoder.0.gate_unit.pos.token_proj_n_bias"),
        ("ggqpe", {"groups": (4, 4, 4, 8)}, "levels.0.encoder.0.gate_unit.pos.attention_centers"),
        ("ggqpe", {"stem": "linear"}, "stem='linear'"),
        ("ggqpe", {"merge": "linear"}, "merge='linear'"),
        ("ggqpe", {"absolute_position": True}, "absolute_position=True"),
        ("video_t4", {"num_frames": 4, "stem": "conv3d"}, "stem='conv3d'"),
        ("video_t4", {"num_frames": 4, "block": "joint"}, "block='joint'"),
        ("video_t4", {"num_frames": 4, "version": "v4"}, "version='v4'"),
        ("video_t4", {"num_frames": 4, "relation": "gqpe"}, "blocks1.0.t_fc.encoder.gate_unit.pos.attention_centers"),
        ("video_t4", {"num_frames": 8}, "blocks1.0.t_fc.encoder.gate_unit.pos.window_relative_position_bias_table"),
        ("video_t4", {"num_frames": 4, "block": "spatial"}, "blocks1.0.t_fc.encoder.fc1.bias"),
        ("video_t4", {"num_frames": 4, "expansion": 4}, "blocks1.0.t_fc.encoder.fc1.weight"),
        ("video_t4", {}, "patch_embed.projs.0.weight"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else value,
)
def test_another_architecture_is_refused(name, overrides, parameter):
    assert_refused(make_model(**overrides), load(name)[0], parameter.replace(".", r"\."))
