"""Windows, padding and shifts against mixing each token of the uncut map with those that are in its window."""

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from helpers import functional, last_names, random_relation, randomized

from posmlp_jax.blocks import GatedBlock
from posmlp_jax.gating import mix_frames, mix_windows
from posmlp_jax.models.posmlp import PosMLPConfig
from posmlp_jax.models.stages import Stage, branch_options, gate_maker
from posmlp_jax.windows import merge, partition, window_layout

# (map, window, shifted): divided or not, along one axis only, odd windows, a window larger than the map.
CUTS = [
    ((8,), (4,), True),
    ((9,), (4,), False),
    ((9,), (4,), True),
    ((7,), (3,), True),
    ((6, 4), (3, 2), False),
    ((6, 4), (3, 2), True),
    ((5, 4), (2, 4), True),
    ((5, 7), (3, 2), False),
    ((5, 7), (3, 2), True),
    ((2, 5), (3, 4), True),
    ((3, 2, 4), (2, 2, 2), False),
    ((3, 2, 4), (2, 2, 2), True),
    ((3, 4, 3), (2, 2, 3), True),
]
CUT_NAMES = [f"{'x'.join(map(str, m))}-by-{'x'.join(map(str, w))}{'-shifted' * s}" for m, w, s in CUTS]


def mix_map(relation, x: jax.Array, window: tuple[int, ...], shifted: bool) -> jax.Array:
    layout = window_layout(x.shape[1:-1], window, shifted)
    mixed = mix_windows(relation, jnp.moveaxis(partition(x, layout), -1, 0), layout)
    return merge(jnp.moveaxis(mixed, 0, -1), layout)


@pytest.mark.parametrize("kind", ["gqpe", "lrpe"])
@pytest.mark.parametrize(("size", "window", "shifted"), CUTS, ids=CUT_NAMES)
def test_tokens_mix_within_their_window_of_the_map(size, window, shifted, kind):
    """Values, and gradients with respect to the map and the relation."""
    groups, channels = 2, 2
    relation = random_relation(kind, window, groups)
    parameters = functional(relation)[0]
    graph, learned = nnx.split(relation)
    random = np.random.default_rng(0)
    x = random.standard_normal((2, *size, channels)).astype(np.float32)
    weights = random.standard_normal((*size, channels)).astype(np.float32)
    arrays = {**last_names(parameters), "x": x[1].astype(np.float64)}

    def expected_map(arrays, x):
        return naive.mix_map(x, arrays, kind, window, groups, shifted=shifted)

    @jax.jit
    def value_and_gradients(learned, x):
        def loss(learned, x):
            y = mix_map(nnx.merge(graph, learned), x, window, shifted)
            return jnp.sum(weights * y[1]), y

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(learned, x)

    (gradients, x_gradient), y = value_and_gradients(learned, x)
    naive.assert_close(y, [expected_map(arrays, image.astype(np.float64)) for image in x])
    naive.assert_close(y[1], expected_map(arrays, arrays["x"]))

    expected = naive.numeric_gradients(lambda a: float(np.sum(weights * expected_map(a, a["x"]))), arrays)
    naive.assert_close(x_gradient[1], expected["x"])
    assert not np.any(x_gradient[0])
    for name, gradient in nnx.to_pure_dict(gradients).items():
        naive.assert_close(gradient, expected[name])


@pytest.mark.parametrize("kind", ["dense", "lrpe_m"])
def test_other_relations(kind):
    relation = random_relation(kind, (3, 2), 2)
    x = np.random.default_rng(1).standard_normal((1, 5, 7, 4)).astype(np.float32)
    expected = naive.mix_map(x[0], last_names(functional(relation)[0]), kind, (3, 2), 2, shifted=True)
    naive.assert_close(mix_map(relation, jnp.asarray(x), (3, 2), True)[0], expected)


def test_shifted_windows_by_hand():
    """Five tokens in windows of two, shifted by one: {0}, {1, 2}, {3, 4}; unshifted {0, 1}, {2, 3}, {4}."""
    relation = random_relation("dense", (2,), 1)
    relation.weight[...] = jnp.array([[[1.0, 10.0], [100.0, 1000.0]]])
    x = jnp.arange(1.0, 6.0)[None, :, None]
    np.testing.assert_array_equal(
        mix_map(relation, x, (2,), False)[0, :, 0], [1 + 20, 100 + 2000, 3 + 40, 300 + 4000, 5]
    )
    # Token 0 has the second place of a window that begins before the map: it is weighted by 1000.
    np.testing.assert_array_equal(
        mix_map(relation, x, (2,), True)[0, :, 0], [1000, 2 + 30, 200 + 3000, 4 + 50, 400 + 5000]
    )


def test_windows_and_tokens_are_in_row_major_order():
    layout = window_layout((2, 4), (2, 2))
    x = jnp.arange(8).reshape(1, 2, 4, 1)
    np.testing.assert_array_equal(partition(x, layout)[0, ..., 0], [[0, 1, 4, 5], [2, 3, 6, 7]])


