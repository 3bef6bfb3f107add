"""Where things lie after augmentation: blobs are found again in the pixels, and are where the matrix says."""

import itertools

import numpy as np
import pytest

from posmlp_jax.data.augment.augmentation import CROPS, Augmentation
from posmlp_jax.data.augment.crops import INTERPOLATIONS, uniform_crop_boxes
from posmlp_jax.data.augment.placement import Placement, cut_out
from posmlp_jax.data.augment.randaugment import RandAugment
from posmlp_jax.training import default_config

# One blob in each channel of a black image, each a round bump; as shares of the width and of the height.
POINTS = np.array([[0.28, 0.36], [0.66, 0.3], [0.45, 0.72]])
AFFINE = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")


def blobs(height: int, width: int, radius: float) -> np.ndarray:
    """uint8 [height, width, 3]; pixel i has its centre at i + ½."""
    x, y = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
    bumps = [np.exp(-((x - u * width) ** 2 + (y - v * height) ** 2) / (2 * radius**2)) for u, v in POINTS]
    return np.rint(255 * np.stack(bumps, -1)).astype(np.uint8)


def found(image: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Where each channel's blob is, (x, y) in pixels, and how much of it is there."""
    places = []
    for channel in np.moveaxis(image.astype(np.float64), -1, 0):
        weight = channel * (channel > 4)  # Interpolation rings.
        x, y = np.arange(channel.shape[1]) + 0.5, np.arange(channel.shape[0]) + 0.5
        mass = max(weight.sum(), 1e-9)
        places.append((np.array([weight.sum(0) @ x, weight.sum(1) @ y]) / mass, mass))
    return places


def told(placement: Placement) -> np.ndarray:
    """Where the matrix says that the points are, [3, 2]."""
    assert placement.matrix.shape == (2, 3)
    assert placement.matrix.dtype == np.float64
    return np.stack([placement.matrix @ (*point, 1.0) for point in POINTS])


def compare(image: np.ndarray, placement: Placement, before: np.ndarray, within: float = 0.6) -> int:
    """How many of the blobs are there as a whole; fails when one of them is not where it should be.

    A part of a blob is gone where it was moved over an edge, even if it was moved back later.
    """
    count = 0
    height, width = before.shape[:2]
    grown = abs(np.linalg.det(placement.matrix[:, :2])) / (height * width)
    for (place, mass), (_, mass_before), expected in zip(found(image), found(before), told(placement), strict=True):
        if abs(mass / (grown * mass_before) - 1) < 0.03:
            assert np.abs(place - expected).max() < within, (place, expected)
            count += 1
    return count


def augmentation(size, **changes) -> Augmentation:
    config = default_config().data
    config.update(crop_scale=(0.3, 1.0), scale_sides=(120, 140), randaugment_fill=(0, 0, 0), **changes)
    return Augmentation(config, size)


@pytest.fixture(params=["frame", "crop"])
def moved(request, monkeypatch):
    """Makes an `Augmentation` whose RandAugment moves pixels and leaves colours alone."""
    monkeypatch.setattr("posmlp_jax.data.augment.randaugment.OPERATIONS", AFFINE)
    return lambda size, **changes: augmentation(
        size, randaugment="rand-m7-n3-mstd2-p0.7", randaugment_on=request.param, **changes
    )


@pytest.mark.parametrize(
    ("crop", "interpolation"),
    [*(("random_resized", name) for name in INTERPOLATIONS), ("pad", "bicubic"), ("resize", "bicubic")],
)
def test_crops_and_flips(crop, interpolation):
    augment, seen = augmentation((96, 120), crop=crop, interpolation=interpolation, crop_padding=9), set()
    count = 0
    for shape, seed in itertools.product([(150, 200), (200, 150), (70, 90)], range(20)):
        out = np.empty((96, 120, 3), np.uint8)
        placement = augment.fill(out, image := blobs(*shape, 4.0), np.random.default_rng(seed))
        count += compare(out, placement, image)
        seen.add(placement.mirrored)
        # Three points that go round clockwise do so no more in a mirror.
        first, second, third = told(placement)
        assert placement.mirrored == (np.linalg.det([second - first, third - first]) < 0)
    assert count > 100
    assert seen == {False, True}


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_moving_operations_and_what_follows_them(moved, crop, interpolation):
    augment = moved((96, 120), crop=crop, randaugment_interpolation=interpolation, crop_padding=2)
    count, matrices = 0, []
    for shape, seed in itertools.product([(150, 200), (97, 131)], range(40)):
        out = np.empty((96, 120, 3), np.uint8)
        placement = augment.fill(out, image := blobs(*shape, 4.0), np.random.default_rng(seed))
        count += compare(out, placement, image, within=1.0)  # Blobs may lack a little.
        matrices.append(placement.matrix)
    assert count > 80
    assert np.abs(np.diff(matrices, axis=0)).max(0).min() > 0.05  # Every entry varies.


@pytest.mark.parametrize("operation", AFFINE)
def test_each_operation_by_itself(operation, monkeypatch):
    """Tighter than a pixel: half a pixel is what counting from centres instead of edges would be off."""
    monkeypatch.setattr("posmlp_jax.data.augment.randaugment.OPERATIONS", (operation,))
    image = blobs(90, 121, 4.0)
    count = 0
    for seed in range(30):
        augment = RandAugment.from_string("rand-m5-n1-mstd3-p1", mean=(0.0, 0.0, 0.0))
        result, movement = augment(image, np.random.default_rng(seed))
        count += compare(result, Placement.of((90, 121), movement, (90, 121)), image, within=0.25)
    assert count > 40


def test_all_frames_of_a_clip_are_placed_alike(moved):
    augment = moved((64, 48), crop="random_resized")
    image = blobs(90, 110, 4.0)
    for seed in range(10):
        clip, single = np.empty((3, 64, 48, 3), np.uint8), np.empty((64, 48, 3), np.uint8)
        placement = augment.fill(clip, np.stack([image] * 3), np.random.default_rng(seed))
        alone = augment.fill(single, image, np.random.default_rng(seed))
        np.testing.assert_array_equal(placement.matrix, alone.matrix)
        for frame in clip:
            np.testing.assert_array_equal(frame, single)


@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (75, 50)])
@pytest.mark.parametrize("eval_crop", [1.0, 0.8])
def test_what_evaluation_sees(shape, eval_crop):
    """By `augment='none'` and by the crop's box, of which there may be three."""
    augment, out = augmentation((48, 40), augment="none", eval_crop=eval_crop), np.empty((48, 40, 3), np.uint8)
    placement = augment.fill(out, image := blobs(*shape, 3.0), np.random.default_rng(0))
    assert not placement.mirrored
    assert compare(out, placement, image) >= 1
    for box in uniform_crop_boxes(shape, (48, 40), eval_crop, 3):
        top, left, height, width = box
        matrix = Placement.of(shape, cut_out(box, (48, 40)), (48, 40)).matrix
        corners = np.array([[left, top], [left + width, top + height]]) / (shape[1], shape[0])
        np.testing.assert_allclose(np.c_[corners, np.ones(2)] @ matrix.T, [[0, 0], [40, 48]], atol=1e-9)


