"""RetinaNet and Mask R-CNN by name: their sizes, what they start from, what they find in made-up predictions."""

from functools import partial

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from helpers import functional
from tiny_detectors import fields, see, tiny

from posmlp_jax import create_detector, create_model, list_detectors, list_models
from posmlp_jax.errors import ConfigError
from posmlp_jax.models import model_config, parameter_count, registry
from posmlp_jax.models.detectors import Detections, MaskedDetections

# The backbones' (`test_registry.PARAMETERS`) without their heads, and mmdetection's necks and heads for 80 classes.
PARAMETERS = {
    "retinanet_posmlp_t": 31_094_638,
    "mask_rcnn_posmlp_t": 40_430_442,
    "retinanet_posmlp_s": 47_434_062,
    "mask_rcnn_posmlp_s": 56_188_234,
    # The backbones' for 80 classes: the head has nothing else to learn.
    "action_posmlp_video_s": 13_455_299,
    "action_posmlp_video_s_32": 13_457_243,
    "action_posmlp_video_b": 44_956_488,
    "action_posmlp_video_b_32": 44_959_512,
}
DETECTORS = pytest.mark.parametrize("name", list_detectors())
BOTH = pytest.mark.parametrize("name", ["retinanet_posmlp_t", "mask_rcnn_posmlp_t"])


def abstract(name: str, **overrides) -> nnx.Module:
    return registry.abstract_model(model_config(name, **overrides))


def shapes(call, detector, *args):
    return jax.eval_shape(call, detector, *args)


def images(*size: int, batch: int = 2):
    return jax.ShapeDtypeStruct((batch, *size, 3), jnp.float32)


# Sizes


def test_names():
    assert set(list_detectors()) == set(PARAMETERS)
    assert not set(list_detectors()) & set(list_models())


@DETECTORS
def test_parameter_count(name):
    assert parameter_count(abstract(name)) == PARAMETERS[name]


def test_parameters_by_hand():
    """A backbone has those of its model without a head; all else is in `head`."""
    detector, backbone = abstract("retinanet_posmlp_t"), abstract("posmlp_t", num_classes=0)
    assert parameter_count(detector) - parameter_count(detector.head) == parameter_count(backbone)
    names, known = (
        {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(m))} for m in (detector, backbone)
    )
    assert {name for name in names if not name.startswith("head.")} == known


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("retinanet_posmlp_t", [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]),
        ("mask_rcnn_posmlp_t", [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]),
    ],
)
def test_pyramid(name, levels):
    detector = abstract(name)
    pyramid = shapes(lambda detector, x: detector.pyramid(x), detector, images(800, 1344))
    assert [level.shape for level in pyramid] == [(2, *size, 256) for size in levels]
    anchors = detector.anchors(levels)
    assert sum(map(len, anchors)) == sum(h * w for h, w in levels) * (9 if "retina" in name else 3)
    assert detector.config.strides == ((8, 16, 32, 64, 128) if "retina" in name else (4, 8, 16, 32, 64))


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shapes_and_types_of_detections(name, dtype):
    """All of it float32 under bfloat16 too: the last layers are, and what boxes are made of."""
    detector = abstract(name, **fields(name), dtype=dtype)
    found = shapes(lambda detector, x, sizes: detector(x, sizes), detector, images(128, 256), np.ones((2, 2)))
    wanted = {"boxes": (2, 20, 4), "scores": (2, 20), "classes": (2, 20), "valid": (2, 20)}
    if name.startswith("mask_rcnn"):
        wanted["masks"] = (2, 20, 8, 8)
    assert isinstance(found, MaskedDetections if "masks" in wanted else Detections)
    assert {field: value.shape for field, value in found._asdict().items()} == wanted
    types = {"classes": "int32", "valid": "bool"}
    assert {field: value.dtype.name for field, value in found._asdict().items()} == {
        field: types.get(field, "float32") for field in wanted
    }
    pyramid = shapes(lambda detector, x: detector.pyramid(x), detector, images(128, 256))
    assert {level.dtype.name for level in pyramid} == {dtype}
    dense = detector.head.dense if name.startswith("retina") else detector.head.rpn
    assert {x.dtype.name for x in jax.tree.leaves(shapes(lambda head, x: head(x), dense, pyramid))} == {"float32"}
    if name.startswith("mask_rcnn"):
        region = jax.ShapeDtypeStruct((2, 3, 3, 8), dtype)
        for head in (detector.head.box, detector.head.mask):
            outputs = shapes(lambda head, x: head(x), head, region)
            assert {x.dtype.name for x in jax.tree.leaves(outputs)} == {"float32"}


