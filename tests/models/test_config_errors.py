"""What a model says to what it cannot be built with or applied to: one line that names the field and what would do."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from posmlp_jax import create_model
from posmlp_jax.errors import ConfigError
from posmlp_jax.models import model_config


def case(name: str, overrides: dict, *parts: str):
    return pytest.param(name, overrides, parts, id="-".join([name, *map(str, overrides.items())]))


T, GMLP, VIDEO = "posmlp_t", "gmlp_s", "posmlp_video_s"
CASES = [
    # Unknown names, with the nearest.
    case("posmlp_x", {}, "unknown model 'posmlp_x'", "did you mean 'posmlp_t'?"),
    case(
        "resnet",
        {},
        "unknown model 'resnet'",
        "gmlp_b, gmlp_s, mask_rcnn_posmlp_s, mask_rcnn_posmlp_t, posmlp_b, posmlp_s, posmlp_t",
    ),
    case(T, {"width": (96,)}, "unknown field 'width' of PosMLPConfig", "did you mean 'widths'?"),
    case(T, {"droppath": 0.1}, "unknown field 'droppath'", "did you mean 'drop_path'?"),
    case(GMLP, {"widths": (96,)}, "unknown field 'widths' of GMLPConfig", "did you mean 'width'?"),
    # Groups: the stage, the numbers, and those that would do.
    case(
        T,
        {"groups": (8, 16, 32, 7)},
        "stage 4: groups 7 do not divide the 768 mixed channels",
        "width 768, expansion 2",
        "these would: 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 768",
    ),
    case(T, {"groups": (8, 5, 32, 64)}, "stage 2: groups 5 do not divide the 384 mixed channels"),
    case(T, {"groups": (0, 16, 32, 64)}, "groups (0, 16, 32, 64)", "1 or more"),
    case(T, {"groups": (384, 16, 32, 64)}, "stage 1: groups 384 do not divide the 192 mixed channels"),
    case(GMLP, {"groups": 7}, "groups 7 do not divide the 768 mixed channels", "width 256, expansion 6"),
    case(GMLP, {"groups": 0}, "groups 0 do not divide"),
    case(GMLP, {"width": 255, "expansion": 1}, "width 255 times expansion 1 should be even"),
    case(VIDEO, {"groups": (8, 16, 32, 5)}, "stage 4: groups 5 do not divide the 576 mixed channels"),
    case(
        VIDEO,
        {"version": "v2"},
        "stage 1: groups 8 do not divide the 36 mixed channels",
        "1, 2, 3, 4, 6, 9, 12, 18, 36",
    ),
    case(
        VIDEO,
        {"version": "v2", "widths": (9, 18), "depths": (1, 1), "windows": (7, 7), "groups": (1, 1)},
        "stage 1: width 9 times expansion 2 should be a multiple of 4, to be split in 4",
    ),
    # What goes with images, and what with clips.
    case(VIDEO, {"num_frames": 0}, "num_frames 0 makes a model of images", "block 'parallel'", "should be 'spatial'"),
    case(VIDEO, {"num_frames": 0, "block": "spatial", "stem": "conv3d"}, "stem 'conv3d' should be"),
    case(VIDEO, {"num_frames": -1}, "num_frames -1 should be 0 (images) or more"),
    case(VIDEO, {"block": "joint", "version": "v3"}, "version 'v3' is one of block 'parallel', and block is 'joint'"),
    case(
        "posmlp_video_s_image", {"num_frames": 8, "block": "joint", "expansion": 0}, "expansion 0 should be 1 or more"
    ),
    # Names of choices.
    case(VIDEO, {"block": "temporal-spatial"}, "block 'temporal-spatial'", "did you mean 'temporal_spatial'?"),
    case(VIDEO, {"version": "v5"}, "version 'v5'"),
    case(VIDEO, {"stem": "conv"}, "stem 'conv'", "did you mean 'conv"),
    case(
        VIDEO,
        {"expansions": (2, 2, 2, 2)},
        "unknown field 'expansions' of PosMLPVideoConfig",
        "did you mean 'expansion'?",
    ),
    case(VIDEO, {"depths": (3, 4)}, "depths has 2 values and widths 4"),
    case(VIDEO, {"num_frames": 16.0}, "num_frames 16.0 should be of type int"),
    case(T, {"relation": "gqp"}, "relation 'gqp'", "did you mean 'gqpe'?"),
    case(T, {"relation": "sgu"}, "relation 'sgu'", "known: dense, gqpe, lrpe, lrpe_m"),
    case(T, {"covariance": "iso"}, "covariance 'iso'", "did you mean 'isotropic'?"),
    case(T, {"gate": "mul"}, "gate 'mul'", "did you mean 'multiply'?"),
    case(T, {"stem": "con"}, "stem 'con'", "did you mean 'conv'?"),
    case(T, {"stem_norm": "bach"}, "stem_norm 'bach'", "did you mean 'batch'?"),
    case(T, {"merge": "pool"}, "merge 'pool'", "known: conv, linear"),
    case(T, {"merge_norm": "layers"}, "merge_norm 'layers'", "did you mean 'layer'?"),
    case(T, {"dtype": "float99"}, "dtype 'float99'", "float32, bfloat16 or float64"),
    case(T, {"dtype": "int32"}, "dtype 'int32'", "float32, bfloat16 or float64"),
    # Lengths.
    case(T, {"depths": (2, 2, 18)}, "depths has 3 values and widths 4"),
    case(T, {"windows": (14,) * 5}, "windows has 5 values and widths 4"),
    case(T, {"groups": ()}, "groups has 0 values and widths 4"),
    case(T, {"widths": ()}, "widths has 0 values"),
    # Sizes.
    case(T, {"image_size": 0}, "image_size 0", "positive integer or (height, width)"),
    case(T, {"image_size": (224, -1)}, "image_size (224, -1)"),
    case(T, {"image_size": (224, 224, 3)}, "image_size (224, 224, 3)"),
    case(T, {"num_classes": -1}, "num_classes -1", "0 (no head) or more"),
    case(T, {"depths": (2, 2, 0, 2)}, "depths (2, 2, 0, 2) should all be 1 or more"),
    case(T, {"expansions": (4, 4, 4, -2)}, "expansions (4, 4, 4, -2) should all be 1 or more"),
    case(T, {"widths": (-96, -192, -384, -768)}, "widths (-96, -192, -384, -768) should all be 1 or more"),
    case(T, {"widths": (96, 192, 384, 700)}, "widths (96, 192, 384, 700) should double from stage to stage"),
    case(T, {"windows": (14, 14, 14, 0)}, "windows", "positive side or (height, width)"),
    case(T, {"windows": (14, 14, 14, (7,))}, "windows", "positive side or (height, width)"),
    case(T, {"windows": (14, 14, 14, (7, -7))}, "windows", "positive side or (height, width)"),
    case(GMLP, {"patch": 0}, "patch 0 should be 1 or more"),
    case(GMLP, {"width": -256}, "width -256 should be 1 or more"),
    case(GMLP, {"depth": 0}, "depth 0 should be 1 or more"),
    case(GMLP, {"image_size": (224, 230)}, "image_size (224, 230) should be a multiple of patch 16"),
    case(T, {"dropout": 1.0}, "dropout 1.0 should be at least 0 and less than 1"),
    case(T, {"drop_path": -0.1}, "drop_path -0.1 should be at least 0 and less than 1"),
    # Types, which a command line gets wrong easily.
    case(T, {"widths": 96}, "widths 96 should be of type tuple[int, ...]"),
    case(T, {"depths": "2222"}, "depths '2222' should be of type tuple[int, ...]"),
    case(T, {"depths": (2, 2, 18, 1.5)}, "depths (2, 2, 18, 1.5) should be of type tuple[int, ...]"),
    case(T, {"windows": 14}, "windows 14 should be of type tuple[int | tuple[int, int], ...]"),
    case(T, {"image_size": 224.0}, "image_size 224.0 should be of type int | tuple[int, int]"),
    case(T, {"image_size": None}, "image_size None should be of type"),
    case(T, {"num_classes": "10"}, "num_classes '10' should be of type int"),
    case(T, {"num_classes": True}, "num_classes True should be of type int"),
    case(T, {"dropout": "0.1"}, "dropout '0.1' should be of type float"),
    case(T, {"split": "no"}, "split 'no' should be of type bool"),
    case(T, {"remat": 1}, "remat 1 should be of type bool"),
    case(T, {"gate_norm": "None"}, "gate_norm 'None' should be of type bool | None"),
    case(T, {"relation": None}, "relation None should be of type str"),
    case(T, {"dtype": None}, "dtype"),
]


@pytest.mark.parametrize(("name", "overrides", "parts"), CASES)
def test_config(name, overrides, parts):
    with pytest.raises(ConfigError) as error:
        model_config(name, **overrides)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_create_model_says_the_same():
    with pytest.raises(ConfigError, match="stage 4: groups 7 do not divide"):
        create_model(T, groups=(8, 16, 32, 7))


def test_what_is_given_in_other_forms_is_understood():
    """Lists, as JSON has them; one side for a square; an integer for a float; a dtype for its name."""
    config = model_config(T, image_size=[64, 96], depths=[1, 1, 1, 1], windows=[[7, 14], 14, 14, 7], dropout=0)
    assert config.image_size == (64, 96)
    assert config.depths == (1, 1, 1, 1)
    assert config.windows == ((7, 14), (14, 14), (14, 14), (7, 7))
    assert model_config(T, dtype=jnp.bfloat16).dtype == "bfloat16"
    assert model_config(T, image_size=64).image_size == (64, 64)
    assert hash(config) == hash(
        model_config(T, image_size=(64, 96), depths=(1,) * 4, windows=config.windows, dropout=0)
    )


@pytest.fixture(scope="module", params=["posmlp_t", "gmlp_s"])
def model(request):
    small = {"widths": (8,), "depths": (1,), "expansions": (2,), "windows": (4,), "groups": (1,)}
    if request.param == "gmlp_s":
        small = {"width": 8, "depth": 1}
    return nnx.eval_shape(lambda: create_model(request.param, image_size=32, **small))


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((32, 32, 3), jnp.float32, r"float \[batch, height, width, 3\], not float32 \(32, 32, 3\)"),
        ((1, 3, 32, 32), jnp.float32, r"not float32 \(1, 3, 32, 32\)"),
        ((1, 32, 32, 1), jnp.float32, r"not float32 \(1, 32, 32, 1\)"),
        ((1, 32, 32, 3), jnp.uint8, r"not uint8 \(1, 32, 32, 3\)"),
        ((32,), jnp.float32, r"not float32 \(32,\)"),
    ],
    ids=str,
)
def test_images(model, shape, dtype, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(lambda model, images: model(images), model, jax.ShapeDtypeStruct(shape, dtype))


def test_gmlp_takes_one_image_size():
    model = nnx.eval_shape(lambda: create_model("gmlp_s", image_size=(32, 48), width=8, depth=1))
    with pytest.raises(ConfigError, match=r"its image_size \(32, 48\), not \(48, 32\)"):
        jax.eval_shape(lambda model, x: model(x), model, jax.ShapeDtypeStruct((1, 48, 32, 3), jnp.float32))


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((2, 32, 32, 3), jnp.float32, r"float \[batch, frames, height, width, 3\], not float32 \(2, 32, 32, 3\)"),
        ((1, 4, 32, 32, 1), jnp.float32, r"not float32 \(1, 4, 32, 32, 1\)"),
        ((1, 4, 32, 32, 3), jnp.uint8, r"not uint8 \(1, 4, 32, 32, 3\)"),
        ((1, 5, 32, 32, 3), jnp.float32, "this model takes clips of its num_frames 4, not 5"),
        ((1, 4, 36, 32, 3), jnp.float32, r"its image_size \(32, 32\), not \(36, 32\)"),
    ],
    ids=str,
)
def test_clips(shape, dtype, message):
    small = {"widths": (8,), "depths": (1,), "windows": (4,), "groups": (1,), "absolute_position": True}
    model = nnx.eval_shape(lambda: create_model(VIDEO, num_frames=4, image_size=32, **small))
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(lambda model, clips: model(clips), model, jax.ShapeDtypeStruct(shape, dtype))


def test_an_image_model_takes_no_clips():
    model = nnx.eval_shape(lambda: create_model("posmlp_video_s_image"))
    with pytest.raises(ConfigError, match=r"images should be float \[batch, height, width, 3\], not float32 \(1, 16,"):
        jax.eval_shape(lambda m, clips: m(clips), model, jax.ShapeDtypeStruct((1, 16, 224, 224, 3), jnp.float32))
