"""Gating units against Eq. 1, 9, 12, 15 and Figure 3 written as loops."""

import itertools

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from helpers import functional, gate_tokens, last_names, randomized

from posmlp_jax.errors import ConfigError
from posmlp_jax.gating import GATES, GatingUnit, mix_tokens
from posmlp_jax.relations import create_relation

GRID, CHANNELS = (2, 3), 8
VARIANTS = list(itertools.product(GATES, [True, False], [True, False], [True, False]))
VARIANT_NAMES = [
    "-".join([gate, "split" if split else "whole", *(["norm"] * norm), *(["bias"] * bias)])
    for gate, split, norm, bias in VARIANTS
]


def random_unit(kind: str, groups: int, channels: int = CHANNELS, grid=GRID, **options) -> GatingUnit:
    def create():
        rngs = nnx.Rngs(0)
        return GatingUnit(channels, create_relation(kind, grid, groups, rngs=rngs), **options, rngs=rngs)

    return randomized(create, scale=0.5)


def naive_unit(values: dict, x: np.ndarray, kind: str, groups: int, gate: str, split: bool, grid=GRID) -> np.ndarray:
    """The unit for `[B, windows, N, C]`, its parameters under the library's names."""
    relation = {name.rsplit(".", 1)[-1]: value for name, value in values.items() if name.startswith("relation.")}
    matrix = naive.relation_matrix(relation, kind, grid, groups)
    norm = (values["norm.scale"], values["norm.bias"]) if "norm.scale" in values else None
    return np.array(
        [[naive.gating_unit(w, matrix, gate, split, norm, values.get("bias")) for w in image] for image in x]
    )


@pytest.mark.parametrize(("gate", "split", "norm", "bias"), VARIANTS, ids=VARIANT_NAMES)
def test_variants(gate, split, norm, bias):
    """Values and gradients, of the input too, of every variant of Figure 3 with and without the bias of Eq. 15."""
    groups, options = 2, {"gate": gate, "split": split, "norm": norm, "token_bias": bias}
    parameters, call = functional(random_unit("gqpe", groups, **options), gate_tokens)
    assert ("norm.scale" in parameters, "bias" in parameters) == (norm, bias)
    random = np.random.default_rng(1)
    arrays = {name: np.asarray(value, np.float64) for name, value in parameters.items()}
    arrays["x"] = np.float32(random.standard_normal((1, 2, 6, CHANNELS))).astype(np.float64)
    expected = naive_unit(arrays, arrays["x"], "gqpe", groups, gate, split)
    weights = random.standard_normal(expected.shape)

    @jax.jit
    def value_and_gradients(arrays):
        def loss(arrays):
            y = call(arrays, arrays["x"])
            return jnp.sum(weights * y), y

        return jax.grad(loss, has_aux=True)(arrays)

    gradients, y = value_and_gradients({name: jnp.float32(value) for name, value in arrays.items()})
    naive.assert_close(y, expected)
    expected = naive.numeric_gradients(
        lambda values: float(np.sum(weights * naive_unit(values, values["x"], "gqpe", groups, gate, split))), arrays
    )
    for name, gradient in gradients.items():
        naive.assert_close(gradient, expected[name])


@pytest.mark.parametrize("grid", [(5,), (2, 3), (2, 2, 2)], ids=str)
@pytest.mark.parametrize(("kind", "groups"), [("gqpe", 1), ("gqpe", 4), ("lrpe", 2), ("lrpe_m", 2), ("dense", 2)])
def test_relations_and_grids(kind, groups, grid):
    unit = random_unit(kind, groups, grid=grid)
    x = np.random.default_rng(2).standard_normal((2, 3, np.prod(grid), CHANNELS)).astype(np.float32)
    values = {name: np.asarray(value, np.float64) for name, value in functional(unit)[0].items()}
    expected = naive_unit(values, x.astype(np.float64), kind, groups, "multiply", True, grid)
    naive.assert_close(jax.jit(lambda x: gate_tokens(unit, x))(x), expected)


def test_by_hand():
    """Two tokens, one channel mixed and one not: Z = (W X₁ + b) ⊙ X₂."""
    unit = GatingUnit(2, create_relation("dense", (2,), rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    unit.relation.weight[...] = jnp.array([[[1.0, 2.0], [3.0, 4.0]]])
    unit.bias[...] = jnp.array([100.0, 200.0])
    tokens = jnp.array([[5.0, -1.0], [6.0, 2.0]])
    np.testing.assert_array_equal(gate_tokens(unit, tokens[None, None])[0, 0], [[-(17 + 100)], [2 * (39 + 200)]])


def test_groups_are_contiguous_channels():
    matrices = jnp.stack([jnp.identity(2), 10 * jnp.identity(2)])
    np.testing.assert_array_equal(mix_tokens(matrices, jnp.ones((6, 2)))[:, 0], [1, 1, 1, 10, 10, 10])


@pytest.mark.parametrize(("gate", "split", "channels"), [("multiply", True, 4), ("concat", True, 8), ("add", False, 8)])
def test_output_channels(gate, split, channels):
    unit = random_unit("gqpe", 2, gate=gate, split=split)
    assert unit.out_channels == channels
    assert gate_tokens(unit, jnp.ones((1, 1, 6, CHANNELS))).shape == (1, 1, 6, channels)


def test_compute_type_is_kept():
    unit = random_unit("gqpe", 2, norm=True, dtype=jnp.bfloat16)
    x = jnp.asarray(np.random.default_rng(3).standard_normal((1, 2, 6, CHANNELS)), jnp.bfloat16)
    z = gate_tokens(unit, x)
    assert z.dtype == jnp.bfloat16
    assert {value.dtype for value in functional(unit)[0].values()} == {jnp.dtype(jnp.float32)}
    values = {name: np.asarray(value, np.float64) for name, value in functional(unit)[0].items()}
    # Sums of six rounded products of rounded numbers: a few of bfloat16's 2⁻⁹.
    naive.assert_close(z, naive_unit(values, np.asarray(x, np.float64), "gqpe", 2, "multiply", True), 0.015)


def test_errors():
    relation = create_relation("gqpe", (2, 2), 3, rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match="groups 3 do not divide the gating unit's 4 mixed channels"):
        GatingUnit(8, relation, rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match=r"'multipy'.*did you mean 'multiply'"):
        GatingUnit(8, relation, gate="multipy", rngs=nnx.Rngs(0))
    assert last_names(functional(relation)[0]).keys() == {"spread", "center"}