@pytest.mark.parametrize(
    ("backbone", "overrides", "strides"),
    [
        ("posmlp_b", {}, (8, 16, 32, 64, 128)),
        ("posmlp_video_s_image", {}, (8, 16, 32, 64, 128)),
        ("gmlp_s", {"first_map": 0, "image_size": 128}, (16, 32, 64, 128, 256)),
    ],
)
def test_other_backbones(backbone, overrides, strides):
    """Its fields come along, and what the call sets besides goes first."""
    config = model_config("retinanet_posmlp_t", backbone=backbone, num_classes=7, dropout=0.25, **overrides)
    base = model_config(backbone)
    assert (config.num_classes, config.dropout, config.strides) == (7, 0.25, strides)
    assert config.maps == base.maps
    assert getattr(config, "shift_windows", True)
    model = registry.abstract_model(config)
    found = shapes(lambda detector, x: detector(x), model, images(128, 128, batch=1))
    assert found.boxes.shape == (1, 100, 4)


def test_windows_are_shifted_unless_told_otherwise():
    assert model_config("mask_rcnn_posmlp_t").shift_windows
    assert not model_config("mask_rcnn_posmlp_t", shift_windows=False).shift_windows
    assert not model_config("posmlp_t").shift_windows


def test_s_is_t_on_another_backbone():
    for kind in ("retinanet", "mask_rcnn"):
        assert model_config(f"{kind}_posmlp_t", backbone="posmlp_s") == model_config(f"{kind}_posmlp_s")


# What they start from


def deviation(layer) -> float:
    return float(jnp.std(layer.kernel[...]))


def test_initial_values():
    """mmdetection's: normal of 0.01, Xavier's in pyramid and box head, He's in the mask head; a prior of 0.01."""
    retina = create_detector("retinanet_posmlp_t", **fields("retinanet_posmlp_t") | {"fpn_width": 64})
    mask = create_detector("mask_rcnn_posmlp_t", **fields("mask_rcnn_posmlp_t") | {"fpn_width": 64, "box_width": 64})
    dense, rpn, box, masks = retina.head.dense, mask.head.rpn, mask.head.box, mask.head.mask
    for layer in (
        *dense.class_tower,
        *dense.box_tower,
        dense.classes,
        dense.boxes,
        rpn.conv,
        rpn.objectness,
        rpn.boxes,
    ):
        assert deviation(layer) == pytest.approx(0.01, rel=0.1)
    assert deviation(box.classes) == pytest.approx(0.01, rel=0.15)
    assert deviation(box.boxes) == pytest.approx(0.001, rel=0.1)
    for layer, (inputs, outputs) in (
        (retina.head.fpn.outputs[0], (9 * 64, 9 * 64)),
        (retina.head.fpn.extra_convs[0], (9 * 64, 9 * 64)),
        (box.layers[0], (9 * 64, 64)),
    ):
        limit = np.sqrt(6 / (inputs + outputs))
        assert deviation(layer) == pytest.approx(limit / np.sqrt(3), rel=0.05)
        assert float(jnp.abs(layer.kernel[...]).max()) <= limit
    assert deviation(masks.convs[0]) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.05)
    assert deviation(masks.enlarge) == pytest.approx(np.sqrt(2 / (4 * 64)), rel=0.05)
    np.testing.assert_allclose(jax.nn.sigmoid(dense.classes.bias[...]), 0.01, rtol=1e-5)
    for detector in (retina, mask):
        biases = {
            n: x for n, x in functional(detector.head)[0].items() if n.endswith("bias") and n != "dense.classes.bias"
        }
        assert not any(np.any(x) for x in biases.values())


