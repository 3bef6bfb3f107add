"""Boxes against loops in float64 and against torchvision."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posmlp_jax.detection.boxes import area, clip, decode, encode, iou

STD = (0.1, 0.1, 0.2, 0.2)
# A point, a line, one with its corners exchanged, one that is nowhere.
EMPTY = np.array([[3, 4, 3, 4], [3, 4, 9, 4], [9, 8, 3, 4], [math.nan] * 4], np.float32)
encoded, decoded, overlaps = (
    jax.jit(function, static_argnums=2) for function in (encode, decode, lambda a, b, _: iou(a, b))
)


def naive_iou(a, b) -> float:
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def naive_decode(delta, anchor) -> list[float]:
    dx, dy, dw, dh = (float(value) * std for value, std in zip(delta, STD, strict=True))
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = anchor[0] + width / 2 + dx * width, anchor[1] + height / 2 + dy * height
    width, height = width * min(math.exp(dw), 1000 / 16), height * min(math.exp(dh), 1000 / 16)
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def test_iou(random_boxes):
    a, b = random_boxes(30), random_boxes(20, seed=1)
    b[:3] = a[:3]
    expected = [[naive_iou(one, other) for other in b.astype(float)] for one in a.astype(float)]
    np.testing.assert_allclose(overlaps(a, b, None), expected, atol=1e-6)
    np.testing.assert_allclose(np.diagonal(overlaps(a, b, None))[:3], 1, rtol=1e-6)


def test_boxes_are_decoded(random_boxes):
    anchors = random_boxes(40)
    deltas = np.random.default_rng(1).normal(0, 8, (40, 4)).astype(np.float32)
    assert np.any(deltas[:, 2:] * 0.2 > math.log(1000 / 16) / 2)
    deltas[0] = 0, 0, 1000, 20.5  # Exponentials that overflow, and that are just not to be limited.
    expected = np.array(
        [naive_decode(delta, anchor) for delta, anchor in zip(deltas, anchors.astype(float), strict=True)]
    )
    np.testing.assert_allclose(decoded(deltas, anchors, STD), expected, rtol=1e-5, atol=1e-3)


def test_encoding_is_the_inverse(random_boxes):
    anchors, boxes = random_boxes(40), random_boxes(40, seed=1)
    deltas = encoded(boxes, anchors, STD)
    within = np.all(np.abs(np.asarray(deltas)[:, 2:]) < math.log(1000 / 16) / 0.2, axis=1)
    assert within.sum() > 30
    found = [
        naive_decode(delta, anchor) for delta, anchor in zip(np.asarray(deltas), anchors.astype(float), strict=True)
    ]
    np.testing.assert_allclose(np.array(found)[within], boxes[within], rtol=1e-5, atol=1e-3)
    # Batches of images, as any number of axes is.
    np.testing.assert_array_equal(
        encode(boxes.reshape(4, 10, 4), anchors.reshape(4, 10, 4), STD).reshape(40, 4), deltas
    )


def test_against_torchvision(torchvision, random_boxes):
    import torch
    from torchvision.models.detection._utils import BoxCoder

    a, b = random_boxes(50), random_boxes(50, seed=1)
    theirs = [torch.from_numpy(boxes) for boxes in (a, b)]
    np.testing.assert_allclose(overlaps(a, b, None), torchvision.ops.box_iou(*theirs), atol=1e-6)
    np.testing.assert_allclose(area(a), torchvision.ops.box_area(theirs[0]), rtol=1e-6)
    np.testing.assert_array_equal(clip(a, 60, 80), torchvision.ops.clip_boxes_to_image(theirs[0], (60, 80)))
    coder = BoxCoder([1 / value for value in STD])
    np.testing.assert_allclose(encoded(a, b, STD), coder.encode_single(*theirs), rtol=1e-5, atol=1e-4)
    deltas = np.random.default_rng(2).normal(0, 12, (50, 4)).astype(np.float32)
    expected = coder.decode_single(torch.from_numpy(deltas), theirs[0])
    np.testing.assert_allclose(decoded(deltas, a, STD), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 4)])
def test_no_boxes(shape):
    none = jnp.zeros(shape)
    assert encode(none, none, STD).shape == decode(none, none, STD).shape == clip(none, 5, 5).shape == shape
    assert area(none).shape == shape[:-1]
    assert iou(jnp.zeros((0, 4)), jnp.zeros((3, 4))).shape == (0, 3)


def test_empty_boxes_give_finite_values_and_gradients(random_boxes):
    full = random_boxes(len(EMPTY))

    @jax.jit
    def everything(empty):
        return area(empty), iou(empty, full), iou(full, empty), iou(empty, empty), *encodings(empty)

    def encodings(empty):
        return encode(empty, full, STD), encode(full, empty, STD), encode(empty, empty, STD)

    for value in everything(EMPTY):
        np.testing.assert_array_equal(value, np.zeros_like(value))
    gradients = jax.jit(jax.grad(lambda empty: sum(map(jnp.sum, everything(empty)))))(EMPTY)
    assert np.all(np.isfinite(gradients))
    assert np.all(np.isfinite(decode(np.full((3, 4), 1e4, np.float32), EMPTY[:3], STD)))


def test_what_heads_compute_in_bfloat16_becomes_float32_boxes(random_boxes):
    anchors = random_boxes(5)
    deltas = jnp.ones((5, 4), jnp.bfloat16)
    assert decode(deltas, anchors, STD).dtype == jnp.float32
    np.testing.assert_array_equal(decode(deltas, anchors, STD), decode(jnp.ones((5, 4)), anchors, STD))
