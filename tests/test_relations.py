"""Relation matrices against the equations written as loops, and the properties the paper gives them."""

import itertools

import jax
import jax.numpy as jnp
import naive
import numpy as np
import pytest
from flax import nnx
from helpers import functional, last_names, random_relation

from posmlp_jax.errors import ConfigError
from posmlp_jax.relations import (
    COVARIANCES,
    RELATIONS,
    LearnedRelation,
    QuadraticRelation,
    create_relation,
    logits_by_product,
    logits_by_sum,
    offset_features,
    quadratic_logits,
    quadratic_matrix,
    relative_offsets,
)

GRIDS = [(5,), (3, 4), (4, 4), (2, 3, 2)]
FORMS = [
    *(("gqpe", {"covariance": form, "learn_center": learn}) for form in COVARIANCES for learn in (True, False)),
    *((kind, {}) for kind in RELATIONS if kind != "gqpe"),
]
FORM_NAMES = ["-".join([kind, *map(str, options.values())]) for kind, options in FORMS]
QUADRATIC = [{"covariance": "psd"}, {"covariance": "isotropic"}]


def random_mask(tokens: int, seed: int) -> np.ndarray:
    """Any mask in which every token sees itself."""
    return (np.random.default_rng(seed).random((tokens, tokens)) < 0.6) | np.identity(tokens, bool)


@pytest.mark.parametrize(("grid", "groups"), [((3, 4), 1), *((grid, 3) for grid in GRIDS)], ids=str)
@pytest.mark.parametrize(("kind", "options"), FORMS, ids=FORM_NAMES)
def test_values_are_those_of_the_equations(kind, options, grid, groups):
    relation = random_relation(kind, grid, groups, **options)
    parameters = last_names(functional(relation)[0])
    covariance = options.get("covariance", "psd")
    naive.assert_close(relation(), naive.relation_matrix(parameters, kind, grid, groups, covariance))
    mask = random_mask(np.prod(grid), seed=groups)
    naive.assert_close(relation(mask), naive.relation_matrix(parameters, kind, grid, groups, covariance, mask))


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("grid", [(4,), (2, 3), (2, 2, 2)], ids=str)
@pytest.mark.parametrize(("kind", "options"), FORMS, ids=FORM_NAMES)
def test_gradients_are_those_of_the_equations(kind, options, grid, masked):
    groups, tokens = 2, int(np.prod(grid))
    parameters, call = functional(random_relation(kind, grid, groups, **options))
    weights = np.random.default_rng(0).standard_normal((groups, tokens, tokens))
    mask = random_mask(tokens, seed=1) if masked else None

    def loss(values):
        matrix = naive.relation_matrix(values, kind, grid, groups, options.get("covariance", "psd"), mask)
        return float(np.sum(weights * matrix))

    expected = naive.numeric_gradients(loss, last_names(parameters))
    gradients = jax.jit(jax.grad(lambda values: jnp.sum(weights * call(values, mask))))(parameters)
    assert len(gradients) == len(expected)
    for name, value in last_names(gradients).items():
        naive.assert_close(value, expected[name])


def test_papers_window_of_14_by_14():
    """196 tokens and offsets of up to 13: the logits of far tokens are large."""
    relation = random_relation("gqpe", (14, 14), 1)
    naive.assert_close(relation(), naive.relation_matrix(last_names(functional(relation)[0]), "gqpe", (14, 14), 1))


@pytest.mark.parametrize("form", [logits_by_product, logits_by_sum])
def test_logits_of_either_form(form):
    """Values, and gradients by the coefficients, of a softmax of the logits in the papers' window."""
    random, features = np.random.default_rng(0), offset_features((14, 14))
    coefficients, weights = random.normal(size=(2, 5)) / 100, random.normal(size=(2, 196, 196))
    logits = np.einsum("gf,qkf->gqk", coefficients, features.astype(np.float64))
    values = jnp.asarray(coefficients, jnp.float32)
    naive.assert_close(form(values, features), logits, 1e-6)
    matrix = np.exp(logits) / np.sum(np.exp(logits), axis=-1, keepdims=True)
    slope = matrix * (weights - np.sum(matrix * weights, axis=-1, keepdims=True))
    gradient = jax.jit(jax.grad(lambda values: jnp.sum(weights * jax.nn.softmax(form(values, features)))))(values)
    naive.assert_close(gradient, np.einsum("gqk,qkf->gf", slope, features.astype(np.float64)))