# What they compute


@pytest.mark.heavy
def test_every_map_is_normalised():
    detector = tiny("mask_rcnn_posmlp_t")
    maps, levels, _ = see(detector)
    *before, last = (np.asarray(m, np.float64) for m in maps)
    normal = [(m - m.mean(-1, keepdims=True)) / np.sqrt(m.var(-1, keepdims=True) + 1e-6) for m in before]
    graph, state = nnx.split(detector.head.fpn)
    expected = jax.jit(lambda state, maps: nnx.merge(graph, state)(maps))(
        state, [np.float32(m) for m in (*normal, last)]
    )
    for actual, level in zip(levels, expected, strict=True):
        naive.assert_close(actual, level)


def test_learned_positions_are_interpolated():
    """At the size that they were learned for they are what they are in the backbone; at another a ramp is a ramp."""
    detector = tiny("retinanet_posmlp_t", absolute_position=True, image_size=(64, 128))
    assert detector.position.shape == (16, 32, 8)
    np.testing.assert_allclose(detector._positions((64, 128), (16, 32)), detector.position[...], atol=1e-6)
    ramp = jnp.broadcast_to(jnp.arange(32.0)[:, None], (16, 32, 8))
    detector = nnx.clone(detector)
    detector.position[...] = ramp
    middle = detector._positions((128, 256), (32, 64))[4:-4, 8:-8, 0]
    np.testing.assert_allclose(middle, np.broadcast_to(np.arange(8, 56) / 2 - 0.25, (24, 48)), atol=1e-4)
    assert shapes(lambda detector, x: detector(x), detector, images(128, 256)).boxes.shape == (2, 20, 4)


@pytest.mark.heavy
@BOTH
def test_nothing_is_found_in_the_padding(name):
    sizes = np.array([[100, 90], [128, 256]])
    found = see(tiny(name), sizes).found
    for boxes, valid, (height, width) in zip(found.boxes, found.valid, sizes, strict=True):
        assert valid.sum() > 5
        x1, y1, x2, y2 = np.asarray(boxes[valid]).T
        assert x1.min() >= 0
        assert y1.min() >= 0
        assert x2.max() <= width
        assert y2.max() <= height
        assert np.all((x2 > x1) & (y2 > y1))
    # The second image's result does not depend on what the first one's size is said to be.
    whole = see(tiny(name)).found
    for one, other in zip(found, whole, strict=True):
        np.testing.assert_allclose(one[1], other[1], atol=1e-5)


def deltas_to(box, anchor) -> np.ndarray:
    """What takes an anchor to a box."""
    (x, y, width, height), (ax, ay, awidth, aheight) = (
        ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1) for x1, y1, x2, y2 in (box, anchor)
    )
    return np.array([(x - ax) / awidth, (y - ay) / aheight, np.log(width / awidth), np.log(height / aheight)])


