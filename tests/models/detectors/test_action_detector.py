"""ActionDetector against a head of loops in float64, on maps of sides that the stride does not divide."""

import functools

import jax
import jax.numpy as jnp
import naive
import naive_detection
import numpy as np
import pytest
from flax import nnx
from helpers import functional, randomized

from posmlp_jax import create_detector, create_model
from posmlp_jax.errors import ConfigError
from posmlp_jax.export import export_model
from posmlp_jax.models import model_config, parameter_count, registry
from posmlp_jax.models.cost import model_cost

NAME = "action_posmlp_video_s"
TINY = {
    "num_classes": 3,
    "num_frames": 3,
    "image_size": (40, 40),
    "widths": (8, 16),
    "depths": (1, 1),
    "windows": (4, 4),
    "groups": (2, 4),
    "drop_path": 0.0,
}
# Not multiples of the last map's stride, 8.
HEIGHT, WIDTH, STRIDE = 44, 65, 8
RANDOM = np.random.default_rng(0)
CLIPS = RANDOM.standard_normal((2, 3, HEIGHT, WIDTH, 3)).astype(np.float32)
# In the middle, at the borders, small, all of it, beyond it; one that is empty, as those that fill up a batch are.
BOXES = np.array(
    [
        [[10, 5, 40, 30], [0, 20, 9.5, 44], [30.2, 10.1, 33.3, 14.4], [0, 0, 65, 44]],
        [[20, 0, 65, 44], [-9, -5, 30, 60], [55, 36, 65, 44], [0, 0, 0, 0]],
    ],
    np.float32,
)


@functools.cache
def tiny(**overrides) -> nnx.Module:
    return randomized(lambda: create_detector(NAME, **TINY | overrides))


def see(detector: nnx.Module, clips=CLIPS, boxes=BOXES) -> tuple[jax.Array, jax.Array]:
    """The last map and the logits."""
    parameters, call = functional(detector, lambda detector, *args: (detector.features(args[0])[-1], detector(*args)))
    return jax.jit(call)(parameters, clips, boxes)


@pytest.mark.heavy
@pytest.mark.parametrize("side", [7, 3])
def test_against_loops(side):
    detector = tiny(box_side=side)
    maps, logits = see(detector)
    assert maps.shape == (2, 3, 6, 9, 16)
    kernel, bias = (np.asarray(x[...], np.float64) for x in (detector.head.classes.kernel, detector.head.classes.bias))
    for number, (map, boxes) in enumerate(zip(np.asarray(maps, np.float64), BOXES, strict=True)):
        average = sum(map) / len(map)
        for box, found in zip(boxes, logits[number], strict=True):
            bins = naive_detection.roi_align(average, box, side, 1 / STRIDE)
            largest = [max(bins[..., channel].ravel()) for channel in range(bins.shape[-1])]
            naive.assert_close(found, np.array(largest) @ kernel + bias, 1e-5)


@pytest.mark.heavy
def test_a_box_is_where_its_pixels_are():
    """What a pixel changes is in the box around it: had the map's sides the scale, it would be in another cell."""
    detector = tiny(windows=(1, 1), box_side=1)
    cells = np.arange(0, WIDTH, STRIDE)
    boxes = np.stack([cells, cells * 0 + 16, cells + STRIDE, cells * 0 + 24], axis=-1).astype(np.float32)[None]
    changed = CLIPS[:1].copy()
    changed[:, :, 16, 56] += 100  # The centre of a cell, which no other cell's convolutions see.
    before, after = (np.asarray(see(detector, clips, boxes)[1])[0] for clips in (CLIPS[:1], changed))
    np.testing.assert_array_equal(np.flatnonzero(np.any(after != before, axis=-1)), [56 // STRIDE])


def test_what_it_is():
    """A backbone with one linear layer; and what it costs is that of the backbone, but for what boxes take."""
    of_backbone = {name: value for name, value in TINY.items() if name != "num_classes"} | {"num_classes": 0}
    detector = registry.abstract_model(model_config(NAME, **TINY))
    backbone = registry.abstract_model(model_config("posmlp_video_s", **of_backbone))
    assert parameter_count(detector) - parameter_count(detector.head) == parameter_count(backbone)
    parameters, macs = model_cost(NAME, **TINY)
    assert parameters == parameter_count(detector)
    # RoIAlign's two products, of 5 × 5 and then 7 × 5 cells of 16 channels, and the head's.
    assert macs - model_cost("posmlp_video_s", **of_backbone)[1] == 16 * (7 * 5 * 5 + 7 * 7 * 5) + 16 * 3
    config = model_config(NAME).replace(backbone="posmlp_video_b", num_classes=4)
    assert (config.widths[0], config.num_classes, config.box_side) == (112, 4, 7)
    assert config.of_backbone == model_config("posmlp_video_b", num_classes=0)


@pytest.mark.heavy
def test_every_parameter_has_a_gradient_and_dropout_drops():
    detector = tiny(absolute_position=True)
    parameters, call = functional(
        detector, lambda net, seed: net(CLIPS, BOXES, train=True, rngs=nnx.Rngs(dropout=seed))
    )

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def compute(parameters, seed):
        logits = call(parameters, seed)
        return jnp.sum(logits * jnp.linspace(-1, 1, logits.size).reshape(logits.shape)), logits

    (_, logits), gradients = compute(parameters, jax.random.key(0))
    for parameter, gradient in gradients.items():
        assert np.all(np.isfinite(gradient)), parameter
        assert np.any(gradient), parameter
    assert np.any(np.asarray(compute(parameters, jax.random.key(1))[0][1]) != np.asarray(logits))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"backbone": "posmlp_t"}, "an action detector takes clips, and backbone 'posmlp_t' images"),
        ({"backbone": "posmlp_video_s_image"}, "an action detector takes clips, and backbone 'posmlp_video_s_image' i"),
        ({"num_classes": 0}, "num_classes 0 should be 1 or more"),
        ({"box_side": 0}, "box_side 0 should be 1 or more"),
        ({"box_dropout": 1.0}, "box_dropout 1.0 should be at least 0 and less than 1"),
        ({"fpn_width": 8}, "unknown field 'fpn_width' of ActionDetectorPosMLPVideoConfig"),
    ],
    ids=str,
)
def test_mistakes(overrides, message):
    with pytest.raises(ConfigError, match=message) as error:
        create_detector(NAME, **overrides)
    assert "\n" not in str(error.value)


def test_wrong_calls():
    with pytest.raises(ConfigError, match="'action_posmlp_video_s' is a detector, which create_detector makes"):
        create_model(NAME)
    detector = registry.abstract_model(model_config(NAME, **TINY))
    for boxes in (BOXES[0], BOXES[:1], BOXES[..., :3]):
        with pytest.raises(ConfigError, match=r"boxes should be \[batch, n, 4\] of 2 clips, not \("):
            jax.eval_shape(lambda detector, *args: detector(*args), detector, CLIPS, boxes)
    with pytest.raises(ConfigError, match=r"a detector of actions takes boxes beside clips, .* with --features"):
        export_model(detector)
    with pytest.raises(ConfigError, match="train=True with box_dropout needs rngs"):
        jax.eval_shape(lambda detector, *args: detector(*args, train=True), detector, CLIPS, BOXES)