@pytest.mark.parametrize(("size", "window", "shifted"), CUTS, ids=CUT_NAMES)
def test_merge_is_the_inverse_of_partition(size, window, shifted):
    layout = window_layout(size, window, shifted)
    x = jnp.asarray(np.random.default_rng(2).standard_normal((2, *size, 3)), jnp.float32)
    tokens = partition(x, layout)
    assert tokens.shape == (2, np.prod(layout.counts), np.prod(window), 3)
    np.testing.assert_array_equal(merge(tokens, layout), x)


@pytest.mark.parametrize(("size", "window", "shifted"), CUTS, ids=CUT_NAMES)
def test_masks(size, window, shifted):
    """Symmetric, every token sees itself, no token of the map sees padding, and few masks serve many windows."""
    layout = window_layout(size, window, shifted)
    if layout.masks is None:
        assert all(n % w == 0 for n, w in zip(size, window, strict=True))
        assert not any(layout.shift)
        return
    masks = layout.masks[layout.mask_index]
    assert len(layout.masks) <= 3 ** len(size)
    assert np.array_equal(masks, masks.swapaxes(-1, -2))
    assert np.all(np.diagonal(masks, axis1=-2, axis2=-1))
    real = np.asarray(partition(jnp.ones((1, *size, 1)), layout))[0, ..., 0] > 0
    assert not np.any(masks & real[:, :, None] & ~real[:, None, :])
    assert not np.any(masks & ~real[:, :, None] & real[:, None, :])


def test_a_map_that_windows_divide_needs_no_mask():
    assert window_layout((28, 28), (14, 14)).masks is None
    assert window_layout((14, 14), (14, 14), True).masks is None
    assert window_layout((28, 28), (14, 14), True).masks.shape == (4, 196, 196)


def naive_block(x: np.ndarray, values: dict, window, groups: int, shifted: bool) -> np.ndarray:
    """Figure 1 a on a map `[*map, C]`: a token takes the bias of its place in its window."""
    size = x.shape[:-1]
    y = naive.layer_norm(x, values["norm.scale"], values["norm.bias"])
    y = naive.gelu(y @ values["expand.kernel"] + values["expand.bias"])
    mixed, other = np.split(y, 2, axis=-1)
    relation = {name: values[f"gate.relation.{name}"] for name in ("spread", "center")}
    mixed = naive.mix_map(mixed, relation, "gqpe", window, groups, shifted=shifted)
    shift = naive.window_shift(size, window, shifted)
    for place in naive.positions(size):
        inside = naive.window_of(place, window, shift)[1]
        mixed[place] += values["gate.bias"][naive.positions(window).index(inside)]
    return x + (mixed * other) @ values["project.kernel"] + values["project.bias"]


@pytest.mark.parametrize("shift", [False, True], ids=["fixed", "shifted"])
@pytest.mark.parametrize("size", [(6, 4), (5, 7)], ids=str)
def test_a_stage_shifts_every_second_block(size, shift):
    """Three blocks in a row, on maps that windows divide or not: padding left by one block must not reach the next."""
    width, window, groups = 4, (3, 2), 2
    config = PosMLPConfig(dropout=0.0, drop_path=0.0)

    def create():
        rngs = nnx.Rngs(0)
        make_gate, options = gate_maker(config, window, groups, rngs), branch_options(config, rngs)
        return Stage([GatedBlock(width, 2, make_gate, **options) for _ in range(3)], window, shift=shift)

    stage = randomized(create, 0.4)
    x = np.random.default_rng(3).standard_normal((1, *size, width)).astype(np.float32)
    values = {name: np.asarray(value, np.float64) for name, value in functional(stage)[0].items()}
    expected = x[0].astype(np.float64)
    for index in range(3):
        own = {name.split(".", 2)[2]: v for name, v in values.items() if name.startswith(f"blocks.{index}.")}
        expected = naive_block(expected, own, window, groups, shifted=shift and index == 1)
    naive.assert_close(jax.jit(stage)(x)[0], expected)


def test_frames():
    """The tokens at one place of all frames, of windows that single frames were cut into."""
    frames, size, window, groups = 3, (5, 4), (2, 2), 2
    random = np.random.default_rng(4)
    x = random.standard_normal((2, frames, *size, 4)).astype(np.float32)
    relation = random.standard_normal((groups, frames, frames)).astype(np.float32)
    layout = window_layout((frames, *size), (1, *window))
    mixed = mix_frames(jnp.asarray(relation), jnp.moveaxis(partition(jnp.asarray(x), layout), -1, 0))
    found = np.asarray(merge(jnp.moveaxis(mixed, 0, -1), layout))
    for place in naive.positions(size):
        for group, channels in enumerate((slice(2), slice(2, 4))):
            expected = relation[group].astype(np.float64) @ x[:, :, *place, channels]
            naive.assert_close(found[:, :, *place, channels], expected)
