"""Relation matrices over token grids: what a token-mixing layer multiplies its tokens by.

A relation is a module over a grid of N tokens, `(T,)`, `(H, W)` or `(T, H, W)`, numbered in row-major order. Called
without data it returns the matrix `[groups, N, N]`, row = query and column = key, in float32. The papers' idea is to
generate that matrix from relative positions instead of learning each of its entries:

| class | the papers' names | parameters |
| --- | --- | --- |
| `DenseRelation` | Token FC, SGU | s·N² |
| `LearnedRelation` | LRPE, GLRPE; PoTGU, PoSGU and PoSTGU of PosMLP-Video | s·∏(2nᵢ − 1) |
| `QuadraticRelation` | GQPE, GGQPE | 6s on a 2-D grid |
| `SumRelation` | LRPE-M (Eq. 10) | N² + s·∏(2nᵢ − 1) |

A relation takes an optional mask, or several, True where a query may see a key, and then returns a matrix for each with
zeros where it may not; the quadratic relation's rows still sum to 1, so each of its queries must see some key.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Float32, Int32

from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.gpus import on_gpus, own_gradient, together

RELATIONS = ("gqpe", "lrpe", "lrpe_m", "dense")
COVARIANCES = ("psd", "free", "isotropic")
# The standard deviation that the published code starts a dense matrix with where tokens should hardly mix at first.
NEAR_ZERO = 1e-6

# What relations take and give: of any number of masks there are as many matrices.
Mask = Bool[np.ndarray, "*masks tokens tokens"]
Matrix = Float[Array, "*masks groups tokens tokens"]


@functools.cache
def relative_offsets(grid: tuple[int, ...]) -> Int32[np.ndarray, "tokens tokens {len(grid)}"]:
    """δ = p_key − p_query for every pair of tokens, queries first; axes in the grid's order (so y before x)."""
    positions = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), axis=-1).reshape(-1, len(grid))
    return (positions[None, :, :] - positions[:, None, :]).astype(np.int32)


@functools.cache
def offset_features(
    grid: tuple[int, ...],
) -> Float32[np.ndarray, "tokens tokens {len(grid)+len(grid)*(len(grid)+1)//2}"]:
    """r_δ of Eq. 8 on a grid of D axes, D + D(D + 1)/2 values for each query and key.

    First the D components δᵢ, then the D squares δᵢ², then the products δᵢδⱼ for i < j. On an image window that is
    Eq. 8 with y in front of x.
    """
    offsets = relative_offsets(grid).astype(np.float32)
    row, column = np.triu_indices(len(grid), k=1)
    return np.concatenate([offsets, offsets**2, offsets[..., row] * offsets[..., column]], axis=-1)


def quadratic_coefficients(
    center: Float[Array, "groups axes"], precision: Float[Array, "groups axes axes"]
) -> Float[Array, "groups axes+axes*(axes+1)//2"]:
    """V of Eq. 7, such that v·r_δ = −½(δ − Δ)Σ⁻¹(δ − Δ)ᵀ + a constant of δ, which the softmax takes away.

    Args:
      center: Δ.
      precision: Σ⁻¹. Where it is not symmetric (Σ⁻¹ = Γ of Table 6) the linear terms are still
        Eq. 7's Σ⁻¹Δ, as in the published code; the quadratic form has only a symmetric part.

    Returns:
      V, in the order of `offset_features`.
    """
    # Number by number, which XLA makes one kernel of; sums, diagonals, indices and their gradients are several.
    axes = range(center.shape[-1])
    linear = [sum(precision[:, i, j] * center[:, j] for j in axes) for i in axes]
    squares = [-0.5 * precision[:, i, i] for i in axes]
    products = [-0.5 * (precision[:, i, j] + precision[:, j, i]) for i, j in itertools.combinations(axes, 2)]
    return jnp.stack([*linear, *squares, *products], axis=-1)


def quadratic_logits(
    coefficients: Float[Array, "groups features"], features: Float32[ArrayLike, "tokens tokens features"]
) -> Float[Array, "groups tokens tokens"]:
    """v·r_δ of Eq. 13 for every query and key.

    By one product. On GPUs by a sum, whose few terms become part of the softmax, so that no logits are written; of
    products their compiler makes one for all relations, out of whose result each reads its own.
    """
    return on_gpus(logits_by_sum, logits_by_product, coefficients, features)


def logits_by_product(
    coefficients: Float[Array, "groups features"], features: Float32[ArrayLike, "tokens tokens features"]
) -> Float[Array, "groups tokens tokens"]:
    """`quadratic_logits` as a product of matrices."""
    # Squared offsets reach 961 in a 32-token window: TF32 or bfloat16 products would lose the logits.
    return jnp.einsum("gf,qkf->gqk", coefficients, features, precision=jax.lax.Precision.HIGHEST)


