"""Random erasing: how often, how large, where, and with what."""

import numpy as np
import pytest

from posmlp_jax.data.augment.erasing import RandomErasing
from posmlp_jax.errors import ConfigError

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def erase(image, rng, probability=1.0, **options):
    return RandomErasing(probability, **(IMAGENET | options))(image, rng)


def erased_box(image):
    """(height, width) of the box of pixels that are not 0, which it fills."""
    rows, columns = image.any((1, 2)), image.any((0, 2))
    box = image[np.ix_(rows, columns)]
    assert box.any(-1).all()
    return box.shape[:2]


def test_const_is_the_mean_colour():
    image = np.zeros((64, 48, 3), np.uint8)
    result = erase(image, np.random.default_rng(0))
    assert not image.any()
    assert result.dtype == np.uint8
    assert result.shape == image.shape
    assert set(map(tuple, result.reshape(-1, 3).tolist())) == {(0, 0, 0), (124, 116, 104)}
    levels = result[result.any(-1)] / 255
    assert np.abs((levels - IMAGENET["mean"]) / IMAGENET["std"]).max() < 0.5 / (255 * 0.22)


def test_boxes_have_timms_areas_and_aspects():
    rng = np.random.default_rng(0)
    boxes = np.array([erased_box(erase(np.zeros((100, 100, 3), np.uint8), rng)) for _ in range(2000)])
    area = boxes.prod(-1) / 100**2
    log_aspect = np.log(boxes[:, 0] / boxes[:, 1])
    assert 0.018 < area.min() < 0.025
    assert 0.31 < area.max() < 0.34
    # Rejecting boxes that do not fit takes a few of the largest and narrowest; else 0.1767, uniform.
    assert area.mean() == pytest.approx(0.1767, abs=0.01)
    assert np.abs(log_aspect).max() < np.log(1 / 0.3) + 0.15
    assert log_aspect.mean() == pytest.approx(0, abs=0.05)
    assert log_aspect.std() == pytest.approx(2 * np.log(1 / 0.3) / np.sqrt(12), abs=0.05)


def test_boxes_reach_every_place():
    rng = np.random.default_rng(0)
    hits = sum((erase(np.zeros((32, 32, 3), np.uint8), rng)[..., 0] > 0).astype(int) for _ in range(2000))
    assert hits.min() > 0
    np.testing.assert_allclose(hits, hits[::-1], atol=120)
    np.testing.assert_allclose(hits, hits[:, ::-1], atol=120)


def test_probability():
    rng = np.random.default_rng(0)
    image = np.zeros((16, 16, 3), np.uint8)
    results = [erase(image, rng, 0.25) for _ in range(4000)]
    assert sum(result is not image for result in results) / 4000 == pytest.approx(0.25, abs=0.025)
    assert all(erase(image, rng, 0.0) is image for _ in range(100))


def test_pixel_noise_is_standard_normal_once_normalised():
    rng = np.random.default_rng(0)
    marker = np.zeros((200, 200, 3), np.uint8)
    noise = []
    for _ in range(20):
        result = erase(marker, rng, mode="pixel")
        inside = np.zeros((200, 200), bool)
        rows, columns = np.flatnonzero(result.any((1, 2))), np.flatnonzero(result.any((0, 2)))
        inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        noise.append((result[inside] / 255 - IMAGENET["mean"]) / IMAGENET["std"])
    noise = np.concatenate(noise)
    assert np.abs(noise.mean(0)).max() < 0.02
    np.testing.assert_allclose(noise.std(0), 0.975, atol=0.015)  # 1, less what is clipped to 0..255
    quantiles = np.quantile(noise, [0.1587, 0.5, 0.8413], axis=0)
    np.testing.assert_allclose(quantiles, np.array([[-1], [0], [1]]).repeat(3, 1), atol=0.02)
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.02


def test_count_divides_the_area():
    class Most(np.random.Generator):
        """Draws the highest number of boxes."""

        def integers(self, low, high=None):
            return super().integers(low) if high is None else high - 1

    rng = Most(np.random.PCG64(0))
    one, four = (
        np.mean([(erase(np.zeros((64, 64, 3), np.uint8), rng, count=n)[..., 0] > 0).mean() for _ in range(800)])
        for n in (1, 4)
    )
    assert one == pytest.approx(0.1767, abs=0.012)
    # Four boxes of a quarter each overlap now and then.
    assert 0.14 < four < one


def test_the_number_of_boxes_is_uniform():
    class Counting:
        """Records the bounds of the first whole number that is drawn from `rng`: the number of boxes."""

        def __init__(self):
            self.rng, self.bounds = np.random.default_rng(0), []

        def __getattr__(self, name):
            return getattr(self.rng, name)

        def integers(self, *bounds):
            self.bounds.append(bounds)
            return self.rng.integers(*bounds)

    counting = Counting()
    erase(np.zeros((64, 64, 3), np.uint8), counting, count=5)
    assert counting.bounds[0] == (1, 6)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (3, 2, 3)])
@pytest.mark.parametrize("mode", ["const", "pixel"])
def test_tiny_images(shape, mode):
    for seed in range(50):
        assert erase(np.zeros(shape, np.uint8), np.random.default_rng(seed), mode=mode, count=3).shape == shape


def test_depends_on_the_generator_alone():
    image = np.zeros((40, 40, 3), np.uint8)
    image.setflags(write=False)
    first, again, other = (erase(image, np.random.default_rng(seed), mode="pixel", count=3) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "pixels"}, "did you mean 'pixel'"),
        ({"probability": 1.5}, "probability of random erasing"),
        ({"count": 0}, "count of 1 or more, not count=0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        erase(np.zeros((8, 8, 3), np.uint8), np.random.default_rng(0), **options)
