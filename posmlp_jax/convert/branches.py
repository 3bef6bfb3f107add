"""The published names of what image and video models share: linear layers, norms, and a block's gated branch.

Theirs and ours are the same function; what differs is bookkeeping:

- Linear and convolution kernels are transposed.
- The published code interleaves groups (channel c of the mixed half is in group c mod s), ours are contiguous: the
  rows of each branch's first linear layer, the columns of its second and the gate's norm are permuted.
- GQPE's vectors are (x, y) there, with a y offset of query − key; ours are (y, x) and key − query in both.
- The published isotropic form's logits are a·Δ·δ − ½|δ|² with a = spread²; ours, −½α|δ − Δ|², has α = 1, Δ' = aΔ.
"""

import math
from collections.abc import Iterator

import numpy as np
from flax import nnx

from posmlp_jax.blocks import GatedBranch
from posmlp_jax.convert.table import SAME, Buffer, Layout, Row, reordered, reshaped, row, transposed, unused
from posmlp_jax.errors import CheckpointError
from posmlp_jax.gating import GatingUnit, mixed_channels
from posmlp_jax.relations import (
    DenseRelation,
    LearnedRelation,
    QuadraticRelation,
    SumRelation,
    relative_offsets,
    table_rows,
)

LINEAR = transposed(1, 0)
# Ours (y, x) to theirs (x, −y).
_AXES = np.array([[0.0, 1.0], [-1.0, 0.0]], np.float32)


def affine(name: str, layer, layout: Layout, order: Layout = SAME) -> Iterator[Row]:
    """A layer's kernel and bias; `order` rearranges its outputs."""
    yield row(f"{name}.weight", layer.kernel, layout.then(order))
    yield row(f"{name}.bias", layer.bias, order)


def norm_rows(name: str, norm: nnx.LayerNorm | nnx.BatchNorm, order: Layout = SAME) -> Iterator[Row | Buffer]:
    """A norm's scale and bias, its running statistics and the counter of batches, on which no result depends."""
    yield row(f"{name}.weight", norm.scale, order)
    yield row(f"{name}.bias", norm.bias, order)
    if isinstance(norm, nnx.BatchNorm):
        yield row(f"{name}.running_mean", norm.mean)
        yield row(f"{name}.running_var", norm.var)
        yield Buffer(f"{name}.num_batches_tracked", np.zeros((), np.int64))


def contiguous(channels: int, groups: int, parts: int = 1) -> np.ndarray:
    """For each of our channels the published one; there channel c of each of `parts` parts is in group c mod s."""
    order = np.arange(channels // parts).reshape(-1, groups).T.reshape(-1)
    return np.concatenate([order + start for start in range(0, channels, channels // parts)])


def branch_rows(name: str, branch: GatedBranch, expand: str, project: str) -> Iterator[Row | Buffer]:
    """A gated branch, whose linear layers have these published names."""
    gate, expanded = branch.gate, branch.expand.out_features
    mixed, groups = mixed_channels(expanded, gate.split), gate.relation.groups
    inputs = reordered(contiguous(expanded, groups, expanded // mixed))
    outputs = reordered(contiguous(gate.out_channels, groups, gate.out_channels // mixed), axis=0)
    yield from norm_rows(f"{name}.norm", branch.norm)
    yield from affine(f"{name}.{expand}", branch.expand, LINEAR, inputs)
    yield row(f"{name}.{project}.weight", branch.project.kernel, LINEAR.then(outputs))
    yield row(f"{name}.{project}.bias", branch.project.bias)
    yield from _gate(f"{name}.gate_unit", gate, reordered(contiguous(mixed, groups)))


def _gate(name: str, gate: GatingUnit, order: Layout) -> Iterator[Row | Buffer]:
    relation = gate.relation
    if gate.norm is not None:
        yield from norm_rows(f"{name}.norm_list.0", gate.norm, order)
    tokens = math.prod(relation.grid)
    if isinstance(relation, DenseRelation):
        bias, bias_shape = "proj_list.0.bias", (tokens,)
        shape = relation.weight.shape
        if relation.groups > 1:
            raise CheckpointError(f"no published checkpoint has a dense relation in groups, as '{name}' here")
        yield row(f"{name}.proj_list.0.weight", relation.weight, reshaped(shape[1:], shape))
    else:
        bias, bias_shape = "pos.token_proj_n_bias", (1, tokens, 1)
        if isinstance(relation, SumRelation):
            yield row(f"{name}.token_proj_n_weight", relation.dense.weight)
            relation = relation.learned
        if isinstance(relation, LearnedRelation):
            yield row(f"{name}.pos.window_relative_position_bias_table", relation.table)
            index = table_rows(relation.grid).astype(np.int64)
            # Over time the published table of pairs has an axis more.
            yield Buffer(
                f"{name}.pos.window_relative_position_index", index if len(relation.grid) == 2 else index[..., None]
            )
        else:
            yield _quadratic(f"{name}.pos", relation)
            yield Buffer(f"{name}.pos.rel_indices", _offset_features(relation))
    # The published code keeps this parameter where it does not use it.
    if gate.bias is None:
        yield unused(f"{name}.{bias}", bias_shape)
    else:
        yield row(f"{name}.{bias}", gate.bias, reshaped(bias_shape, (tokens,)))


def _quadratic(name: str, relation: QuadraticRelation) -> Row:
    if len(relation.grid) != 2:
        raise CheckpointError(f"no published checkpoint has the quadratic relation over time, as '{name}' here")
    isotropic = relation.covariance == "isotropic"
    # ΓΓᵀ does not change when Γ's columns do, so 'psd' needs no rotation from the right.
    right = _AXES if relation.covariance == "free" else np.eye(2, dtype=np.float32)

    def ours(center: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, ...]:
        if isotropic:
            center, spread = center * spread[:, None] ** 2, np.ones_like(spread)
        else:
            spread = _AXES.T @ spread @ right
        if relation.center is not None:
            return center @ _AXES, spread
        if center.any():
            raise CheckpointError(f"'{name}.attention_centers' are not 0, and the model has learn_center=False")
        return (spread,)

    def published(*values: np.ndarray) -> tuple[np.ndarray, ...]:
        spread = values[-1]
        center = values[0] @ _AXES.T if relation.center is not None else np.zeros((relation.groups, 2), np.float32)
        if not isotropic:
            return center, _AXES @ spread @ right.T
        if np.any(spread**2 != 1):
            raise CheckpointError(
                f"the published isotropic form has no place for '{name}': its α multiplies |δ|² too, and is not 1"
            )
        return center, np.ones_like(spread)

    learned = (relation.spread,) if relation.center is None else (relation.center, relation.spread)
    shapes = {f"{name}.attention_centers": (relation.groups, 2), f"{name}.attention_spreads": relation.spread.shape}
    return Row(shapes, learned, ours, published)


def _offset_features(relation: QuadraticRelation) -> np.ndarray:
    """The published r_δ of Eq. 8, `[N, N, 5]`: dx, dy, dx², dy², dx·dy; isotropic `[N, N, 3]`: dx, dy, dx² + dy²."""
    dx, dy = np.moveaxis(relative_offsets(relation.grid).astype(np.float32) @ _AXES.T, -1, 0)
    squares = (dx**2 + dy**2,) if relation.covariance == "isotropic" else (dx**2, dy**2, dx * dy)
    return np.stack((dx, dy, *squares), axis=-1)