def logits_by_sum(
    coefficients: Float[Array, "groups features"], features: Float32[ArrayLike, "tokens tokens features"]
) -> Float[Array, "groups tokens tokens"]:
    """`quadratic_logits` as a sum of the features' planes."""
    # One for each query, so that the gradient is summed over keys with the softmax's, and over queries with others'.
    by_query = together(jnp.broadcast_to(coefficients[:, :, None], (*coefficients.shape, len(features))))
    return jnp.sum(own_gradient(by_query)[..., None] * jnp.moveaxis(features, -1, 0), axis=1)


def quadratic_matrix(
    coefficients: Float[Array, "groups features"], grid: tuple[int, ...]
) -> Float[Array, "groups tokens tokens"]:
    """The softmax over keys of v·r_δ (Eq. 13), for every query of a grid.

    On GPUs its gradient computes it again: what it kept of the rows would be made by a kernel of its own.
    """

    def softmax(coefficients):
        return jax.nn.softmax(logits_by_product(coefficients, offset_features(grid)), axis=-1)

    return on_gpus(lambda coefficients: _softmax_of_sums(coefficients, grid), softmax, coefficients)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _softmax_of_sums(coefficients: Float[Array, "groups features"], grid: tuple[int, ...]):
    return jax.nn.softmax(logits_by_sum(coefficients, offset_features(grid)), axis=-1)


@_softmax_of_sums.defjvp
def _softmax_of_sums_jvp(grid: tuple[int, ...], primals, tangents):
    again = jax.lax.optimization_barrier(primals[0])
    logits, slopes = jax.jvp(lambda each: logits_by_sum(each, offset_features(grid)), (again,), tangents)
    matrix = jax.nn.softmax(logits, axis=-1)
    return _softmax_of_sums(*primals, grid), matrix * (slopes - jnp.sum(matrix * slopes, axis=-1, keepdims=True))


class QuadraticRelation(nnx.Module):
    """GQPE (Eq. 5–8) in `groups` groups (GGQPE, Eq. 13): softmax over keys of a Gaussian of the offset.

    Args:
      grid: the token grid; any number of axes, though the papers use two.
      groups: s.
      covariance: the form of the inverse covariance Σ⁻¹ (Table 6): 'psd' ΓΓᵀ, 'free' Γ, 'isotropic' αI with α = γ².
      learn_center: whether Δ is learned; if not it is 0 (Table 6, "Δ freezed").
    """

    def __init__(
        self,
        grid: Sequence[int],
        groups: int = 1,
        *,
        covariance: str = "psd",
        learn_center: bool = True,
        rngs: nnx.Rngs,
    ):
        if covariance not in COVARIANCES:
            raise ConfigError(f"unknown covariance '{covariance}'; {nearest(covariance, COVARIANCES)}")
        self.grid, self.groups, self.covariance = tuple(grid), groups, covariance
        axes = len(self.grid)
        noise = nnx.initializers.normal(0.01)
        identity = 1.0 if covariance == "isotropic" else jnp.eye(axes)
        shape = (groups,) if covariance == "isotropic" else (groups, axes, axes)
        self.spread = nnx.Param(identity + noise(rngs.params(), shape, jnp.float32))
        self.center = nnx.Param(noise(rngs.params(), (groups, axes), jnp.float32)) if learn_center else None

    def inverse_covariance(self) -> Float[Array, "groups axes axes"]:
        """Σ⁻¹ of every group."""
        spread = together(self.spread[...])
        if self.covariance == "isotropic":
            return spread[:, None, None] ** 2 * jnp.eye(len(self.grid))
        if self.covariance == "free":
            return spread
        return sum(spread[:, :, None, k] * spread[:, None, :, k] for k in range(len(self.grid)))

    def centers(self) -> Float[Array, "groups axes"]:
        """Δ of every group, in the grid's axis order."""
        return jnp.zeros((self.groups, len(self.grid))) if self.center is None else together(self.center[...])

    def coefficients(self) -> Float[Array, "groups features"]:
        """V of Eq. 7 for every group."""
        return quadratic_coefficients(self.centers(), self.inverse_covariance())

    def logits(self) -> Float[Array, "groups tokens tokens"]:
        """v·r_δ of Eq. 13, before the softmax."""
        return quadratic_logits(self.coefficients(), offset_features(self.grid))

    def __call__(self, mask: Mask | None = None) -> Matrix:
        """The relation matrix (module docstring)."""
        if mask is None:
            return quadratic_matrix(self.coefficients(), self.grid)
        # Not softmax's `where`: it takes the maximum over a wrong axis when the mask has more axes than the logits.
        return jax.nn.softmax(jnp.where(mask[..., None, :, :], self.logits(), -jnp.inf), axis=-1)


