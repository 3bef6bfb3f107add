"""RoIAlign against loops over samples in float64, and against torchvision, of maps of several sizes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import OPTIMIZED
from naive_detection import roi_align as naive_roi_align

from posmlp_jax.detection import roi_align as module
from posmlp_jax.detection.roi_align import roi_align, roi_levels

HEIGHT, WIDTH, CHANNELS = 20, 28, 3
SCALE, SIZE = 1 / 4, 5
aligned_regions = jax.jit(roi_align, static_argnums=(2, 3, 4, 5))
WAYS = [*itertools.product((0, 1, 2, 3), (False, True))]


def feature_map() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((HEIGHT, WIDTH, CHANNELS)).astype(np.float32)


def regions(random_boxes) -> np.ndarray:
    """Of every size, some beyond the borders, smaller than a cell, long and narrow, huge, of whole cells, or empty."""
    boxes = random_boxes(60, size=4 * WIDTH)
    boxes[:8, 2:] = boxes[:8, :2] + np.linspace(0.01, 6, 8)[:, None]
    boxes[8:12] = [[-3, 40, 115, 42], [50, -9, 52, 99], [-400, -300, 500, 420], [-4000, 30, 50, 9000]]
    boxes[12:16] = [[0, 0, 40, 40], [8, 8, 28, 48], [-4, -4, 112, 80], [60, 40, 112, 80]]
    # Nothing, no width, and what lies outside.
    boxes[16:20] = [[0, 0, 0, 0], [20, 10, 20, 30], [300, 300, 320, 330], [-90, -90, -60, -70]]
    return boxes


@pytest.mark.parametrize(("sampling_ratio", "aligned"), WAYS)
def test_against_loops(random_boxes, sampling_ratio, aligned):
    map, boxes = feature_map(), regions(random_boxes)[:30]
    boxes = np.delete(boxes, [10, 11], axis=0)  # Thousands of samples, mostly outside.
    expected = np.array(
        [naive_roi_align(map.astype(float), box, SIZE, SCALE, sampling_ratio, aligned) for box in boxes]
    )
    found, pull = jax.vjp(lambda map: aligned_regions(map, boxes, SIZE, SCALE, sampling_ratio, aligned), map)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # The results are linear in the map: the gradient of any of their sums, times the map, is that sum.
    weights = np.random.default_rng(1).standard_normal(expected.shape).astype(np.float32)
    np.testing.assert_allclose(np.sum(pull(jnp.asarray(weights))[0] * map), np.sum(weights * expected), rtol=1e-4)


@pytest.mark.parametrize(("sampling_ratio", "aligned"), WAYS)
def test_against_torchvision(torchvision, random_boxes, sampling_ratio, aligned):
    """Values, and gradients with respect to the map."""
    import torch

    map, boxes = feature_map(), regions(random_boxes)
    weights = np.random.default_rng(1).standard_normal((len(boxes), SIZE, SIZE, CHANNELS)).astype(np.float32)
    theirs = torch.from_numpy(map).permute(2, 0, 1)[None].contiguous().requires_grad_()
    expected = torchvision.ops.roi_align(theirs, [torch.from_numpy(boxes)], SIZE, SCALE, sampling_ratio, aligned)
    expected = expected.permute(0, 2, 3, 1)
    (expected * torch.from_numpy(weights)).sum().backward()

    found, pull = jax.vjp(lambda map: aligned_regions(map, boxes, SIZE, SCALE, sampling_ratio, aligned), map)
    np.testing.assert_allclose(found, expected.detach(), atol=1e-5)
    gradient = theirs.grad[0].permute(1, 2, 0)
    np.testing.assert_allclose(pull(jnp.asarray(weights))[0], gradient, atol=1e-5 * float(gradient.abs().max()))


@pytest.mark.parametrize("sampling_ratio", [0, 3])
def test_samples_of_large_maps_are_where_torchvision_has_them(torchvision, random_boxes, sampling_ratio):
    """Some 10⁻⁵ of a cell beside that, results would differ by more than float32's own error at position 100."""
    import torch

    map = np.random.default_rng(2).standard_normal((100, 150, CHANNELS)).astype(np.float32)
    boxes = random_boxes(100, size=600.0)
    boxes[50:] = boxes[50:].round()
    boxes[50:, 2:] = boxes[50:, :2] + np.arange(1, 51)[:, None] * (14 / SCALE) / 8  # Bins of as many eighths of a cell.
    theirs = torch.from_numpy(map).permute(2, 0, 1)[None].contiguous()
    expected = torchvision.ops.roi_align(theirs, [torch.from_numpy(boxes)], 14, SCALE, sampling_ratio, True)
    optimized = jax.jit(roi_align, static_argnums=(2, 3, 4, 5), compiler_options=OPTIMIZED)
    for align in (optimized, aligned_regions):
        found = align(map, boxes, 14, SCALE, sampling_ratio, True)
        np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1), atol=2e-6)