def test_gpus_form_of_the_matrix(monkeypatch):
    """Values, and gradients by the coefficients, which compute the softmax again."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arguments, cuda, **_: cuda(*arguments))
    random, features = np.random.default_rng(1), offset_features((7, 7)).astype(np.float64)
    coefficients, weights = random.normal(size=(3, 5)) / 10, random.normal(size=(3, 49, 49))
    matrix = np.exp(np.einsum("gf,qkf->gqk", coefficients, features))
    matrix /= np.sum(matrix, axis=-1, keepdims=True)
    slope = matrix * (weights - np.sum(matrix * weights, axis=-1, keepdims=True))

    def total(values):
        found = quadratic_matrix(values, (7, 7))
        return jnp.sum(weights * found), found

    gradient, found = jax.jit(jax.grad(total, has_aux=True))(jnp.asarray(coefficients, jnp.float32))
    naive.assert_close(found, matrix)
    naive.assert_close(gradient, np.einsum("gqk,qkf->gf", slope, features))


def test_each_platform_has_its_form_of_the_logits():
    features = offset_features((2, 3))
    np.testing.assert_array_equal(
        quadratic_logits(jnp.ones((2, 5)), features), logits_by_product(jnp.ones((2, 5)), features)
    )
    traced = jax.jit(quadratic_logits).trace(jnp.ones((2, 5)), features)
    programs = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda", "tpu")}
    assert {name for name, text in programs.items() if "dot_general" in text} == {"cpu", "tpu"}


def test_quadratic_relation_by_hand():
    """Two tokens, Γ = 2, Δ = ½: logits −½·4·(δ − ½)² are −½ for δ = 0 and 1, −9/2 for δ = −1."""
    relation = QuadraticRelation((2,), rngs=nnx.Rngs(0))
    relation.spread[...] = jnp.full((1, 1, 1), 2.0)
    relation.center[...] = jnp.full((1, 1), 0.5)
    near = 1 / (1 + np.exp(4.0))
    np.testing.assert_allclose(relation()[0], [[0.5, 0.5], [near, 1 - near]], rtol=1e-6)


def test_learned_relation_by_hand():
    """Rows of a table over p_query − p_key = −1, 0, 1, and on two axes the second running fastest."""
    relation = LearnedRelation((2,))
    relation.table[...] = jnp.array([[10.0], [20.0], [30.0]])
    np.testing.assert_array_equal(relation()[0], [[20, 10], [30, 20]])
    relation = LearnedRelation((2, 3))
    relation.table[...] = jnp.arange(15.0)[:, None]
    # From token (0, 2) to (1, 0): offset query − key is (−1, 2), row (−1 + 1)·5 + (2 + 2).
    assert relation()[0, 2, 3] == 4


def test_offsets_and_features_by_hand():
    """Tokens (0, 0), (0, 1), (1, 0), (1, 1); y before x, key minus query; Eq. 8 in the order y, x, y², x², yx."""
    np.testing.assert_array_equal(relative_offsets((2, 2))[1], [[0, -1], [0, 0], [1, -1], [1, 0]])
    np.testing.assert_array_equal(offset_features((2, 2))[1, 2], [1, -1, 1, 1, -1])


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_quadratic_rows_sum_to_one(covariance, masked):
    relation = random_relation("gqpe", (3, 5), 4, covariance=covariance)
    matrix = np.asarray(relation(random_mask(15, seed=0) if masked else None))
    np.testing.assert_allclose(matrix.sum(-1), 1, rtol=1e-6)
    assert matrix.min() >= 0


@pytest.mark.parametrize("options", QUADRATIC, ids=lambda options: options["covariance"])
@pytest.mark.parametrize("grid", [(7,), (5, 6), (3, 4, 3)], ids=str)
def test_row_maximum_is_nearest_to_the_attention_centre(grid, options):
    """Nearest to p_query + Δ in the metric of Σ⁻¹, also where that point is between tokens or outside the grid."""
    groups = 6
    relation = random_relation("gqpe", grid, groups, **options)
    parameters = last_names(functional(relation)[0])
    matrix = np.asarray(relation())
    outside = 0
    for group, (query, place) in itertools.product(range(groups), enumerate(naive.positions(grid))):
        precision = naive.inverse_covariance(parameters["spread"][group], options["covariance"], len(grid))
        target = np.array(place) + parameters["center"][group]
        distances = [(np.array(key) - target) @ precision @ (np.array(key) - target) for key in naive.positions(grid)]
        assert np.argmax(matrix[group, query]) == np.argmin(distances)
        outside += np.any((target < 0) | (target > np.array(grid) - 1))
    assert 0 < outside < groups * len(naive.positions(grid))


@pytest.mark.parametrize(("kind", "options"), [*FORMS[:6], ("lrpe", {})], ids=[*FORM_NAMES[:6], "lrpe"])
def test_translation(kind, options):
    """What depends on positions depends on their differences.

    For two pairs of tokens of the same offset: a learned table's entries are equal; a quadratic relation's are equal
    but for the rows' normalisation, which the grid's borders change. So the ratio of two keys' entries is the same from
    another query; and far from the borders, where hardly anything of a row is cut off, so are the entries themselves.
    """
    grid, move = (12, 14), (2, 3)
    relation = random_relation(kind, grid, 2, **options)
    matrix = np.asarray(relation(), np.float64).reshape(2, *grid, *grid)
    moved = matrix[:, 2:, 3:, 2:, 3:]
    still = matrix[:, : -move[0], : -move[1], : -move[0], : -move[1]]
    if kind == "lrpe":
        np.testing.assert_array_equal(moved, still)
        return
    # Logits are logarithms of entries up to one constant a row. Where entries underflow, float32 has no ratio to show.
    rows_still = np.log(np.maximum(still.reshape(2, 110, 110), 1e-300))
    rows_moved = np.log(np.maximum(moved.reshape(2, 110, 110), 1e-300))
    shown = (rows_still > np.log(1e-30)) & (rows_moved > np.log(1e-30))
    difference = np.where(shown, rows_moved - rows_still, np.nan)
    spread = np.nanmax(difference, -1) - np.nanmin(difference, -1)
    assert shown.sum() > 5000
    assert spread.max() < 1e-4


@pytest.mark.parametrize("covariance", ["psd", "isotropic"])
def test_entries_are_translated_away_from_borders(covariance):
    """A narrow Gaussian (Γ = 1.5 I, |Δ| < 1) has all but 1e-9 of its mass within five tokens of the query."""
    relation = QuadraticRelation((13, 14), covariance=covariance, rngs=nnx.Rngs(0))
    relation.spread[...] = 1.5 * (jnp.eye(2)[None] if covariance == "psd" else jnp.ones(1))
    relation.center[...] = jnp.array([[0.4, -0.3]])
    matrix = np.asarray(relation()).reshape(13, 14, 13, 14)
    expected = matrix[6, 6, 1:12, 1:12]
    for y, x in [(6, 7), (7, 6), (7, 8)]:
        np.testing.assert_allclose(matrix[y, x, y - 5 : y + 6, x - 5 : x + 6], expected, atol=1e-6)


def test_sum_relation_is_dense_plus_learned():
    relation = random_relation("lrpe_m", (3, 4), 4)
    mask = random_mask(12, seed=2)
    dense, learned = np.asarray(relation.dense()), np.asarray(relation.learned())
    assert dense.shape == (1, 12, 12)
    assert learned.shape == (4, 12, 12)
    np.testing.assert_allclose(relation(), dense + learned, rtol=1e-6)
    np.testing.assert_allclose(relation(mask), (dense + learned) * mask, rtol=1e-6)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_isotropic_is_psd_with_a_multiple_of_the_identity(grid):
    isotropic = random_relation("gqpe", grid, 3, covariance="isotropic")
    psd = random_relation("gqpe", grid, 3, covariance="psd")
    psd.spread[...] = isotropic.spread[...][:, None, None] * jnp.eye(len(grid))
    psd.center[...] = isotropic.center[...]
    naive.assert_close(isotropic(), psd(), 1e-6)


def test_initial_values():
    """As published: Γ = I + N(0, 0.01²), Δ = N(0, 0.01²), tables 0, dense N(0, 0.02²), and in LRPE-M N(0, (10⁻⁶)²)."""
    quadratic = create_relation("gqpe", (4, 4), 2000, rngs=nnx.Rngs(0))
    noise = np.asarray(quadratic.spread[...]) - np.identity(2)
    for values, stddev in [
        (noise, 0.01),
        (quadratic.center[...], 0.01),
        (create_relation("dense", (8, 8), rngs=nnx.Rngs(0)).weight[...], 0.02),
        (create_relation("lrpe_m", (8, 8), rngs=nnx.Rngs(0)).dense.weight[...], 1e-6),
    ]:
        assert abs(np.mean(values)) < 0.05 * stddev
        assert np.std(values) == pytest.approx(stddev, rel=0.05)
    assert not np.any(create_relation("lrpe", (4, 4), 2, rngs=nnx.Rngs(0)).table[...])
    assert create_relation("gqpe", (4, 4), learn_center=False, rngs=nnx.Rngs(0)).center is None


@pytest.mark.parametrize("masks", [1, 3])
@pytest.mark.parametrize(("kind", "options"), FORMS, ids=FORM_NAMES)
def test_a_stack_of_masks_gives_a_stack_of_matrices(kind, options, masks):
    relation = random_relation(kind, (2, 3), 2, **options)
    stack = np.stack([random_mask(6, seed) for seed in range(masks)])
    matrices = np.asarray(relation(stack))
    assert matrices.shape == (masks, 2, 6, 6)
    for mask, matrix in zip(stack, matrices, strict=True):
        np.testing.assert_allclose(matrix, relation(mask), rtol=1e-6)
        assert not matrix[:, ~mask].any()


def test_unknown_names():
    with pytest.raises(ConfigError, match=r"'lrp'.*did you mean 'lrpe'"):
        create_relation("lrp", (2, 2), rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match=r"'pds'.*did you mean 'psd'"):
        create_relation("gqpe", (2, 2), covariance="pds", rngs=nnx.Rngs(0))