class LearnedRelation(nnx.Module):
    """LRPE (Eq. 11) in `groups` groups (GLRPE): a learned table looked up by offset, without softmax.

    The table is `[∏(2nᵢ − 1), groups]`; its row is the row-major index of p_query − p_key + n − 1, as in the published
    checkpoints, and it starts at zero as theirs does.
    """

    def __init__(self, grid: Sequence[int], groups: int = 1):
        self.grid, self.groups = tuple(grid), groups
        self.table = nnx.Param(jnp.zeros((math.prod(2 * n - 1 for n in self.grid), groups)))

    def __call__(self, mask: Mask | None = None) -> Matrix:
        """The relation matrix (module docstring)."""
        matrix = jnp.moveaxis(self.table[...][table_rows(self.grid)], -1, 0)
        return matrix if mask is None else jnp.where(mask[..., None, :, :], matrix, 0)


@functools.cache
def table_rows(grid: tuple[int, ...]) -> Int32[np.ndarray, "tokens tokens"]:
    """The row of a `LearnedRelation`'s table for every (query, key) pair."""
    spans = [2 * n - 1 for n in grid]
    shifted = np.asarray(grid) - 1 - relative_offsets(grid)
    return np.ravel_multi_index(tuple(np.moveaxis(shifted, -1, 0)), spans).astype(np.int32)


class DenseRelation(nnx.Module):
    """gMLP's Token FC (Eq. 1): every entry is learned, `[groups, N, N]`.

    Args:
      stddev: of the initial normal values: 0.02 in PosMLP's published SGU, `NEAR_ZERO` in gMLP's and in LRPE-M.
    """

    def __init__(self, grid: Sequence[int], groups: int = 1, *, stddev: float = 0.02, rngs: nnx.Rngs):
        self.grid, self.groups = tuple(grid), groups
        tokens = math.prod(self.grid)
        self.weight = nnx.Param(nnx.initializers.normal(stddev)(rngs.params(), (groups, tokens, tokens), jnp.float32))

    def __call__(self, mask: Mask | None = None) -> Matrix:
        """The relation matrix (module docstring)."""
        matrix = self.weight[...]
        return matrix if mask is None else jnp.where(mask[..., None, :, :], matrix, 0)


class SumRelation(nnx.Module):
    """LRPE-M (Eq. 10): one dense matrix, shared by the groups, plus a learned table for each group."""

    def __init__(self, dense: DenseRelation, learned: LearnedRelation):
        self.dense, self.learned = dense, learned
        self.grid, self.groups = learned.grid, learned.groups

    def __call__(self, mask: Mask | None = None) -> Matrix:
        """The relation matrix (module docstring)."""
        return self.dense(mask) + self.learned(mask)


class FoldedMatrix(nnx.Variable):
    """A relation matrix that is not learned: what the parameters of a relation gave when it was folded."""


class FoldedRelation(nnx.Module):
    """A relation whose matrix is computed once, for inference: its parameters are not looked at again.

    A relation depends on parameters alone, but XLA computes it anew for every batch: about half of a PosMLP's time for
    one image on a CPU. The matrix takes `groups·N²` values of `dtype` instead.

    A call with a mask goes to the relation that was folded: what a softmax gives over some of the keys cannot be had
    from its result over all of them, where those few may have rounded to zero. So windows that are padded or shifted
    give what they gave, at the old speed.

    Args:
      relation: what to fold.
      dtype: the type of the tokens that will be mixed, so that the matrix is rounded once too.
    """

    def __init__(self, relation: "Relation", dtype=jnp.float32):
        self.grid, self.groups = relation.grid, relation.groups
        self.relation = relation
        graph, state = nnx.split(relation)
        self.matrix = FoldedMatrix(_matrix(graph, state, jnp.dtype(dtype)))

    def __call__(self, mask: Mask | None = None) -> Matrix:
        """The relation matrix (module docstring)."""
        return self.matrix[...] if mask is None else self.relation(mask)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _matrix(graph, state, dtype: jnp.dtype) -> Matrix:
    """A relation's matrix: compiled once for all relations of a stage, which differ in their parameters alone."""
    return nnx.merge(graph, state)().astype(dtype)


Relation = QuadraticRelation | LearnedRelation | DenseRelation | SumRelation | FoldedRelation


def create_relation(
    kind: str,
    grid: Sequence[int],
    groups: int = 1,
    *,
    covariance: str = "psd",
    learn_center: bool = True,
    dense_stddev: float = 0.02,
    rngs: nnx.Rngs,
) -> Relation:
    """The relation that a config names: 'gqpe', 'lrpe', 'lrpe_m' or 'dense' (Table 1).

    `dense_stddev` is of the dense relation's initial values; the dense matrix of LRPE-M starts near 0 in every model.

    Raises:
      ConfigError: for another name.
    """
    match kind:
        case "gqpe":
            return QuadraticRelation(grid, groups, covariance=covariance, learn_center=learn_center, rngs=rngs)
        case "lrpe":
            return LearnedRelation(grid, groups)
        case "lrpe_m":
            return SumRelation(DenseRelation(grid, stddev=NEAR_ZERO, rngs=rngs), LearnedRelation(grid, groups))
        case "dense":
            return DenseRelation(grid, groups, stddev=dense_stddev, rngs=rngs)
    raise ConfigError(f"unknown relation '{kind}'; {nearest(kind, RELATIONS)}")