@pytest.mark.parametrize("crop", CROPS)
def test_a_box_goes_with_what_is_in_it(moved, crop):
    """The box around its four corners after they were moved holds a bright rectangle, and hardly anything else."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[40:80, 60:100] = 255
    corners = np.array(
        [[60 / 160, 40 / 120, 1], [100 / 160, 40 / 120, 1], [60 / 160, 80 / 120, 1], [100 / 160, 80 / 120, 1]]
    )
    augment, whole = moved((100, 110), crop=crop), 0
    margin = 9 if crop == "pad" else 2  # What is nearer may be reflected.
    for seed in range(60):
        out = np.empty((100, 110, 3), np.uint8)
        placement = augment.fill(out, image, np.random.default_rng(seed))
        moved_corners = corners @ placement.matrix.T
        left, top = moved_corners.min(0)
        right, bottom = moved_corners.max(0)
        if min(left, top, 110 - right, 100 - bottom) < margin:
            continue
        # Not a whole one where it was moved over an edge and back.
        area = np.linalg.det(placement.matrix[:, :2]) * (40 * 40) / (120 * 160)
        if abs((out > 127).all(-1).sum() / abs(area) - 1) > 0.03:
            continue
        rows, columns = np.flatnonzero((out > 127).any((1, 2))), np.flatnonzero((out > 127).any((0, 2)))
        seen = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        # A corner that points outwards is the darker the sharper it is.
        np.testing.assert_allclose(seen, (left, top, right, bottom), atol=2.0)
        whole += 1
    assert whole > 8
