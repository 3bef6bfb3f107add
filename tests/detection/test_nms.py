"""Suppression against a loop and torchvision: random boxes in clusters, equal scores, equal boxes, padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posmlp_jax.detection.nms import best_scores, nms

BOXES = 60
suppressed = jax.jit(nms, static_argnums=(3, 4))


def case(seed: int, whole: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes around few centres, which suppress each other in chains. Those of whole pixels have many equal IoUs."""
    random = np.random.default_rng(seed)
    centers = random.uniform(0, 40, (4, 2))[random.integers(0, 4, BOXES)] + random.normal(0, 4, (BOXES, 2))
    half = random.uniform(2, 14, (BOXES, 2))
    boxes = np.concatenate([centers - half, centers + half], axis=1)
    scores = random.uniform(0, 1, BOXES)
    if whole:
        boxes = np.round(boxes / 2) * 2
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 2)
        scores = np.round(scores * 8) / 8
    boxes[5:8] = boxes[:3]
    return boxes.astype(np.float32), scores.astype(np.float32), random.integers(0, 2, BOXES)


def naive_nms(boxes, scores, classes, threshold: float) -> list[int]:
    kept = []
    for one in sorted(range(len(scores)), key=lambda index: (-scores[index], index)):
        if scores[one] > -np.inf and not any(
            classes[one] == classes[other] and overlap(boxes[one], boxes[other]) > threshold for other in kept
        ):
            kept.append(one)
    return kept


def overlap(a, b) -> float:
    """In float32, as torchvision computes it, and compared with a threshold that is not rounded."""
    width, height = (np.maximum(np.minimum(a[i + 2], b[i + 2]) - np.maximum(a[i], b[i]), 0) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return float(width * height / (areas[0] + areas[1] - width * height))


def kept(outputs) -> list[int]:
    indices, valid = map(np.asarray, outputs)
    assert np.all(np.diff(valid.astype(int)) <= 0)
    assert not np.any(indices[~valid])
    return indices[valid].tolist()


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_against_a_loop(threshold):
    found = 0
    for seed in range(100):
        boxes, scores, classes = case(seed, whole=seed % 2 == 0)
        scores[seed % 7 :: 9] = -np.inf  # Where there is no box.
        scores[10] = np.nan
        expected = naive_nms(boxes, np.where(np.isnan(scores), -np.inf, scores), classes, threshold)
        assert kept(suppressed(boxes, scores, classes, threshold, BOXES)) == expected
        found += len(expected)
    assert 500 < found < 5000


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_against_torchvision(torchvision, threshold):
    import torch

    for seed in range(60):
        boxes, scores, classes = case(seed, whole=seed % 2 == 0)
        found = kept(suppressed(boxes, scores, np.zeros_like(classes), threshold, BOXES))
        assert found == torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold).tolist()
        # Of each class by itself: `batched_nms` would move the boxes.
        both = []
        for one in (0, 1):
            members = np.flatnonzero(classes == one)
            own = torchvision.ops.nms(torch.from_numpy(boxes[members]), torch.from_numpy(scores[members]), threshold)
            both += members[own].tolist()
        expected = sorted(both, key=lambda index: (-scores[index], index))
        assert kept(suppressed(boxes, scores, classes, threshold, BOXES)) == expected


@pytest.mark.parametrize(("shared", "threshold"), [(3, 0.3), (5, 0.5), (7, 0.7)])
def test_an_overlap_that_is_the_threshold(shared, threshold):
    """IoUs of exactly 3/10 and 7/10 are no float32: the nearest one is greater than 0.3, and less than 0.7."""
    boxes = np.array([[0, 0, 10, 1], [0, 0, shared, 1]], np.float32)
    scores, classes = np.array([0.9, 0.8], np.float32), np.zeros(2, int)
    expected = [0] if float(np.float32(shared / 10)) > threshold else [0, 1]
    assert kept(nms(boxes, scores, classes, threshold, 2)) == expected == ([0] if shared == 3 else [0, 1])


def test_a_threshold_may_be_an_array():
    boxes, scores, classes = case(1)
    traced = jax.jit(nms, static_argnums=4)(boxes, scores, classes, 0.5, BOXES)
    assert kept(traced) == naive_nms(boxes, scores, classes, 0.5)


@pytest.mark.parametrize("most", [1, 7, BOXES + 5])
def test_fewer_and_more_outputs(most):
    boxes, scores, classes = case(1)
    expected = naive_nms(boxes, scores, classes, 0.5)
    indices, valid = suppressed(boxes, scores, classes, 0.5, most)
    assert indices.shape == valid.shape == (most,)
    assert (indices.dtype, valid.dtype) == (jnp.int32, jnp.bool_)
    assert kept((indices, valid)) == expected[:most]


def test_a_chain():
    """Each box suppresses the next, so that every other one is kept: as many rounds as there can be."""
    x = np.arange(BOXES, dtype=np.float32)
    boxes = np.stack([x, 0 * x, x + 2, 0 * x + 1], axis=1)
    assert kept(suppressed(boxes, -x, np.zeros(BOXES, int), 0.3, BOXES)) == [*range(0, BOXES, 2)]


def test_batches():
    cases = [case(seed) for seed in range(3)]
    batch = jax.jit(jax.vmap(functools.partial(nms, threshold=0.5, max_outputs=20)))
    indices, valid = batch(*map(np.stack, zip(*cases, strict=True)))
    for number, one in enumerate(cases):
        assert kept((indices[number], valid[number])) == naive_nms(*one, 0.5)[:20]


def test_nothing_to_keep():
    """No boxes, no scores, and boxes without an area, which overlap nothing."""
    none = nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int), 0.5, 3)
    assert (none[0].shape, kept(none)) == ((3,), [])
    boxes, scores, classes = case(0)
    assert kept(suppressed(boxes, np.full(BOXES, -np.inf, np.float32), classes, 0.5, BOXES)) == []
    order = np.argsort(-scores, kind="stable").tolist()
    assert kept(suppressed(boxes[:, [0, 1, 0, 1]], scores, 0 * classes, 0.0, BOXES)) == order
    assert len(kept(suppressed(np.full_like(boxes, np.nan), scores, classes, 0.5, BOXES))) == BOXES


@pytest.mark.parametrize(("anchors", "number"), [(200, 30), (20, 30), (5, 30)])
def test_the_best_scores(anchors, number):
    """Of few different values: of equal ones the first, as in the whole array."""
    best = jax.jit(best_scores, static_argnums=1)
    for seed in range(20):
        scores = (np.random.default_rng(seed).integers(0, 12, (anchors, 4)) / 12).astype(np.float32)
        order = np.argsort(-scores.reshape(-1), kind="stable")[:number]
        values, anchor, kind = best(scores, number)
        np.testing.assert_array_equal(values, scores.reshape(-1)[order])
        np.testing.assert_array_equal(anchor * 4 + kind, order)
