"""What feeds a place: receptive fields against forward-mode derivatives, mixing against float64 loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import last_names, randomized, small
from naive import assert_close, mix_map, relation_matrix

from posmlp_jax.analysis import find_units, mixing, noise, receptive_field
from posmlp_jax.analysis.reach import map_sizes
from posmlp_jax.errors import ConfigError
from posmlp_jax.layers import gelu
from posmlp_jax.models import create_model
from posmlp_jax.windows import merge, partition, window_layout

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def image_model():
    """Maps of 7 × 9 tokens in windows of 4 × 3, every second block's shifted: with padding, seams and masks."""
    changes = {"image_size": (28, 36), "windows": ((4, 3), (2, 2)), "depths": (2, 1), "shift_windows": True}
    return randomized(lambda: create_model("posmlp_t", **{**small("posmlp_t"), **changes}))


@pytest.fixture(scope="module")
def video_model():
    changes = {"num_frames": 4, "image_size": 16, "windows": (3, 2)}
    return randomized(lambda: create_model("posmlp_video_s", **{**small("posmlp_video_s"), **changes}))


def features_of(model):
    graph, state = nnx.split(model)
    return jax.jit(lambda images: nnx.merge(graph, state).features(images))


@pytest.mark.parametrize(("kind", "stage", "place"), [("image", 2, None), ("video", 2, (1, 0, 1))])
def test_receptive_field_is_the_norm_of_the_jacobian(kind, stage, place, request):
    model = request.getfixturevalue(f"{kind}_model")
    images = noise(model, 2)
    # As many directions as channels: nothing is estimated.
    field = receptive_field(model, images, stage=stage, place=place, directions=1000)
    assert field.shape == model.config.input_size
    features = features_of(model)
    size = features(images)[stage - 1].shape[1:-1]
    place = tuple(side // 2 for side in size) if place is None else place
    along = jax.jit(lambda tangent: jax.jvp(features, (images,), (tangent,))[1][stage - 1][(slice(None), *place)])
    strongest = np.unravel_index(field.argmax(), field.shape)
    for pixel in (strongest, tuple(side // 2 for side in field.shape), (0,) * field.ndim):
        squares = [
            np.sum(
                np.asarray(along(jnp.zeros_like(images).at[(slice(None), *pixel, colour)].set(1.0)), np.float64) ** 2
            )
            for colour in range(3)
        ]
        # Pixels of one image do not touch the other's features, so both can be moved at once; the mean is of two.
        assert field[pixel] == pytest.approx(np.sqrt(sum(squares) / 2), rel=1e-4, abs=1e-7)


def test_a_few_directions_estimate_it(image_model):
    images = noise(image_model, 2)
    exact, estimate = (receptive_field(image_model, images, stage=2, directions=count) for count in (1000, 8))
    assert np.sum(estimate**2) == pytest.approx(np.sum(exact**2), rel=0.5)
    assert np.corrcoef(exact.ravel(), estimate.ravel())[0, 1] > 0.9


def test_pixels_of_other_windows_do_not_count():
    model = randomized(lambda: create_model("posmlp_t", **{**small("posmlp_t"), "image_size": 48, "stem": "linear"}))
    field = receptive_field(model, noise(model, 1), stage=1, place=(4, 4), directions=2)
    inside = np.zeros(field.shape, bool)
    inside[12:24, 12:24] = True  # Windows of 3 × 3 tokens, tokens of 4 × 4 pixels.
    assert (field[inside] > 0).all()
    assert (field[~inside] == 0).all()


@pytest.mark.parametrize(("block", "place"), [(1, (6, 8)), (2, (1, 1)), (2, (3, 4))])
def test_mixing_of_windows(image_model, block, place):
    """Its weights are what `mix_map` takes, and the contributions those times the tokens; windows plain and shifted."""
    model, images = image_model, noise(image_model, 1)
    x = model.stem(images)
    if block == 2:
        layout = window_layout(x.shape[1:-1], model.stages[0].window)
        x = merge(model.stages[0].blocks[0](partition(x, layout), layout), layout)
    owner = model.stages[0].blocks[block - 1]
    tokens = np.asarray(gelu(owner.expand(owner.norm(x)))[0], np.float64)
    tokens = tokens[..., : tokens.shape[-1] // 2]
    groups, channels = owner.gate.relation.groups, tokens.shape[-1]
    leaves = nnx.to_flat_state(nnx.state(owner.gate.relation, nnx.Param))
    relation = last_names({str(path[-1]): leaf[...] for path, leaf in leaves})
    window, shifted = model.stages[0].window, block == 2
    found = mixing(model, images, find_units(model, stage=1), place)[block - 1]
    # A token's weight is what a one at it, and zero elsewhere, gives the place.
    weights = np.zeros(found.weights.shape)
    for key in np.ndindex(*tokens.shape[:-1]):
        one = np.zeros((*tokens.shape[:-1], groups))
        one[key] = 1
        if found.weights[(slice(None), *key)].any() or key == place:
            weights[(slice(None), *key)] = mix_map(one, relation, "gqpe", window, groups, shifted=shifted)[place]
    assert_close(found.weights, weights)
    # All that is mixed at the place comes from tokens with a weight.
    whole = mix_map(tokens, relation, "gqpe", window, groups, shifted=shifted)[place]
    parts = tokens.reshape(*tokens.shape[:-1], groups, channels // groups)
    assert_close(np.einsum("ghw,hwgc->gc", found.weights.astype(np.float64), parts).ravel(), whole)
    assert_close(found.contributions, np.abs(weights) * np.moveaxis(np.linalg.norm(parts, axis=-1), -1, 0))


def test_mixing_over_frames(video_model):
    model, images, place = video_model, noise(video_model, 1), (1, 2, 3)
    x = model.stem(images)
    units = find_units(model, stage=1)
    temporal, spatial = mixing(model, images, units, place)
    owner = model.stages[0].blocks[0].temporal
    tokens = np.asarray(gelu(owner.expand(owner.norm(x)))[0], np.float64)[:, 2, 3]
    tokens = tokens[:, : tokens.shape[-1] // 2].reshape(4, 2, -1)
    table = {"table": np.asarray(owner.gate.relation.table[...], np.float64)}
    weights = relation_matrix(table, "lrpe", (4,), 2)[:, 1]
    assert_close(temporal.weights[:, :, 2, 3], weights)
    assert_close(temporal.contributions[:, :, 2, 3], np.abs(weights) * np.linalg.norm(tokens, axis=-1).T)
    elsewhere = np.ones((4, 4), bool)
    elsewhere[2, 3] = False
    assert not temporal.weights[:, :, elsewhere].any()
    # Windows of 3 × 3 of one frame: the place is alone in the last of them but for the row above it and its own.
    assert set(map(tuple, np.argwhere(spatial.weights[0]).tolist())) == {(1, row, 3) for row in range(3)}


def test_images_of_another_size():
    """Their maps are larger, and so are the places that there are."""
    model = randomized(lambda: create_model("posmlp_t", **small("posmlp_t")))
    images = jax.random.normal(jax.random.key(0), (1, 40, 52, 3))
    assert map_sizes(model, images) == [(10, 13), (5, 7)]
    (found,) = mixing(model, images, find_units(model, stage=1), (9, 12))
    # Alone in the last, padded window.
    assert found.weights.shape == (2, 10, 13)
    assert set(map(tuple, np.argwhere(found.weights[0]).tolist())) == {(9, 12)}


def test_what_there_is_not(image_model, video_model):
    images = noise(image_model, 1)
    units = find_units(image_model, stage=1)
    for call, message in (
        (lambda: receptive_field(image_model, images, stage=3), "no stage 3"),
        (lambda: receptive_field(image_model, images, stage=1, place=(7, 0)), "rows 0 to 6 and columns 0 to 8"),
        (lambda: receptive_field(image_model, images, place=(0, 0, 0)), "no place 0,0,0 in the map of stage 2"),
        (lambda: receptive_field(image_model, noise(video_model)), r"images should be float \[batch, height"),
        (lambda: mixing(video_model, images, find_units(video_model, stage=1)), "clips should be float"),
        (lambda: mixing(image_model, images, units, (0, 9)), "no place 0,9 in the map of stage 1"),
        (lambda: mixing(image_model.fold(), images, units), "a folded model is for inference"),
        (lambda: mixing(image_model, images, find_units(image_model)), "units of stages 1 and 2; give those of one"),
        (lambda: mixing(image_model, images[0], units), r"height, width, 3\], not float32 \(28, 36, 3\)"),
        (lambda: mixing(image_model, images, []), "units of stages none; give those of one"),
        (lambda: receptive_field(image_model, noise(image_model, 0)), "there is no pixel in images of shape"),
        (lambda: mixing(image_model, noise(image_model, 2), units), "one image or clip, not 2"),
        (lambda: receptive_field(image_model, images, directions=0), "directions is 0, and should be 1 or more"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
