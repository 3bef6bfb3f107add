"""Weights on another grid, against interpolation point by point in float64 and against JAX's."""

import math

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import randomized

from posmlp_jax.checkpoints.resizing import (
    inflate,
    inflates,
    interpolate,
    interpolation_matrix,
    resize_bias,
    resize_dense,
    resize_table,
    resizes,
)
from posmlp_jax.models import create_model


def keys(t: float) -> float:
    """Keys' cubic convolution kernel, a = −½."""
    t = abs(t)
    if t <= 1:
        return (1.5 * t - 2.5) * t * t + 1
    return ((-0.5 * t + 2.5) * t - 4) * t + 2 if t < 2 else 0.0


def value(sequence, place: int) -> float:
    """A sequence's value at a whole place, going on in a straight line beyond its ends."""
    last = len(sequence) - 1
    if place < 0:
        return sequence[0] + place * (sequence[1] - sequence[0])
    return sequence[place] if place <= last else sequence[last] + (place - last) * (sequence[last] - sequence[last - 1])


def naive(sequence, target: int) -> np.ndarray:
    """One axis, place by place."""
    places = [(i + 0.5) * len(sequence) / target - 0.5 for i in range(target)]
    return np.array(
        [sum(keys(p - n) * value(sequence, n) for n in range(math.floor(p) - 1, math.floor(p) + 3)) for p in places]
    )


SIZES = [(27, 47), (47, 27), (13, 23), (4, 7), (7, 4), (2, 5), (3, 2), (5, 1)]


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_one_axis(size, target):
    sequence = np.random.default_rng(0).normal(size=size)
    np.testing.assert_allclose(interpolation_matrix(size, target) @ sequence, naive(sequence, target), atol=1e-13)


@pytest.mark.parametrize(("size", "target"), [(27, 47), (47, 27), (13, 23)])
def test_away_from_the_ends_it_is_what_jax_gives(size, target):
    sequence = np.random.default_rng(1).normal(size=size).astype(np.float32)
    inside = slice(2 * target // size + 2, -2 * target // size - 2)
    theirs = jax.image.resize(sequence, (target,), "cubic", antialias=False)
    np.testing.assert_allclose((interpolation_matrix(size, target) @ sequence)[inside], theirs[inside], atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 14])
def test_the_same_size_is_the_identity(size):
    np.testing.assert_array_equal(interpolation_matrix(size, size), np.identity(size))


def test_a_single_value_goes_everywhere():
    np.testing.assert_array_equal(interpolate(np.full((1, 2), 3.0), (1,), (4,)), np.full((4, 2), 3.0))


@pytest.mark.parametrize(
    ("grid", "target"), [((14, 14), (24, 24)), ((24, 12), (14, 7)), ((3, 5), (5, 4)), ((4,), (7,))]
)
def test_ramps_stay_ramps(grid, target):
    """Linear in each offset or place before, and after: from end to end, half a step within them."""
    rates = np.arange(1, len(grid) + 1)

    def ramp(sizes, spans):
        """Σ rate · (place + ½) / size · span along each axis, in row-major order."""
        axes = [(np.arange(n) + 0.5) / n * s for n, s in zip(sizes, spans, strict=True)]
        return sum(
            rate * axis.reshape([-1 if a == i else 1 for a in range(len(sizes))])
            for i, (rate, axis) in enumerate(zip(rates, axes, strict=True))
        ).reshape(-1)

    np.testing.assert_allclose(resize_bias(ramp(grid, grid), grid, target), ramp(target, grid), rtol=1e-6)
    spans, spans_after = ([2 * n - 1 for n in one] for one in (grid, target))
    table = np.stack([ramp(spans, spans), -ramp(spans, spans)], axis=-1)
    expected = np.stack([ramp(spans_after, spans), -ramp(spans_after, spans)], axis=-1)
    np.testing.assert_allclose(resize_table(table, grid, target), expected, rtol=1e-6)
    dense = ramp(grid, grid)[:, None] - 2 * ramp(grid, grid)
    after = ramp(target, grid)[:, None] - 2 * ramp(target, grid)
    np.testing.assert_allclose(resize_dense(dense[None], grid, target)[0], after, rtol=1e-5, atol=1e-5)


def test_two_axes_one_after_the_other():
    grid, target = (3, 4), (5, 3)
    table = np.random.default_rng(2).normal(size=(5 * 7, 2))
    resized = resize_table(table, grid, target).reshape(9, 5, 2)
    rows = np.stack(
        [[naive(table.reshape(5, 7, 2)[:, c, g], 9) for c in range(7)] for g in range(2)]
    )  # group, column, row
    expected = np.stack([[naive(rows[g, :, r], 5) for r in range(9)] for g in range(2)])
    np.testing.assert_allclose(np.moveaxis(resized, -1, 0), expected, atol=1e-6)


def test_a_dense_relation_of_offsets_stays_one_inside():
    """A dense matrix whose entries depend on the offset alone and smoothly is resized to nearly such a one."""
    grid, target = (12, 12), (18, 18)

    def bell(sides):
        places = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in sides], indexing="ij"), -1).reshape(-1, 2)
        return np.exp(-4 * np.sum((places[:, None] - places) ** 2, axis=-1))

    inside = (slice(2, -2),) * 4
    resized, expected = resize_dense(bell(grid)[None], grid, target)[0], bell(target)
    np.testing.assert_allclose(resized.reshape(target * 2)[inside], expected.reshape(target * 2)[inside], atol=3e-3)
    np.testing.assert_allclose(resized, expected, atol=0.03)


