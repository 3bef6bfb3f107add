"""Norms against formulas, in float64."""

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from posmlp_jax.errors import ConfigError
from posmlp_jax.normalization import LayerNorm, normalization, normalize


def normal(*shape, seed=0, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("spread", [1.0, 0.0], ids=["values", "one value"])
def test_layer_norm_and_its_derivative(axis, spread):
    """x̂ₖ = (xₖ − μ)/√(σ² + ε), of which ∂x̂ₖ/∂xⱼ = (δₖⱼ − 1/n − x̂ₖx̂ⱼ/n)/√(σ² + ε)."""
    count, epsilon = 7, 1e-3
    norm = LayerNorm(count, axis=axis, epsilon=epsilon, dtype=jnp.float32, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = normal(count, seed=1), normal(count, seed=2)
    x = 0.5 + spread * normal(3, count)
    arranged = x.T if axis == 0 else x
    y = np.asarray(norm(arranged))
    forwards, backwards = jax.jacfwd(norm)(arranged), jax.jacrev(norm)(arranged)
    scale, bias = np.asarray(norm.scale, np.float64), np.asarray(norm.bias, np.float64)
    for row, values in enumerate(np.asarray(x, np.float64)):
        inverse = 1 / np.sqrt(values.var() + epsilon)
        hat = (values - values.mean()) * inverse
        slope = scale[:, None] * (np.eye(count) - 1 / count - np.outer(hat, hat) / count) * inverse
        here = (slice(None), row) if axis == 0 else (row, slice(None))
        naive.assert_close(y[here], hat * scale + bias)
        for jacobian in (forwards, backwards):
            naive.assert_close(jacobian[(*here, *here)], slope)


def test_layer_norm_gives_parameters_the_librarys_gradients():
    ours = LayerNorm(5, epsilon=1e-5, dtype=jnp.float32, rngs=nnx.Rngs(0))
    theirs = nnx.LayerNorm(5, epsilon=1e-5, rngs=nnx.Rngs(0))
    x = normal(4, 3, 5)

    def gradients(norm):
        graph, state = nnx.split(norm)
        return jax.grad(lambda state, x: jnp.sum(jnp.sin(nnx.merge(graph, state)(x))), argnums=(0, 1))(state, x)

    for mine, other in zip(*(jax.tree.leaves(gradients(norm)) for norm in (ours, theirs)), strict=True):
        naive.assert_close(mine, other)


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


def test_unknown_norm():
    with pytest.raises(ConfigError, match="'bach'; did you mean 'batch'"):
        normalization("bach", 4, jnp.float32, nnx.Rngs(0))
