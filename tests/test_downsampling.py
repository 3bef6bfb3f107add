"""Stems and mergings, against loops and `lax`."""

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from helpers import functional, randomized

from posmlp_jax.downsampling import (
    ConvMerging,
    ConvStem,
    LinearMerging,
    LinearStem,
    depthwise_by_taps,
    depthwise_by_whole_kernel,
    depthwise_conv,
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
