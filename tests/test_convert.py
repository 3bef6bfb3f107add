"""The authors' published models, loaded into ours, give what the authors' code gives (reference_outputs/README.md)."""

from pathlib import Path

import jax
import naive
import numpy as np
import pytest
from flax import nnx
from helpers import OPTIMIZED, randomized
from published_buffers import ENDS, with_buffers

from posmlp_jax import create_model
from posmlp_jax.convert import load_torch_state_dict, torch_state_dict
from posmlp_jax.errors import CheckpointError
from posmlp_jax.models import PosMLPVideo

pytestmark = pytest.mark.heavy

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
    return nnx.merge(graph, jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan, leaf.dtype), state))


def load(name: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """State dict as a real file has it, with every buffer, input, features and logits.

    Images are NHWC, clips NTHWC and their features N,(T·H·W),C.
    """
    with np.load(FOLDER / f"posmlp_{name}.npz") as file:
        prefix = "state_dict/"
        state_dict = with_buffers({key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)})
        inputs, features = np.moveaxis(file["input"], 1, -1), file["features"]
        return state_dict, inputs, features if features.ndim == 3 else features.transpose(0, 2, 3, 1), file["logits"]


def test_every_file_is_tested():
    assert {path.stem.removeprefix("posmlp_") for path in FOLDER.glob("posmlp_*.npz")} == set(PUBLISHED)


@pytest.mark.parametrize(("name", "overrides"), PUBLISHED.items(), ids=PUBLISHED)
def test_published_outputs(name, overrides):
    state_dict, images, features, logits = load(name)
    empty = make_model(**overrides)
    model = load_torch_state_dict(empty, state_dict)
    assert all(np.all(np.isnan(leaf)) for leaf in jax.tree.leaves(nnx.state(empty)))  # It is left as it was.
    forward = jax.jit(lambda images: (model.features(images)[-1], model(images)), compiler_options=OPTIMIZED)
    our_features, our_logits = forward(images)
    if isinstance(model, PosMLPVideo):  # Written before its final norm.
        weights = (np.asarray(values[...], np.float64) for values in (model.norm.scale, model.norm.bias))
        features = naive.layer_norm(features.astype(np.float64), *weights, 1e-5).reshape(our_features.shape)
    naive.assert_close(our_features, features)
    naive.assert_close(our_logits, logits)


def learned(state_dict):
    return {name: value for name, value in state_dict.items() if not name.endswith(ENDS)}


@pytest.mark.parametrize(("name", "levels"), [("ggqpe", 5), ("glrpe", 5), ("sgu", 0), ("video_t4", 10)])
def test_what_is_not_learned_is_passed_over(name, levels):
    """With or without it, in any type, as an average has it, and whatever it says; but nothing that is learned."""
    state_dict = load(name)[0]
    buffers = {key: value for key, value in state_dict.items() if key.endswith(ENDS)}
    assert sum(key.endswith(ENDS[:2]) for key in buffers) == levels
    parameters, model = learned(state_dict), make_model(**PUBLISHED[name])
    expected = load_torch_state_dict(model, parameters)
    # What half a million steps of the published moving average make of whole numbers, in float32.
    averaged = {key: value * np.float32(1.0002) for key, value in buffers.items()}
    for others in (
        buffers,
        averaged,
        {key: value.astype(np.int32) for key, value in buffers.items()},
        {key: np.zeros((1, 2), np.float16) for key in buffers},
    ):
        assert_same_parameters(load_torch_state_dict(model, parameters | others), expected)
    for end in ENDS:  # Numbers that are not whole are no index and no counter; nor is a name in the middle.
        random = {f"levels.0{end}": np.array([0.0, 0.3]), f"levels.0{end}.weight": np.zeros(2, np.int64)}
        left = "2 that the model has no place for: " + ", ".join(random)
        assert_refused(model, parameters | random, left)


def test_without_temporal_parts():
    """What is left of a published state dict fills the image form, and as the whole does the video model."""
    state_dict = load("video_t4")[0]
    video = load_torch_state_dict(make_model(num_frames=4), state_dict)
    image = load_torch_state_dict(
        make_model(num_frames=0, block="spatial"),
        {name: value for name, value in state_dict.items() if ".t_fc." not in name},
    )
    ours, theirs = (nnx.to_flat_state(nnx.state(model, nnx.Param)) for model in (image, video))
    assert set(ours.paths) == {path for path in theirs.paths if "temporal" not in path}
    for path, value in ours:
        np.testing.assert_array_equal(value[...], dict(theirs)[path][...])


def test_models_saved_by_several_devices_and_in_other_types():
    state_dict = load("glrpe")[0]
    model = make_model(**PUBLISHED["glrpe"])
    wrapped = {f"module.{name}": value.astype(np.float64) for name, value in state_dict.items()}
    assert_same_parameters(load_torch_state_dict(model, wrapped), load_torch_state_dict(model, state_dict))


def assert_same_parameters(model, other) -> None:
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), nnx.state(other))


@pytest.mark.parametrize("name", PUBLISHED)
def test_there_and_back(name):
    """Theirs to ours to theirs, buffers and all, to the last bit; and what theirs makes of ours is ours again."""
    state_dict = load(name)[0]
    model = load_torch_state_dict(make_model(**PUBLISHED[name]), state_dict)
    back = torch_state_dict(model)
    assert_same_parameters(load_torch_state_dict(make_model(**PUBLISHED[name]), back), model)
    assert set(back) == set(state_dict)
    for key, value in state_dict.items():
        assert (back[key].dtype, back[key].shape) == (value.dtype, value.shape), key
        if name == "ggqpe_isotropic" and "attention_" in key:
            continue  # a and Δ become 1 and aΔ, which is the same function.
        expected = np.zeros_like(value) if name == "ggqpe_no_bias" and "token_proj_n_bias" in key else value
        np.testing.assert_array_equal(back[key], expected, err_msg=key)


