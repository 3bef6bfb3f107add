"""What relations have learned, as arrays: maps of queries, Gaussians, non-locality, biases, tables over frames.

All are computed by the model's own relation modules and depend on parameters alone. Offsets and places are in tokens,
in the grid's order of axes: frames, rows, columns, as far as it has them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int

from posmlp_jax.analysis.units import MissingRelationError, Place, Unit, center, check_number, check_place
from posmlp_jax.relations import LearnedRelation, QuadraticRelation, SumRelation

# Eigenvalues of Σ̃ below this are of a Gaussian that is flat over any window: its deviation is 30 tokens or more.
SINGULAR = 1e-3


class Gaussians(NamedTuple):
    """What GQPE's groups look at: Gaussians of the offset from the query, in tokens.

    Attributes:
      centers: Δ.
      peaks: where the weights are largest: Δ itself, if the inverse covariance is symmetric. NaN where there is none.
      covariances: in tokens², the inverse of the symmetric part of Σ̃, which alone the quadratic form has. NaN where
        that is not positive: with Σ̃ = Γ weights may grow in some direction without end (section 5.3).
    """

    centers: Float64[np.ndarray, "groups axes"]
    peaks: Float64[np.ndarray, "groups axes"]
    covariances: Float64[np.ndarray, "groups axes axes"]


class NonLocality(NamedTuple):
    """Eq. 16 of one gating unit.

    Attributes:
      value: g(Σ̃), the smaller the less local; NaN where no group counts.
      left_out: how many groups are not counted.
    """

    value: float
    left_out: int


class Parts(NamedTuple):
    """The parts of LRPE-M (Eq. 10) and their sum, for one group."""

    dense: Float32[np.ndarray, "tokens tokens"]
    learned: Float32[np.ndarray, "tokens tokens"]
    total: Float32[np.ndarray, "tokens tokens"]


def relation_maps(unit: Unit, queries: Sequence[Place] | None = None) -> Float32[np.ndarray, "queries groups *grid"]:
    """What queries take from each token of their window: rows of the relation, as maps (Figures 1 d–e and 4).

    For 'gqpe' after the softmax of Eq. 13, so that each map sums to 1; for the others weights of either sign.

    Args:
      unit: from `find_units`.
      queries: places in the window; None: the one in its middle.

    Raises:
      ConfigError: for a place that is not in the window.
    """
    grid = unit.relation.grid
    queries = [center(grid)] if queries is None else queries
    rows = [np.ravel_multi_index(check_place(query, grid, f"the window of {unit.name}"), grid) for query in queries]
    matrix = np.asarray(unit.relation(), np.float32)
    return np.moveaxis(matrix[:, rows], 1, 0).reshape(len(rows), unit.relation.groups, *grid)


def gaussians(unit: Unit) -> Gaussians:
    """The Gaussians of Eq. 5, whose Σ⁻¹ is the Σ̃ of section 5.3.

    Raises:
      MissingRelationError: for another relation than 'gqpe'.
    """
    relation = unit.relation_of(QuadraticRelation, "Gaussians are")
    precisions = np.asarray(relation.inverse_covariance(), np.float64)
    centers = np.asarray(relation.centers(), np.float64)
    symmetric = (precisions + precisions.swapaxes(1, 2)) / 2
    proper = np.linalg.eigvalsh(symmetric).min(axis=1) > 0
    covariances = np.full(precisions.shape, np.nan)
    covariances[proper] = np.linalg.inv(symmetric[proper])
    # Where the gradient of Eq. 7, Σ̃Δ − ½(Σ̃ + Σ̃ᵀ)δ, vanishes.
    peaks = np.einsum("gij,gjk,gk->gi", covariances, precisions, centers)
    return Gaussians(centers, peaks, covariances)


def non_locality(unit: Unit) -> NonLocality:
    """g(Σ̃) of Eq. 16 (Figure 8): over the groups, the mean of √∏λ, with the eigenvalues λ of Σ̃.

    Σ̃ is what section 5.3 makes of Γ, and stands in Eq. 5 as Σ⁻¹: so the smaller it is, the further a query looks. In a
    window of D axes the unit is tokens^−D.

    "We do not take those into account" that are singular, says the paper: here groups with an eigenvalue below
    `SINGULAR`. Of Σ̃ = Γ the symmetric part counts, which alone the quadratic form has.

    Raises:
      MissingRelationError: for another relation than 'gqpe'.
    """
    precisions = unit.relation_of(QuadraticRelation, "Eq. 16 is of the covariances").inverse_covariance()
    precisions = np.asarray(precisions, np.float64)
    eigenvalues = np.linalg.eigvalsh((precisions + precisions.swapaxes(1, 2)) / 2)
    kept = eigenvalues.min(axis=1) >= SINGULAR
    values = np.sqrt(eigenvalues[kept].prod(axis=1))
    return NonLocality(float(values.mean()) if kept.any() else math.nan, int((~kept).sum()))


def token_bias(unit: Unit) -> Float32[np.ndarray, "*grid"] | None:
    """The bias b of Eq. 15, one value for each token of a window (Figure 5); None where the model has none."""
    return None if unit.gate.bias is None else np.asarray(unit.gate.bias[...], np.float32).reshape(unit.relation.grid)


def lrpe_m_parts(unit: Unit, group: int = 1) -> Parts:
    """W, r and W + r of Eq. 10, row = query and column = key (Figure 7).

    Args:
      unit: from `find_units`.
      group: from 1; W is the same for all.

    Raises:
      MissingRelationError: for another relation than 'lrpe_m'.
      ConfigError: for a group that there is not.
    """
    relation = unit.relation_of(SumRelation, "W and r are parts")
    check_number("group", group, relation.groups, unit.name)
    return Parts(
        dense=np.asarray(relation.dense()[0], np.float32),
        learned=np.asarray(relation.learned()[group - 1], np.float32),
        total=np.asarray(relation()[group - 1], np.float32),
    )


def frame_offsets(unit: Unit) -> Int[np.ndarray, "offsets"]:
    """The offsets p_key − p_query of `temporal_table`, from the earliest key to the latest, in time steps."""
    frames = unit.relation.grid[0]
    return np.arange(1 - frames, frames)


def temporal_table(unit: Unit) -> Float32[np.ndarray, "groups offsets"]:
    """The learned weights of frames by their offset from the query's frame, as `frame_offsets`.

    Of a joint relation (PoSTGU), those of the query's own place in other frames.

    Raises:
      MissingRelationError: for a spatial relation, or another than 'lrpe', whose weights the offset alone decides.
    """
    relation = unit.relation_of(LearnedRelation, "tables over frame offsets are")
    if unit.part == "spatial":
        raise MissingRelationError(f"{unit.name} has no relation over frames")
    frames, *window = relation.grid
    place = np.ravel_multi_index(center(window), window) if window else 0
    across = np.asarray(relation(), np.float32).reshape(-1, frames, math.prod(window), frames, math.prod(window))
    across = across[:, :, place, :, place]
    # The last frame sees all earlier ones, and the first all later ones.
    return np.concatenate([across[:, -1], across[:, 0, 1:]], axis=-1)
