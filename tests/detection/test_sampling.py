"""Samples are what they should be, are decided by the key alone, and are spread evenly."""

import jax
import numpy as np
import pytest

from posmlp_jax.detection.sampling import sample

ANCHORS = 200
sampled = jax.jit(sample, static_argnums=(2, 3))


def matches(positive: int, background: int) -> np.ndarray:
    """Some of each, shuffled, the rest ignored."""
    values = np.full(ANCHORS, -2, np.int32)
    values[:positive] = np.arange(positive) % 7
    values[positive : positive + background] = -1
    return np.random.default_rng(0).permutation(values)


@pytest.mark.parametrize(
    ("positive", "background", "expected"),
    [(60, 140, (16, 16)), (5, 150, (5, 27)), (0, 200, (0, 32)), (60, 10, (16, 10)), (3, 0, (3, 0)), (0, 0, (0, 0))],
)
def test_as_many_as_there_are_and_shall_be(positive, background, expected):
    values = matches(positive, background)
    for seed in range(5):
        chosen, valid = map(np.asarray, sampled(jax.random.key(seed), values, 32, 0.5))
        number = sum(expected)
        np.testing.assert_array_equal(valid, np.arange(32) < number)
        assert not np.any(chosen[number:])
        assert len({*chosen[:number].tolist()}) == number
        assert np.all(values[chosen[: expected[0]]] >= 0)
        assert np.all(values[chosen[expected[0] : number]] == -1)


def test_the_key_decides_alone():
    values = matches(60, 140)
    one, other = sampled(jax.random.key(1), values, 32, 0.25), sampled(jax.random.key(2), values, 32, 0.25)
    np.testing.assert_array_equal(one[0], sampled(jax.random.key(1), values, 32, 0.25)[0])
    assert not np.array_equal(one[0], other[0])
    both = jax.vmap(lambda key: sample(key, values, 32, 0.25))(jax.random.split(jax.random.key(3), 2))
    alone = sampled(jax.random.split(jax.random.key(3), 2)[1], values, 32, 0.25)
    np.testing.assert_array_equal(both[0][1], alone[0])


def test_all_of_a_kind_are_equally_likely():
    values = matches(50, 100)
    keys = jax.random.split(jax.random.key(0), 2000)
    chosen, valid = jax.jit(jax.vmap(lambda key: sample(key, values, 40, 0.5)))(keys)
    assert np.all(valid)
    times = np.bincount(np.asarray(chosen).reshape(-1), minlength=ANCHORS)
    for kind, share in ((values >= 0, 20 / 50), (values == -1, 20 / 100)):
        deviation = np.sqrt(2000 * share * (1 - share))
        assert np.all(np.abs(times[kind] - 2000 * share) < 5 * deviation)


def test_fewer_anchors_than_samples():
    values = np.array([-1, 3, -2, 0], np.int32)
    chosen, valid = sample(jax.random.key(0), values, 8, 0.5)
    np.testing.assert_array_equal(valid, np.arange(8) < 3)
    assert ({*chosen[:2].tolist()}, chosen[2]) == ({1, 3}, 0)