def test_many_regions_are_aligned_some_at_a_time(random_boxes, monkeypatch):
    """Values and gradients, also of batches."""
    maps = np.stack([feature_map(), feature_map()[::-1]])
    boxes = np.stack([regions(random_boxes), random_boxes(60, seed=1)])

    def value_and_gradient(map, boxes):
        return jax.value_and_grad(lambda map: jnp.sum(roi_align(map, boxes, SIZE, SCALE) ** 2))(map)

    expected = jax.jit(jax.vmap(value_and_gradient))(maps, boxes)
    monkeypatch.setattr(module, "_HELD", 16 * SIZE * WIDTH * CHANNELS)
    text = str(jax.make_jaxpr(value_and_gradient)(maps[0], boxes[0]))
    assert "scan" in text
    for found, wanted in zip(jax.jit(jax.vmap(value_and_gradient))(maps, boxes), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_bfloat16_map_is_aligned_in_float32(random_boxes):
    map, boxes = jnp.asarray(feature_map(), jnp.bfloat16), regions(random_boxes)
    found = aligned_regions(map, boxes, SIZE, SCALE, 0, True)
    assert found.dtype == jnp.bfloat16
    exact = aligned_regions(map.astype(jnp.float32), boxes, SIZE, SCALE, 0, True)
    np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))


def test_no_gradient_reaches_boxes_and_strange_ones_are_finite(random_boxes):
    map = feature_map()
    boxes = regions(random_boxes)[:8]
    boxes[:4] = [[np.nan] * 4, [0, 0, np.inf, np.inf], [30, 30, 10, 10], [-1e30, -1e30, 1e30, 1e30]]
    total = jax.value_and_grad(lambda *args: jnp.sum(roi_align(*args) ** 2), argnums=(0, 1))
    for sampling_ratio in (0, 2):
        value, (gradient, none) = jax.jit(total, static_argnums=(2, 3, 4))(map, boxes, SIZE, SCALE, sampling_ratio)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))
        assert not np.any(none)
    assert roi_align(map, np.zeros((0, 4), np.float32), SIZE, SCALE).shape == (0, SIZE, SIZE, CHANNELS)


def test_levels_by_hand():
    """224² is of level 4, half its sides of level 3, and whatever is not a box of the first one."""
    sides = np.array([224, 223.9, 112, 111.9, 56, 447, 448, 1e4, 1, 0, -5, np.nan], np.float32)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    np.testing.assert_array_equal(roi_levels(boxes), [4, 3, 3, 2, 2, 4, 5, 5, 2, 2, 2, 2])


def test_levels_are_torchvisions(torchvision, random_boxes):
    import torch
    from torchvision.ops.poolers import LevelMapper

    boxes = random_boxes(500, size=900.0)
    expected = LevelMapper(2, 5)([torch.from_numpy(boxes)]) + 2
    np.testing.assert_array_equal(roi_levels(boxes), expected)
    assert {*expected.tolist()} == {2, 3, 4, 5}