def test_there_and_back_stays_close():
    """224 → 384 → 224: the windows' 14 tokens are 24 at 384, and a smooth table and bias come back."""
    offsets = np.linspace(-1, 1, 27)
    table = np.exp(-3 * (offsets[:, None] ** 2 + (offsets - 0.2) ** 2)).reshape(-1, 1)
    back = resize_table(resize_table(table, (14, 14), (24, 24)), (24, 24), (14, 14))
    assert np.max(np.abs(back - table)) < 2e-3
    bias = np.cos(np.linspace(0, 3, 14))[:, None] * np.linspace(1, 2, 14)
    back = resize_bias(resize_bias(bias.reshape(-1), (14, 14), (24, 24)), (24, 24), (14, 14))
    assert np.max(np.abs(back - bias.reshape(-1))) < 5e-3
    noise = np.random.default_rng(3).normal(size=(27 * 27, 1))
    back = resize_table(resize_table(noise, (14, 14), (24, 24)), (24, 24), (14, 14))
    assert np.corrcoef(back.ravel(), noise.ravel())[0, 1] > 0.97


TINY = {"widths": (8, 16), "depths": (1, 1), "expansions": (2, 2), "groups": (1, 1), "num_classes": 3}


def names_of(kind: str, before: dict, after: dict) -> list[str]:
    models = [
        nnx.eval_shape(lambda fields=fields: create_model("posmlp_t", relation=kind, **TINY | fields))
        for fields in (before, after)
    ]
    return sorted(".".join(map(str, path)) for path, _ in resizes(*models))


def test_what_is_resized():
    before, after = {"image_size": 32, "windows": (8, 4)}, {"image_size": (48, 32), "windows": ((12, 8), 4)}
    bias = "stages.0.blocks.0.gate.bias"
    relation = "stages.0.blocks.0.gate.relation"
    assert names_of("gqpe", before, before) == []
    assert names_of("gqpe", before, after) == [bias]
    assert names_of("lrpe", before, after) == [bias, f"{relation}.table"]
    position = {"absolute_position": True}
    assert names_of("gqpe", before | position, before | {"image_size": 64} | position) == ["position"]
    assert names_of("lrpe_m", before, after) == [bias, f"{relation}.dense.weight", f"{relation}.learned.table"]
    assert names_of("dense", before, after) == [bias, f"{relation}.weight"]
    assert names_of("dense", before | position, before | position) == []


def test_what_is_resized_in_time():
    sizes = {"widths": (8,), "depths": (1,), "windows": (4,), "groups": (2,), "image_size": 32, "num_classes": 3}

    def names(before: dict, after: dict, find=resizes) -> list[str]:
        models = [
            nnx.eval_shape(lambda fields=fields: create_model("posmlp_video_s", **sizes | fields))
            for fields in (before, after)
        ]
        return sorted(".".join(map(str, path)) for path, _ in find(*models))

    temporal = ["stages.0.blocks.0.temporal.gate.bias", "stages.0.blocks.0.temporal.gate.relation.table"]
    assert names({"num_frames": 4}, {"num_frames": 6}) == temporal
    assert names({"num_frames": 4, "relation": "gqpe"}, {"num_frames": 6, "relation": "gqpe"}) == temporal[:1]
    assert names({"num_frames": 4, "block": "joint"}, {"num_frames": 6, "block": "joint"}) == [
        name.replace("temporal", "joint") for name in temporal
    ]
    # Eight frames of which the stem makes four steps.
    assert names({"num_frames": 4}, {"num_frames": 8, "stem": "conv3d"}) == []
    assert names({"num_frames": 4}, {"num_frames": 8, "stem": "conv3d"}, inflates) == ["stem.convs.0.kernel"]
    assert names({"num_frames": 4, "stem": "conv3d"}, {"num_frames": 8, "stem": "conv3d"}, inflates) == []
    assert names({"num_frames": 8, "stem": "conv3d"}, {"num_frames": 8}, inflates) == []


def test_an_inflated_kernel():
    kernel = np.random.default_rng(4).normal(size=(3, 3, 2, 5)).astype(np.float32)
    inflated = inflate(kernel, 3)
    assert inflated.shape == (3, 3, 3, 2, 5)
    np.testing.assert_array_equal(inflated[1], kernel)
    assert not inflated[[0, 2]].any()


def test_the_resized_relation_looks_like_the_old_one():
    """Through the module: the matrix of a smooth table, seen from the central token."""
    model = randomized(lambda: create_model("posmlp_t", relation="lrpe", **TINY, image_size=32, windows=(9, 4)))
    relation = model.stages[0].blocks[0].gate.relation
    offsets = np.linspace(-1, 1, 17)
    table = np.exp(-2 * (offsets[:, None] ** 2 + offsets**2)).reshape(-1, 1).astype(np.float32)
    relation.table.set_value(table)
    before = np.asarray(relation())[0][40].reshape(9, 9)
    larger = nnx.eval_shape(lambda: create_model("posmlp_t", relation="lrpe", **TINY, image_size=32, windows=(27, 4)))
    functions = {".".join(map(str, path)): function for path, function in resizes(model, larger)}
    resized = functions["stages.0.blocks.0.gate.relation.table"](table).reshape(53, 53)
    # Three new tokens to an old one: the middle ones of each see the same, to the difference of 17/53 from 9/27.
    after = resized[26 - 12 : 26 + 13 : 3, 26 - 12 : 26 + 13 : 3]
    np.testing.assert_allclose(after, before, atol=0.04)
