"""Anchors by hand, by their number, and against torchvision's grids."""

import math

import numpy as np

from posmlp_jax.detection.anchors import cell_anchors, grid_anchors, pyramid_anchors

RETINANET = tuple(4 * 2 ** (octave / 3) for octave in range(3))
STRIDES = (8, 16, 32, 64, 128)


def map_sizes(height: int, width: int, strides) -> tuple[tuple[int, int], ...]:
    return tuple((math.ceil(height / stride), math.ceil(width / stride)) for stride in strides)


def test_by_hand():
    found = grid_anchors((2, 3), 10, cell_anchors((4.0, 8.0), (0.25, 1.0)))
    cell = [[-4, -1, 4, 1], [-8, -2, 8, 2], [-2, -2, 2, 2], [-4, -4, 4, 4]]
    expected = [np.add(one, [x, y, x, y]) for y in (0, 10) for x in (0, 10, 20) for one in cell]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_anchors_of_800_by_1344():
    """As many as mmdetection has, none rounded."""
    retinanet = pyramid_anchors(map_sizes(800, 1344, STRIDES), STRIDES, RETINANET)
    assert sum(map(len, retinanet)) == 201_600
    strides = (4, 8, 16, 32, 64)
    assert sum(map(len, pyramid_anchors(map_sizes(800, 1344, strides), strides, (8.0,)))) == 268_569
    first = retinanet[0][:9].astype(float)
    np.testing.assert_allclose(first[:, 2:] + first[:, :2], 0, atol=1e-6)
    sides = first[:, 2:] - first[:, :2]
    np.testing.assert_allclose(sides[:, 1] / sides[:, 0], np.repeat([0.5, 1, 2], 3), rtol=1e-6)
    np.testing.assert_allclose(
        sides.prod(axis=1), np.tile([32**2, (32 * 2 ** (1 / 3)) ** 2, (32 * 2 ** (2 / 3)) ** 2], 3)
    )


def test_against_torchvision(torchvision):
    """At multiples of 128, where its strides are the pyramid's, and with its cells not rounded."""
    import torch
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    ratios = (0.5, 1.0, 2.0)
    sizes = map_sizes(256, 384, STRIDES)
    scales = [tuple(scale * stride for scale in RETINANET) for stride in STRIDES]
    theirs = AnchorGenerator(scales, [ratios] * len(STRIDES))
    cells = [cell_anchors(level, ratios) for level in scales]
    for cell, expected in zip(cells, theirs.cell_anchors, strict=True):
        np.testing.assert_allclose(cell, expected, atol=0.5 + 1e-4)
    theirs.cell_anchors = [torch.from_numpy(cell) for cell in cells]
    maps = [torch.zeros(1, 1, *size) for size in sizes]
    (expected,) = theirs(ImageList(torch.zeros(1, 3, 256, 384), [(256, 384)]), maps)
    found = np.concatenate(pyramid_anchors(sizes, STRIDES, RETINANET))
    np.testing.assert_allclose(found, expected, atol=1e-4)
