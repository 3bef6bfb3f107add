"""Layers around the gating units, and the block, against loops and `math`."""

import math

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from posmlp_jax.blocks import GatedBlock
from posmlp_jax.errors import ConfigError
from posmlp_jax.layers import Dropout, gelu, normalization, normalize


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


def test_batch_norm_by_hand():
    """Training normalises by the batch's (biased) variance and moves the running statistics a tenth of the way."""
    norm = normalization("batch", 1, jnp.float32, nnx.Rngs(0))
    x = jnp.array([1.0, 3.0, 5.0, 7.0]).reshape(2, 2, 1, 1)
    np.testing.assert_allclose(
        normalize(norm, x, train=True).ravel(), np.array([-3, -1, 1, 3]) / np.sqrt(5 + 1e-6), rtol=1e-6
    )
    np.testing.assert_allclose([norm.mean[0], norm.var[0]], [0.1 * 4, 0.9 * 1 + 0.1 * 5], rtol=1e-6)
    np.testing.assert_allclose(normalize(norm, x, train=False).ravel(), (x.ravel() - 0.4) / np.sqrt(1.4), rtol=1e-5)
    np.testing.assert_allclose(norm.mean[0], 0.4, rtol=1e-6)


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_statistics_are_float32_in_a_bfloat16_model(kind, train):
    """With a mean of 1001 and a deviation of 4 (bfloat16 has steps of 4 there), only the input is rounded."""
    channels = 64
    norm = normalization(kind, channels, jnp.bfloat16, nnx.Rngs(0))
    x = (1001 + 4 * normal(64, channels)).astype(jnp.bfloat16)
    exact = np.asarray(x, np.float64)
    axis = 0 if kind == "batch" else 1
    mean, variance = exact.mean(axis, keepdims=True), exact.var(axis, keepdims=True)
    if kind == "batch" and not train:
        norm.mean[...], norm.var[...] = jnp.asarray(mean[0], jnp.float32), jnp.asarray(variance[0], jnp.float32)
    y = normalize(norm, x, train)
    assert y.dtype == jnp.bfloat16
    # The result's own rounding, 2⁻⁹, and float32's of the squares of a thousand.
    np.testing.assert_allclose(
        np.asarray(y, np.float64), (exact - mean) / np.sqrt(variance + 1e-6), rtol=2**-8, atol=0.02
    )


def test_batch_statistics_are_those_of_the_global_batch():
    """Eight devices with an eighth of the batch each, whose parts differ a lot, give what one device gives."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    x = normal(16, 4, 4, 6) * jnp.arange(1, 17)[:, None, None, None] + jnp.arange(16)[:, None, None, None]
    graph, state = nnx.split(normalization("batch", 6, jnp.float32, nnx.Rngs(0)))

    @jax.jit
    def apply(state, x):
        norm = nnx.merge(graph, state)
        y = normalize(norm, x, train=True)
        return y, norm.mean[...], norm.var[...]

    alone = apply(state, x)
    shared = apply(state, jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))))
    assert len(shared[0].sharding.device_set) == 8
    for actual, expected in zip(shared, alone, strict=True):
        naive.assert_close(actual, expected, 1e-6)
    x64 = np.asarray(x, np.float64)
    naive.assert_close(shared[1], 0.1 * x64.mean((0, 1, 2)))
    naive.assert_close(shared[2], 0.9 + 0.1 * x64.var((0, 1, 2)))


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


def test_unknown_norm():
    with pytest.raises(ConfigError, match="'bach'; did you mean 'batch'"):
        normalization("bach", 4, jnp.float32, nnx.Rngs(0))
