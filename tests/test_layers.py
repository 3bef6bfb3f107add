"""Layers around the gating units, and the block, against loops and `math`."""

import math

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx

from posmlp_jax.blocks import GatedBlock
from posmlp_jax.layers import Dropout, gelu


def normal(*shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


@pytest.mark.parametrize("axes", [(), (1, 2)])
def test_dropout_draws_as_the_library_does(axes):
    """What it keeps, and gradients; nothing is dropped where it is told so."""
    ours, theirs = Dropout(0.3, broadcast_dims=axes), nnx.Dropout(0.3, broadcast_dims=axes)
    x, key = normal(4, 3, 5), jax.random.key(1)
    kept = ours(x, rngs=key)
    np.testing.assert_array_equal(kept, theirs(x, rngs=key))
    slope = jax.grad(lambda x: jnp.sum(ours(x, rngs=key)))(x)
    naive.assert_close(slope, np.where(kept == 0, 0, 1 / 0.7))
    for none in (Dropout(0.0), Dropout(0.3, deterministic=True)):
        assert none(x, rngs=key) is x


def test_gelu_is_exact():
    x = np.linspace(-8, 8, 1001, dtype=np.float32)
    np.testing.assert_allclose(gelu(jnp.asarray(x)), naive.gelu(x.astype(np.float64)), rtol=1e-6, atol=1e-6)
    slope = [0.5 * (1 + math.erf(v / 2**0.5)) + v * math.exp(-v * v / 2) / math.sqrt(2 * math.pi) for v in x]
    np.testing.assert_allclose(jax.vmap(jax.grad(gelu))(jnp.asarray(x)), slope, rtol=1e-6, atol=1e-6)
    assert gelu(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16


class Identity(nnx.Module):
    """In a gate's place: the block's residual branch is then two linear layers and a GELU."""

    parts, out_channels = 1, 8

    def __call__(self, x, layout):
        return x


@pytest.fixture(scope="module")
def branch():
    """`branch(dropout, drop_path)(x, keys)`: the block's output minus its input, for each of many keys."""

    def make(dropout: float, drop_path: float):
        block = GatedBlock(4, 2, lambda _: Identity(), dropout=dropout, drop_path=drop_path, rngs=nnx.Rngs(0))
        block.project.bias[...] = jnp.ones(4)
        return jax.jit(lambda x, keys: jax.vmap(lambda key: block(x, None, key) - x)(keys)), block

    return make


def test_drop_path_drops_whole_examples_and_keeps_the_mean(branch):
    """Each example's branch is 0 or 1/keep of what it is without; their mean over draws is that, within 5 sigma."""
    rate, draws, examples = 0.3, 1000, 4
    call, block = branch(0.0, rate)
    x = normal(examples, 2, 3, 4)
    whole = np.asarray(block(x) - x)
    result = np.asarray(call(x, jax.random.split(jax.random.key(0), draws)))
    dropped = np.all(result == 0, axis=(2, 3, 4))
    np.testing.assert_allclose(result[~dropped], np.broadcast_to(whole / (1 - rate), result.shape)[~dropped], rtol=1e-4)
    sigma = math.sqrt(rate * (1 - rate) / (draws * examples))
    assert abs(dropped.mean() - rate) < 5 * sigma
    # Examples are dropped independently of each other: all four together as often as rate⁴ says.
    assert abs(np.all(dropped, axis=1).mean() - rate**4) < 5 * math.sqrt(rate**4 / draws)
    error = 5 * math.sqrt(rate / (1 - rate) / draws)
    assert np.all(np.abs(result.mean(0) - whole) < error * np.abs(whole) + 1e-5)


def test_dropout_drops_single_values_and_keeps_the_mean(branch):
    rate, draws = 0.25, 1000
    call, block = branch(rate, 0.0)
    x = normal(1, 1, 3, 4)
    whole = np.asarray(block(x) - x)
    result = np.asarray(call(x, jax.random.split(jax.random.key(0), draws)))
    dropped = result == 0
    np.testing.assert_allclose(result[~dropped], np.broadcast_to(whole / (1 - rate), result.shape)[~dropped], rtol=1e-4)
    assert abs(dropped.mean() - rate) < 5 * math.sqrt(rate * (1 - rate) / dropped.size)
    assert 0 < dropped.reshape(draws, -1).all(1).sum() + (~dropped).reshape(draws, -1).all(1).sum() < draws / 10
