"""Matches against loops and against torchvision, with IoUs of few values, so that many are equal."""

import jax
import numpy as np
import pytest

from posmlp_jax.detection.boxes import iou
from posmlp_jax.detection.matching import match

matched = jax.jit(match, static_argnums=(1, 2, 3))
# RetinaNet's, the region proposal network's with any low-quality matches and with mmdetection's, and the heads'.
OPTIONS = [(0.5, 0.4, True), (0.7, 0.3, True), (0.7, 0.3, 0.3), (0.5, 0.5, False)]


def overlaps(seed: int, boxes: int = 6, anchors: int = 40) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.integers(0, 11, (boxes, anchors)) / 10
    # Some boxes, and some anchors, overlap little.
    return (values * random.choice([0.3, 0.5, 1.0], (boxes, 1)) * random.choice([0.4, 1.0], anchors)).astype(np.float32)


def naive_match(iou: np.ndarray, positive, negative, low_quality) -> list[int]:
    found = []
    for column in iou.T:
        best = column.argmax()
        # As float32, which these values are.
        low, high = np.float32(negative), np.float32(positive)
        found.append(best if column[best] >= high else -2 if column[best] >= low else -1)
    if low_quality is not False:
        lowest = 0 if low_quality is True else np.float32(low_quality)
        for row in iou:
            if row.max() >= lowest:
                for anchor in np.flatnonzero(row == row.max()):
                    found[anchor] = iou[:, anchor].argmax()
    return found


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_against_loops(options):
    for seed in range(40):
        values = overlaps(seed)
        np.testing.assert_array_equal(matched(values, *options), naive_match(values, *options))


@pytest.mark.parametrize("options", [options for options in OPTIONS if isinstance(options[2], bool)], ids=str)
def test_against_torchvision(torchvision, options):
    import torch
    from torchvision.models.detection._utils import Matcher

    positive, negative, low_quality = options
    theirs = Matcher(positive, negative, allow_low_quality_matches=low_quality)
    kinds = set()
    for seed in range(40):
        found = matched(overlaps(seed), *options)
        np.testing.assert_array_equal(found, theirs(torch.from_numpy(overlaps(seed))))
        kinds |= set(np.minimum(found, 0).tolist())
    assert kinds == ({0, -1, -2} if negative < positive else {0, -1})


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_rows_of_padding_change_nothing(options):
    for seed in range(10):
        values = overlaps(seed)
        padded = np.concatenate([values, np.full((3, values.shape[1]), -1, np.float32)])
        np.testing.assert_array_equal(matched(padded, *options), matched(values, *options))
    np.testing.assert_array_equal(matched(np.full((3, 40), -1, np.float32), *options), np.full(40, -1))


def test_options_may_be_arrays():
    for options in OPTIONS:
        np.testing.assert_array_equal(jax.jit(match)(overlaps(0), *options), naive_match(overlaps(0), *options))


def test_no_boxes():
    np.testing.assert_array_equal(match(np.zeros((0, 3), np.float32), 0.5, 0.4, True), [-1, -1, -1])
    assert match(np.zeros((3, 0), np.float32), 0.5, 0.4, True).shape == (0,)


def test_low_quality_matches_by_hand():
    """The second box's best anchor stays with the first box, which it overlaps more; the third box has none at all."""
    values = np.array([[0.6, 0.45, 0.1], [0.3, 0.35, 0.2], [-1, -1, -1]], np.float32)
    np.testing.assert_array_equal(match(values, 0.5, 0.4, False), [0, -2, -1])
    np.testing.assert_array_equal(match(values, 0.5, 0.4, True), [0, 0, -1])
    np.testing.assert_array_equal(match(values, 0.5, 0.4, 0.36), [0, -2, -1])


def test_what_is_not_a_number_is_background(random_boxes):
    values = np.full((2, 3), np.nan, np.float32)
    np.testing.assert_array_equal(match(values, 0.5, 0.4, True), [-1, -1, -1])
    boxes = random_boxes(3)
    boxes[1] = np.nan
    np.testing.assert_array_equal(match(iou(boxes, boxes), 0.5, 0.4, False), [0, -1, 2])
