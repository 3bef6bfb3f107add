"""The pyramid as loops over its maps, and how far its levels see."""

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from helpers import randomized

from posmlp_jax.models.detectors.fpn import FPN, upsampled

SIZES = ((9, 12), (5, 6), (3, 3))
WIDTHS = (2, 3, 4)


def fpn(**options) -> FPN:
    options = {"extra": 0, "extra_convs": False} | options
    return randomized(lambda: FPN(WIDTHS, 3, dtype=jnp.float32, rngs=nnx.Rngs(0), **options))


def maps(sizes=SIZES, seed: int = 0) -> list[jax.Array]:
    random = np.random.default_rng(seed)
    return [
        jnp.asarray(random.standard_normal((1, *size, c)), jnp.float32) for size, c in zip(sizes, WIDTHS, strict=True)
    ]


def convolved(layer, x: np.ndarray, stride: int = 1) -> np.ndarray:
    """A 1×1 or 3×3 convolution, zeros around the map, place by place."""
    kernel, bias = np.asarray(layer.kernel[...], np.float64), np.asarray(layer.bias[...], np.float64)
    side = len(kernel)
    padded = np.pad(x, ((side // 2,) * 2, (side // 2,) * 2, (0, 0)))
    rows, columns = (-(-n // stride) for n in x.shape[:2])
    y = np.zeros((rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            patch = padded[i * stride : i * stride + side, j * stride : j * stride + side]
            y[i, j] = np.einsum("abc,abco->o", patch, kernel) + bias
    return y


def test_against_loops():
    """Of odd and even sides: a place's parent is at half its row and column, rounded down."""
    model, inputs = fpn(extra=2, extra_convs=True), maps()
    inner = [
        convolved(lateral, np.asarray(m[0], np.float64)) for lateral, m in zip(model.laterals, inputs, strict=True)
    ]
    for fine, coarse in ((1, 2), (0, 1)):
        for i, j in np.ndindex(inner[fine].shape[:2]):
            inner[fine][i, j] += inner[coarse][i // 2, j // 2]
    expected = [convolved(output, x) for output, x in zip(model.outputs, inner, strict=True)]
    expected.append(convolved(model.extra_convs[0], np.asarray(inputs[-1][0], np.float64), stride=2))
    expected.append(convolved(model.extra_convs[1], expected[-1], stride=2))
    levels = model(inputs)
    assert [level.shape[1:3] for level in levels] == [*SIZES, (2, 2), (1, 1)]
    for actual, level in zip(levels, expected, strict=True):
        naive.assert_close(actual[0], level)


def test_a_level_without_parameters():
    """Mask R-CNN's P6 is every second place of P5."""
    *_, p5, p6 = fpn(extra=1)(maps())
    np.testing.assert_array_equal(p6, p5[:, ::2, ::2])
    assert nnx.state(fpn(extra=1)).flat_state().paths == nnx.state(fpn()).flat_state().paths


@pytest.mark.parametrize("size", [(4, 6), (3, 6), (3, 5)], ids=str)
def test_enlarged(size):
    coarse = jnp.arange(6.0).reshape(1, 2, 3, 1)
    expected = [[[[coarse[0, i // 2, j // 2, 0]] for j in range(size[1])] for i in range(size[0])]]
    np.testing.assert_array_equal(upsampled(coarse, size), np.array(expected))


def test_what_a_place_sees():
    """Of its own map 3×3 places, and of the coarser ones those that are above these; of finer maps nothing."""
    model, inputs = fpn(), maps(((16, 16), (8, 8), (4, 4)))

    def seen(level: int, place: tuple[int, int]) -> list[list[tuple[int, int]]]:
        gradients = jax.grad(lambda inputs: jnp.sum(model(inputs)[level][0][place] ** 2))(inputs)
        return [sorted(set(zip(*(axis.tolist() for axis in np.nonzero(g[0].any(-1))), strict=True))) for g in gradients]

    around = [(i, j) for i in (7, 8, 9) for j in (1, 2, 3)]
    parents = sorted({(i // 2, j // 2) for i, j in around})
    assert seen(0, (8, 2)) == [around, parents, sorted({(i // 2, j // 2) for i, j in parents})]
    assert seen(2, (0, 0)) == [[], [], [(0, 0), (0, 1), (1, 0), (1, 1)]]