def predictions(detector, classes: int):
    """Of no object at any anchor, for an image of 128×128."""
    sizes = [(128 // stride, 128 // stride) for stride in detector.config.strides]
    anchors = detector.anchors(sizes)
    return anchors, [np.full((len(a), classes), -20.0) for a in anchors], [np.zeros((len(a), 4)) for a in anchors]


def test_retinanet_finds_what_its_anchors_say():
    """Objects on two levels; one twice, once as two classes; one below the score that counts, and one that is empty."""
    detector = abstract("retinanet_posmlp_t", **fields("retinanet_posmlp_t"))
    anchors, logits, deltas = predictions(detector, 3)

    def plant(level, anchor, box, **scores):
        deltas[level][anchor] = deltas_to(box, anchors[level][anchor])
        for label, score in scores.items():
            logits[level][anchor, int(label[1:])] = np.log(score / (1 - score))

    plant(0, 500, [10.0, 20, 40, 60], c0=0.9)
    plant(0, 501, [10.0, 20, 41, 60], c0=0.8, c2=0.7)  # The first again, and another class.
    plant(1, 30, [60.0, 50, 100, 140], c1=0.6)  # Reaches out of the image.
    plant(2, 9, [1.0, 1, 30, 30], c1=0.04)
    plant(2, 20, [130.0, 10, 150, 30], c1=0.95)  # Is outside of it.
    found = jax.jit(partial(detector.detect, anchors=anchors))(
        [jnp.float32(x) for x in logits],
        [jnp.float32(x) for x in deltas],
        size=jnp.array([128.0, 128]),
    )
    count = int(found.valid.sum())
    assert count == 3
    np.testing.assert_array_equal(found.valid, np.arange(20) < 3)
    np.testing.assert_allclose(found.scores[:3], [0.9, 0.7, 0.6], rtol=1e-5)
    np.testing.assert_array_equal(found.classes[:3], [0, 2, 1])
    np.testing.assert_allclose(found.boxes[:3], [[10, 20, 40, 60], [10, 20, 41, 60], [60, 50, 100, 128]], atol=1e-3)
    assert not np.any(found.boxes[3:])
    assert np.all(found.classes[3:] == -1)


def test_proposals():
    """The best of every level, each of which may have the same box; where there are fewer, the rest is empty."""
    detector = abstract("mask_rcnn_posmlp_t", **fields("mask_rcnn_posmlp_t") | {"candidates": 4})
    anchors, logits, deltas = predictions(detector, 1)
    for level, score in ((0, 3.0), (3, 2.0)):
        logits[level][[0, 1]] = [[score], [score - 0.5]]
        for anchor in (0, 1):
            deltas[level][anchor] = deltas_to([5, 6, 70, 80 + anchor], anchors[level][anchor])
    boxes, valid = jax.jit(partial(detector.propose, anchors=anchors))(
        [jnp.float32(x[:, 0]) for x in logits],
        [jnp.float32(x) for x in deltas],
        size=jnp.array([128.0, 128]),
    )
    assert boxes.shape == (len(valid), 4) == (20, 4)
    np.testing.assert_allclose(boxes[:2], [[5, 6, 70, 80]] * 2, atol=1e-3)
    assert 2 < valid.sum() < 20
    assert not np.any(boxes[~valid])


@pytest.mark.heavy
@BOTH
def test_every_parameter_has_a_gradient(name):
    """By what a loss is of: all levels' predictions and, for given regions on all levels, the heads'."""
    detector = tiny(name)
    maps = see(detector).maps[detector.config.first_map :]
    boxes = [[3.0, 4, 40, 50], [0, 0, 120, 120], [10, 0, 250, 120], [-200, -200, 400, 500]]

    def predicted(head, maps):
        levels = head.fpn(maps)
        if name.startswith("retinanet"):
            return head.dense(levels)
        regions = detector.regions(levels, jnp.tile(jnp.array(boxes), (2, 1, 1)), 3)
        return head.rpn(levels), head.box(regions), head.mask(regions.reshape(-1, 3, 3, 8))

    parameters, call = functional(detector.head, predicted)

    def loss(parameters):
        random = np.random.default_rng(1)
        return sum(jnp.sum(x * random.standard_normal(x.shape)) for x in jax.tree.leaves(call(parameters, maps)))

    for parameter, gradient in jax.jit(jax.grad(loss))(parameters).items():
        assert np.all(np.isfinite(gradient)), parameter
        assert np.any(gradient), parameter


@pytest.mark.heavy
def test_folded():
    detector = tiny("retinanet_posmlp_t")
    for one, other in zip(see(detector.fold()).found, see(detector).found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


# Mistakes


@pytest.mark.parametrize(
    ("name", "overrides", "parts"),
    [
        ("retinanet_posmlp", {}, ("unknown detector 'retinanet_posmlp'", "did you mean 'retinanet_posmlp_")),
        ("posmlp_t", {}, ("unknown detector 'posmlp_t'", "did you mean 'retinanet_posmlp_t'?")),
        ("retinanet_posmlp_t", {"backbone": "posmlp_m"}, ("unknown backbone 'posmlp_m'", "did you mean 'posmlp_")),
        ("retinanet_posmlp_t", {"backbone": "mask_rcnn_posmlp_t"}, ("unknown backbone 'mask_rcnn_posmlp_t'",)),
        ("retinanet_posmlp_t", {"backbone": 3}, ("unknown backbone 3",)),
        ("retinanet_posmlp_t", {"backbone": "posmlp_video_s"}, ("takes images", "'posmlp_video_s' clips of 16 frames")),
        (
            "retinanet_posmlp_t",
            {"backbone": "gmlp_s"},
            ("first_map 1 should be one of the 1 maps", "'gmlp_s', from 0 to 0"),
        ),
        ("retinanet_posmlp_t", {"box_width": 4}, ("unknown field 'box_width' of RetinaNetPosMLPConfig",)),
        ("mask_rcnn_posmlp_t", {"fpn_widths": 4}, ("unknown field 'fpn_widths'", "did you mean 'fpn_width'?")),
        ("mask_rcnn_posmlp_t", {"levels": 3}, ("levels 3 should be 4 or more",)),
        ("mask_rcnn_posmlp_t", {"num_classes": 0}, ("num_classes 0 should be 1 or more",)),
        ("mask_rcnn_posmlp_t", {"proposal_threshold": 70}, ("proposal_threshold 70 should be from 0 to 1",)),
        ("mask_rcnn_posmlp_t", {"score_threshold": -0.1}, ("score_threshold -0.1 should be from 0 to 1",)),
        ("mask_rcnn_posmlp_t", {"mask_depth": -1}, ("mask_depth -1 should be 0 or more",)),
        ("mask_rcnn_posmlp_t", {"proposals": 0}, ("proposals 0 should be 1 or more",)),
        ("mask_rcnn_posmlp_t", {"anchor_ratios": ()}, ("anchor_ratios ()", "greater than 0")),
        ("mask_rcnn_posmlp_t", {"anchor_scale": -8}, ("anchor_scale -8", "greater than 0")),
        ("mask_rcnn_posmlp_t", {"anchor_ratios": 2.0}, ("anchor_ratios 2.0 should be of type tuple[float, ...]",)),
        ("retinanet_posmlp_t", {"tower_depth": -1}, ("tower_depth -1 should be 0 or more",)),
        ("retinanet_posmlp_t", {"anchor_octaves": 0}, ("anchor_octaves 0 should be 1 or more",)),
        ("retinanet_posmlp_t", {"widths": (96, 192)}, ("depths has 4 values and widths 2",)),
    ],
    ids=str,
)
def test_mistakes(name, overrides, parts):
    with pytest.raises(ConfigError) as error:
        create_detector(name, **overrides)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_wrong_calls():
    with pytest.raises(ConfigError, match="'retinanet_posmlp_t' is a detector, which create_detector makes"):
        create_model("retinanet_posmlp_t")
    detector = abstract("retinanet_posmlp_t", **fields("retinanet_posmlp_t"))
    with pytest.raises(ConfigError, match=r"sizes should be \(height, width\) of each of 2 images, not \(2,\)"):
        shapes(lambda detector, x, sizes: detector(x, sizes), detector, images(128, 128), np.array([128, 128]))