def test_the_isotropic_form_back():
    """The published logits, a·Δ·δ − ½|δ|² with a = spread², are the same from what comes back."""
    state_dict = load("ggqpe_isotropic")[0]
    back = torch_state_dict(load_torch_state_dict(make_model(**PUBLISHED["ggqpe_isotropic"]), state_dict))
    name = "levels.2.encoder.1.gate_unit.pos.attention_"
    for arrays in (state_dict, back):
        arrays[name + "product"] = arrays[name + "spreads"][:, None] ** 2 * arrays[name + "centers"]
    np.testing.assert_allclose(back[name + "product"], state_dict[name + "product"], rtol=1e-6)
    ours = randomized(lambda: create_model("posmlp_t", **SIZES, covariance="isotropic"))
    with pytest.raises(CheckpointError, match="its α multiplies"):
        torch_state_dict(ours)


def test_ours_to_theirs_and_back():
    """A model of ours, with options that the files do not have, by an independent look at two of its tables."""
    ours = randomized(lambda: create_model("posmlp_t", **SIZES | {"gate": "concat", "learn_center": False}))
    state_dict = torch_state_dict(ours)
    block, groups = ours.stages[0].blocks[0], 2
    mixed = block.expand.kernel[...].shape[1] // 2
    for channel in range(mixed):  # Channel c of theirs is in group c mod s, at place c // s of it.
        place = (channel % groups) * (mixed // groups) + channel // groups
        theirs = state_dict["levels.0.encoder.0.proj_c_e.weight"]
        np.testing.assert_array_equal(theirs[channel], block.expand.kernel[:, place])
        np.testing.assert_array_equal(theirs[mixed + channel], block.expand.kernel[:, mixed + place])
        theirs = state_dict["levels.0.encoder.0.proj_c_s.weight"]
        np.testing.assert_array_equal(theirs[:, mixed + channel], block.project.kernel[mixed + place])
    assert not state_dict["levels.0.encoder.0.gate_unit.pos.attention_centers"].any()
    empty = make_model(gate="concat", learn_center=False)
    assert_same_parameters(load_torch_state_dict(empty, state_dict), ours)


def test_models_that_were_not_published():
    with pytest.raises(CheckpointError, match="no published checkpoints of a GMLP"):
        torch_state_dict(nnx.eval_shape(lambda: create_model("gmlp_s", depth=1)))


def assert_refused(model, state_dict, *messages: str) -> None:
    """With one line that says all of it."""
    with pytest.raises(CheckpointError) as error:
        load_torch_state_dict(model, state_dict)
    text = str(error.value)
    assert "\n" not in text
    for message in messages:
        assert message in text


@pytest.mark.parametrize("name", ["ggqpe", "glrpe", "lrpe_m", "sgu", "video_t4"])
def test_missing_left_over_and_misshapen_parameters(name):
    """Each parameter in turn under another name, with one number too many, and with one more axis."""
    state_dict = learned(load(name)[0])
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
        value = state_dict[key]
        rest = {other: value for other, value in state_dict.items() if other != key}
        assert_refused(model, rest | {"new": value}, f"1 missing: {key}", "1 that the model has no place for: new")
        larger = np.zeros([n + 1 for n in value.shape], np.float32)
        assert_refused(model, rest | {key: larger}, f"1 of another shape: '{key}' is {larger.shape} and should be")
        assert_refused(model, rest | {key: value[..., None]}, f"1 of another shape: '{key}'")
    names = list(state_dict)[::5]
    rest = {key: value for key, value in state_dict.items() if key not in names}
    assert_refused(model, rest, f"{len(names)} missing: ", *names)


@pytest.mark.parametrize(
    ("name", "overrides", "parameter"),
    [
        ("ggqpe", {"relation": "lrpe"}, "gate_unit.pos.window_relative_position_bias_table"),
        ("ggqpe", {"relation": "dense"} | ONE, "gate_unit.norm_list.0.weight"),
        ("ggqpe", {"gate_norm": True}, "gate_unit.norm_list.0.weight"),
        ("glrpe", {}, "gate_unit.pos.attention_centers"),
        ("glrpe", {"relation": "lrpe_m"}, "gate_unit.token_proj_n_weight"),
        ("glrpe_m", {"relation": "lrpe"}, "gate_unit.token_proj_n_weight"),
        ("sgu", {"relation": "dense"}, "a dense relation in groups, as 'levels.0.encoder.0.gate_unit'"),
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
        ("video_t4", {"num_frames": 4, "relation": "gqpe"}, "the quadratic relation over time, as 'blocks1.0.t_fc."),
        ("video_t4", {"num_frames": 8}, "blocks1.0.t_fc.encoder.gate_unit.pos.window_relative_position_bias_table"),
        ("video_t4", {"num_frames": 4, "block": "spatial"}, "blocks1.0.t_fc.encoder.fc1.bias"),
        ("video_t4", {"num_frames": 4, "expansion": 4}, "blocks1.0.t_fc.encoder.fc1.weight"),
        ("video_t4", {}, "patch_embed.projs.0.weight"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else value,
)
def test_another_architecture_is_refused(name, overrides, parameter):
    assert_refused(make_model(**overrides), load(name)[0], parameter)
