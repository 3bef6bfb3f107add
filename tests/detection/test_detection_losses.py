"""Losses against closed formulas and torchvision, with targets that are ignored and logits beyond all bounds."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from posmlp_jax.detection.losses import box_loss, focal_loss


def logits_and_targets() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(0, 3, (12, 4)).astype(np.float32), np.arange(12) % 6 - 2


def naive_focal(logit: float, positive: bool, alpha: float, gamma: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -alpha * (1 - p) ** gamma * math.log(p) if positive else -(1 - alpha) * p**gamma * math.log(1 - p)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.4, 1.5)])
def test_focal_loss(alpha, gamma):
    logits, targets = logits_and_targets()
    assert {*targets.tolist()} == {-2, -1, 0, 1, 2, 3}
    expected = [
        0 if target == -2 else sum(naive_focal(x, index == target, alpha, gamma) for index, x in enumerate(row))
        for row, target in zip(logits.tolist(), targets, strict=True)
    ]
    np.testing.assert_allclose(focal_loss(logits, targets, alpha, gamma), expected, rtol=1e-5, atol=1e-6)


def test_losses_are_torchvisions(torchvision):
    """With gradients."""
    import torch

    logits, targets = logits_and_targets()
    theirs = torch.from_numpy(logits).requires_grad_()
    labels = torch.from_numpy(np.where(targets[:, None] == np.arange(4), 1.0, 0.0).astype(np.float32))
    losses = torchvision.ops.sigmoid_focal_loss(theirs, labels, 0.25, 2).sum(dim=1)
    losses[torch.from_numpy(targets != -2)].sum().backward()
    value, gradient = jax.value_and_grad(lambda logits: jnp.sum(focal_loss(logits, targets)))(logits)
    np.testing.assert_allclose(value, losses[torch.from_numpy(targets != -2)].sum().detach(), rtol=1e-5)
    np.testing.assert_allclose(gradient, theirs.grad, atol=1e-6)

    deltas, goals = np.random.default_rng(1).normal(0, 0.3, (2, 9, 4)).astype(np.float32)
    for beta in (0.0, 1 / 9, 1.0):
        theirs = torch.from_numpy(deltas).requires_grad_()
        losses = torch.nn.functional.smooth_l1_loss(theirs, torch.from_numpy(goals), beta=beta, reduction="none")
        losses.sum().backward()
        value, gradient = jax.value_and_grad(lambda deltas, beta=beta: jnp.sum(box_loss(deltas, goals, beta)))(deltas)
        np.testing.assert_allclose(box_loss(deltas, goals, beta), losses.sum(dim=1).detach(), rtol=1e-5)
        np.testing.assert_allclose(gradient, theirs.grad, atol=1e-5)


def test_box_loss_by_hand():
    deltas, targets = np.array([[0.0, 1.0, -3.0, 0.5]], np.float32), np.array([[0.0, 0.0, 1.0, 0.0]], np.float32)
    np.testing.assert_allclose(box_loss(deltas, targets), [1 + 4 + 0.5])
    np.testing.assert_allclose(box_loss(deltas, targets, 2.0), [1 / 4 + (4 - 1) + 0.25 / 4])


def test_logits_beyond_all_bounds():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4], [200.0, -200.0]], np.float32)
    for targets in (np.array([0, 0, -1]), np.array([-2, -2, -2])):
        value, gradient = jax.value_and_grad(lambda x, targets=targets: jnp.sum(focal_loss(x, targets)))(logits)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))
    assert value == 0
    assert not np.any(gradient)
    assert focal_loss(jnp.zeros((0, 3)), jnp.zeros(0, int)).shape == (0,)
    assert focal_loss(jnp.ones((2, 3), jnp.bfloat16), np.array([0, -1])).dtype == jnp.float32
