"""Layers around the gating units, against loops, `lax` and `math`."""

import math

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from helpers import functional, randomized
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from posmlp_jax.errors import ConfigError
from posmlp_jax.layers import (
    ConvMerging,
    ConvStem,
    Dropout,
    GatedBlock,
    LinearMerging,
    LinearStem,
    depthwise_by_taps,
    depthwise_by_whole_kernel,
    depthwise_conv,
    gelu,
    normalization,
    normalize,
)


def normal(*shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def library_conv(x, kernel):
    """The same convolution by XLA's own grouped one."""
    return jax.lax.conv_general_dilated(
        x, kernel, (2, 2), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1]
    )


@pytest.mark.parametrize("conv", [depthwise_by_taps, depthwise_by_whole_kernel])
@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (4, 9), (1, 2)], ids=str)
def test_depthwise_conv(size, multiplier, conv):
    """Value and gradients equal XLA's grouped convolution's, values also those of loops."""
    x, kernel = normal(2, *size, 3), normal(3, 3, 1, 3 * multiplier, seed=1)
    expected = library_conv(x, kernel)
    naive.assert_close(conv(x, kernel), expected, 2e-6)
    x64, kernel64 = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    naive.assert_close(expected, [naive.depthwise_conv(image, kernel64) for image in x64])

    weights = normal(*expected.shape, seed=2)
    ours, theirs = (
        jax.jit(jax.grad(lambda x, kernel, conv=conv: jnp.sum(weights * conv(x, kernel)), argnums=(0, 1)))(x, kernel)
        for conv in (conv, library_conv)
    )
    for actual, expected in zip(ours, theirs, strict=True):
        naive.assert_close(actual, expected, 2e-6)


def test_each_platform_has_its_depthwise_conv():
    x, kernel = normal(2, 8, 8, 3), normal(3, 3, 1, 6)
    np.testing.assert_array_equal(depthwise_conv(x, kernel), depthwise_by_taps(x, kernel))
    programs = {
        platform: depthwise_conv.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    convolving = {platform for platform, text in programs.items() if "stablehlo.convolution" in text}
    assert convolving == {"tpu"}


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


@pytest.mark.parametrize("size", [(4, 6), (5, 7)], ids=str)
def test_linear_merging(size):
    """Table 10: 2×2 neighbours joined, normalised, 4C → 2C; what is outside an odd map is zero before the norm."""
    merging = randomized(lambda: LinearMerging(3, "layer", jnp.float32, nnx.Rngs(0)))
    assert merging.linear.bias is None
    x = normal(1, *size, 3)
    values = {name: np.asarray(value, np.float64) for name, value in functional(merging)[0].items()}
    padded = np.zeros((size[0] + 1, size[1] + 1, 3))
    padded[: size[0], : size[1]] = x[0]
    rows, columns = -(-size[0] // 2), -(-size[1] // 2)
    joined = np.array(
        [
            [np.concatenate([padded[2 * r + i, 2 * c + j] for i in range(2) for j in range(2)]) for c in range(columns)]
            for r in range(rows)
        ]
    )
    expected = naive.layer_norm(joined, values["norm.scale"], values["norm.bias"]) @ values["linear.kernel"]
    naive.assert_close(merging(x)[0], expected)


@pytest.mark.parametrize("size", [(8, 12), (9, 10)], ids=str)
def test_linear_stem(size):
    """Patches of 4×4 pixels, each through the same linear layer; the last ones padded with zeros."""
    stem = randomized(lambda: LinearStem(5, 4, None, jnp.float32, nnx.Rngs(0)))
    kernel, bias = np.asarray(stem.conv.kernel[...], np.float64), np.asarray(stem.conv.bias[...], np.float64)
    images = normal(1, *size, 3)
    padded = np.zeros((12, 12, 3))
    padded[: size[0], : size[1]] = images[0]
    rows, columns = -(-size[0] // 4), -(-size[1] // 4)
    expected = [
        [np.tensordot(padded[4 * r : 4 * r + 4, 4 * c : 4 * c + 4], kernel, axes=3) + bias for c in range(columns)]
        for r in range(rows)
    ]
    naive.assert_close(stem(images)[0], expected)


@pytest.mark.parametrize("size", [(32, 32), (33, 30), (31, 7)], ids=str)
def test_sizes_are_rounded_up(size):
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    rngs = nnx.Rngs(0)
    quarter = (-(-size[0] // 4), -(-size[1] // 4))
    for stem in (ConvStem(8, "batch", jnp.float32, rngs), LinearStem(8, 4, "batch", jnp.float32, rngs)):
        assert jax.eval_shape(stem, images).shape == (2, *quarter, 8)
    half = (-(-size[0] // 2), -(-size[1] // 2))
    for merging in (ConvMerging(3, "layer", jnp.float32, rngs), LinearMerging(3, "layer", jnp.float32, rngs)):
        assert jax.eval_shape(merging, images).shape == (2, *half, 6)


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
