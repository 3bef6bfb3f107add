import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats

from posmlp_jax.tasks.classification.mixing import MixOptions, draw_box, draw_mask, draw_masks, mix

SIZE = (16, 20)
KEYS = jax.random.split(jax.random.key(0), 4000)


def masks(**options) -> np.ndarray:
    return np.asarray(jax.jit(jax.vmap(lambda key: draw_mask(key, SIZE, MixOptions(**options))))(KEYS))


def is_constant(drawn: np.ndarray) -> np.ndarray:
    return drawn.min(axis=(1, 2)) == drawn.max(axis=(1, 2))


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_mixups_weight_is_beta_distributed(alpha):
    drawn = masks(mixup=alpha)
    assert is_constant(drawn).all()
    assert stats.kstest(drawn[:, 0, 0], stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_cutmixs_box_is_the_written_out_one():
    for area in (0.0, 0.1, 0.5, 1.0):
        drawn = np.asarray(jax.jit(jax.vmap(lambda key, area=area: draw_box(key, SIZE, area)))(KEYS[:300]))
        sides = [int(side * np.sqrt(area)) // 2 for side in SIZE]
        seen = set()
        for box in drawn:
            rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
            assert box.sum() == len(rows) * len(columns)  # One rectangle, without holes.
            if len(rows):
                seen.add((rows[0], rows[-1], columns[0], columns[-1]))
        boxes = {
            (max(y - sides[0], 0), min(y + sides[0], SIZE[0]) - 1, max(x - sides[1], 0), min(x + sides[1], SIZE[1]) - 1)
            for y in range(SIZE[0])
            for x in range(SIZE[1])
            if all(sides)
        }
        assert seen <= boxes
        assert 3 * len(seen) >= len(boxes)  # 300 draws of at most 320 places.


def test_how_often_a_batch_is_mixed_and_how():
    drawn = masks(mixup=0.5, cutmix=1.0, probability=0.8, switch_probability=0.25)
    untouched = (drawn == 1).all(axis=(1, 2))
    cut = ~is_constant(drawn)
    # 4000 draws: three standard deviations are 0.02; a box that is empty or the whole image counts as neither.
    assert untouched.mean() == pytest.approx(0.2, abs=0.03)
    assert cut.mean() == pytest.approx(0.8 * 0.25, abs=0.04)
    assert set(np.unique(drawn[cut])) == {0, 1}


def test_one_of_the_two_alone():
    assert set(np.unique(masks(cutmix=1.0))) == {0, 1}
    assert not MixOptions().active
    assert not MixOptions(mixup=1.0, probability=0.0).active


@pytest.mark.parametrize("options", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_mixing_by_loops(options):
    random = np.random.default_rng(0)
    images = random.normal(size=(6, *SIZE, 3)).astype(np.float32)
    targets = np.eye(4)[random.integers(0, 4, 6)].astype(np.float32)
    mask = masks(**options)[7]
    mixed, mixed_targets = mix(images, targets, mask)
    kept = float(np.mean(mask, dtype=np.float64))
    for example, partner in ((0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4)):
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                wanted = mask[y, x] * images[example, y, x] + (1 - mask[y, x]) * images[partner, y, x]
                np.testing.assert_allclose(mixed[example, y, x], wanted, rtol=1e-5, atol=1e-6)
        wanted = kept * targets[example] + (1 - kept) * targets[partner]
        np.testing.assert_allclose(mixed_targets[example], wanted, rtol=1e-6, atol=1e-7)


def test_without_groups_a_batch_has_the_draw_that_it_had():
    options = MixOptions(mixup=0.5, cutmix=1.0)
    for whole in (options, dataclasses.replace(options, group=24), dataclasses.replace(options, group=30)):
        drawn = draw_masks(KEYS[5], 24, SIZE, whole)
        np.testing.assert_array_equal(drawn, draw_mask(KEYS[5], SIZE, options)[None])


def test_every_group_has_its_own_draw():
    """960 images in groups of 120 are mixed as eight GPUs mix theirs: each by mixup or CutMix, with its own λ."""
    options = MixOptions(mixup=0.5, cutmix=1.0, group=120)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: draw_masks(key, 960, SIZE, options)))(KEYS[:200]))
    assert drawn.shape == (200, 8, *SIZE)
    masks = drawn.reshape(-1, *SIZE)
    constant = is_constant(masks)
    # 1600 draws; a box that is empty or the whole image counts as mixup.
    assert constant.mean() == pytest.approx(0.5, abs=0.06)
    inside = masks[constant][:, 0, 0]
    inside = inside[(inside > 0) & (inside < 1)]
    assert stats.kstest(inside, stats.beta(0.5, 0.5).cdf).pvalue > 1e-3
    assert len(np.unique(inside)) > 0.95 * len(inside)
    # Neighbours' kinds and weights are independent.
    kinds, weights = constant.reshape(200, 8), masks.mean((1, 2)).reshape(200, 8)
    assert abs(np.corrcoef(kinds[:, 0], kinds[:, 1])[0, 1]) < 0.25
    assert abs(np.corrcoef(weights[:, 0], weights[:, 1])[0, 1]) < 0.25


@pytest.mark.parametrize("frames", [(), (2,)])
def test_mixing_with_a_mask_for_each_example(frames):
    """Each pair as if it were alone with its mask."""
    random = np.random.default_rng(0)
    images = random.normal(size=(6, *frames, *SIZE, 3)).astype(np.float32)
    targets = np.eye(4)[random.integers(0, 4, 6)].astype(np.float32)
    groups = [0, 0, 1, 1, 1, 1]
    drawn = draw_masks(KEYS[3], 6, SIZE, MixOptions(mixup=1.0, cutmix=1.0, group=2))
    mixed, mixed_targets = mix(images, targets, drawn[np.array(groups)])
    for first in (0, 2, 4):
        pair = slice(first, first + 2)
        alone, alone_targets = mix(images[pair], targets[pair], drawn[groups[first]])
        np.testing.assert_allclose(mixed[pair], alone, rtol=1e-6)
        np.testing.assert_allclose(mixed_targets[pair], alone_targets, rtol=1e-6)
