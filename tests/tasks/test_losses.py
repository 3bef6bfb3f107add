import numpy as np
import pytest

from posmlp_jax.tasks.classification.losses import correct_top, cross_entropy, soft_targets

LOGITS = np.random.default_rng(0).normal(0, 3, (6, 7))
LABELS = np.array([0, 6, 3, 3, 1, 5])


def naive_loss(logits, target):
    total = np.log(sum(np.exp(value) for value in logits))
    return -sum(t * (value - total) for t, value in zip(target, logits, strict=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_with_label_smoothing(smoothing):
    targets = soft_targets(LABELS, 7, smoothing)
    naive = [[smoothing / 7 + (1 - smoothing) * (k == label) for k in range(7)] for label in LABELS]
    np.testing.assert_allclose(targets, naive, rtol=1e-6)
    wanted = [naive_loss(*pair) for pair in zip(LOGITS, naive, strict=True)]
    np.testing.assert_allclose(cross_entropy(LOGITS, targets), wanted, rtol=1e-5)


def test_soft_targets_are_smoothed_too():
    mixed = np.random.default_rng(1).dirichlet(np.ones(7), 6)
    smoothed = soft_targets(mixed, 7, 0.1)
    np.testing.assert_allclose(smoothed, 0.9 * mixed + 0.1 / 7, rtol=1e-6)
    np.testing.assert_allclose(smoothed.sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 7, 9])
def test_correct_top_is_membership_in_the_sorted_logits(k):
    ranked = np.argsort(-LOGITS, axis=-1, kind="stable")[:, :k]
    wanted = [label in row for label, row in zip(LABELS, ranked, strict=True)]
    np.testing.assert_array_equal(correct_top(LOGITS, LABELS, k), wanted)


def test_equal_logits_count_as_argmax_counts_them():
    # A model that says nothing is right for the first class alone, and not for all of them.
    np.testing.assert_array_equal(correct_top(np.zeros((3, 3)), np.arange(3), 1), [True, False, False])


def test_nothing_is_correct_where_logits_are_no_numbers():
    logits = np.full((3, 3), np.nan)
    logits[2] = [0, np.nan, 1]
    for k in (1, 2, 3):
        np.testing.assert_array_equal(correct_top(logits, np.arange(3), k), [False] * 3)


def test_a_soft_targets_label_is_its_likeliest_class():
    soft = np.eye(7)[LABELS] * 0.6 + 0.4 / 7
    np.testing.assert_array_equal(correct_top(LOGITS, soft, 2), correct_top(LOGITS, LABELS, 2))
