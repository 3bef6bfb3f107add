"""Mask targets from crops against those from whole masks, and pasting against loops and `grid_sample`."""

import math

import jax
import numpy as np
import pytest

from posmlp_jax.detection.masks import mask_targets, paste

HEIGHT, WIDTH, SIDE, SIZE = 240, 320, 112, 28
targets_of = jax.jit(mask_targets, static_argnums=3)


def objects() -> tuple[np.ndarray, np.ndarray]:
    """Stars with round and with sharp corners, in their own boxes: of 16 to 230 pixels, bits of the image's pixels."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    masks, boxes = [], []
    while len(masks) < 40:
        radius, (row, column) = random.uniform(8, 115), random.uniform(0, 1, 2) * (HEIGHT, WIDTH)
        angle = np.arctan2(y - row, (x - column) * random.uniform(0.5, 2))
        points, depth, phase = random.integers(2, 6), random.uniform(0, 0.5), random.uniform(0, 6)
        edge = radius * (1 - depth * np.abs(np.sin(points * angle + phase)))
        mask = np.hypot(y - row, x - column) < edge
        rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
        if mask.sum() > 100:
            masks.append(mask)
            boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return np.stack(masks), np.array(boxes, np.float32)


def resample(mask: np.ndarray, box, size: int) -> np.ndarray:
    """The share of a mask in size² bins of a box: 8² samples of each, bilinear, of the pixels' centres."""
    samples = (np.arange(8 * size) + 0.5) / (8 * size)
    weights = []
    for begin, end, pixels in ((box[1], box[3], mask.shape[0]), (box[0], box[2], mask.shape[1])):
        place = (begin + samples * (end - begin) - 0.5)[:, None]
        weights.append(np.maximum(1 - np.abs(place - np.arange(pixels)), 0).reshape(size, 8, pixels).mean(axis=1))
    return weights[0] @ mask.astype(float) @ weights[1].T


def around(boxes: np.ndarray) -> np.ndarray:
    """Regions that heads train on: IoU of a half or more with their boxes."""
    sides = boxes[:, 2:] - boxes[:, :2]
    moved = np.random.default_rng(1).uniform(-0.14, 0.14, (len(boxes), 4)) * np.tile(sides, 2)
    return (boxes + moved).astype(np.float32)


def test_targets_from_crops_are_those_from_whole_masks():
    masks, boxes = objects()
    crops = np.stack([resample(mask, box, SIDE) >= 0.5 for mask, box in zip(masks, boxes, strict=True)])
    regions = np.concatenate([boxes, around(boxes)])
    found = np.asarray(targets_of(np.tile(crops, (2, 1, 1)), np.tile(boxes, (2, 1)), regions, SIZE)) > 0
    whole = np.stack(
        [resample(mask, region, SIZE) >= 0.5 for mask, region in zip([*masks, *masks], regions, strict=True)]
    )
    iou = (found & whole).sum(axis=(1, 2)) / (found | whole).sum(axis=(1, 2))
    assert iou.mean() >= 0.99
    assert iou.min() >= 0.9


def test_targets_are_those_of_torchvisions_roi_align(torchvision):
    """Of the crop, which is as good a mask as any."""
    import torch

    masks, boxes = objects()
    regions = around(boxes)
    crops = np.stack([resample(mask, box, SIDE) >= 0.5 for mask, box in zip(masks, boxes, strict=True)])
    placed = (regions - np.tile(boxes[:, :2], 2)) / np.tile(boxes[:, 2:] - boxes[:, :2], 2) * SIDE
    theirs = torch.from_numpy(crops.astype(np.float32))[:, None], torch.from_numpy(placed.astype(np.float32))[:, None]
    expected = torchvision.ops.roi_align(theirs[0], [*theirs[1]], SIZE, 1.0, 0, True)[:, 0] >= 0.5
    differing = np.asarray(targets_of(crops, boxes, regions, SIZE)) != expected.numpy()
    # Shares of just a half may round to either side.
    assert differing.mean() < 1e-4


def test_no_object():
    """Empty boxes and regions, and a region beside its object."""
    crops = np.ones((4, SIDE, SIDE), bool)
    boxes = np.array([[0, 0, 0, 0], [5, 5, 9, 9], [5, 5, 9, 9], [np.nan] * 4], np.float32)
    regions = np.array([[1, 1, 9, 9], [7, 7, 7, 7], [10, 10, 19, 19], [1, 1, 9, 9]], np.float32)
    assert not np.any(targets_of(crops, boxes, regions, SIZE))
    assert np.all(targets_of(crops[:1], boxes[1:2], boxes[1:2], SIZE))


def naive_value(mask, box, row: int, column: int) -> float:
    """At a pixel's centre, between the centres of the mask's cells, with zeros around them."""
    value = 0.0
    y = (row + 0.5 - box[1]) / (box[3] - box[1]) * len(mask) - 0.5
    x = (column + 0.5 - box[0]) / (box[2] - box[0]) * len(mask) - 0.5
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < len(mask) and 0 <= j < len(mask):
                value += mask[i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return value


BOXES = [(3.3, 2.1, 17.9, 12.4), (-5.0, -4.2, 8.5, 30.0), (2, 3, 4, 4), (6.1, 6.1, 6.6, 6.4), (-50, -60, 70, 80)]


@pytest.mark.parametrize("box", BOXES, ids=str)
def test_pasting(box):
    mask = np.random.default_rng(0).uniform(0, 1, (7, 7)).astype(np.float32)
    values = np.array([[naive_value(mask, box, row, column) for column in range(21)] for row in range(15)])
    assert np.abs(values - 0.5).min() > 1e-6
    np.testing.assert_array_equal(paste(mask, np.array(box, np.float32), 15, 21), values >= 0.5)


@pytest.mark.parametrize("box", BOXES, ids=str)
def test_pasting_is_grid_sample(torchvision, box):
    """As mmdetection calls it."""
    import torch

    mask = np.random.default_rng(1).uniform(0, 1, (28, 28)).astype(np.float32)
    y, x = (
        (torch.arange(pixels) + 0.5 - begin) / (end - begin) * 2 - 1
        for pixels, begin, end in ((15, box[1], box[3]), (21, box[0], box[2]))
    )
    grid = torch.stack([x[None].expand(15, 21), y[:, None].expand(15, 21)], dim=-1)[None]
    values = torch.nn.functional.grid_sample(torch.from_numpy(mask)[None, None], grid, align_corners=False)[0, 0]
    for threshold in (0.3, 0.5):
        found = paste(mask, np.array(box, np.float32), 15, 21, threshold)
        np.testing.assert_array_equal(found, values.numpy() >= threshold)


def test_nothing_to_paste():
    mask = np.ones((28, 28), np.float32)
    for box in ([5, 5, 5, 9], [9, 9, 5, 5], [100, 100, 120, 120], [np.nan] * 4):
        pasted = paste(mask, np.array(box, np.float32), 20, 30)
        assert (pasted.shape, pasted.dtype, pasted.any()) == ((20, 30), bool, False)
