"""Published PyTorch checkpoints of PosMLP into our models.

The two are the same function of the image; what differs is bookkeeping:

- Linear and convolution kernels are transposed.
- The published code interleaves groups (channel c of the mixed half is in group c mod s), ours are contiguous: the
  rows of each block's first linear layer, the columns of its second and the gate's norm are permuted.
- GQPE's vectors are (x, y) there, with a y offset of query − key; ours are (y, x) and key − query in both.
- The published isotropic form's logits are a·Δ·δ − ½|δ|² with a = spread²; ours, −½α|δ − Δ|², has α = 1, Δ' = aΔ.
"""

from collections.abc import Mapping

import numpy as np
from flax import nnx

from posmlp_jax.errors import CheckpointError
from posmlp_jax.gating import mixed_channels
from posmlp_jax.layers import ConvMerging
from posmlp_jax.models.posmlp import PosMLP

# Index tables that published checkpoints store beside what they learned, and a counter no result depends on.
_NOT_LEARNED = ("rel_indices", "relative_position_index", "num_batches_tracked")
# Ours (y, x) to theirs (x, −y).
_AXES = np.array([[0.0, 1.0], [-1.0, 0.0]], np.float32)


def load_published(model: PosMLP, state_dict: Mapping[str, np.ndarray]) -> None:
    """Copies a published state dict into `model`, in place.

    Args:
      model: a PosMLP with the same architecture.
      state_dict: PyTorch parameter names to arrays.

    Raises:
      CheckpointError: if a parameter is missing, left over, or of another shape (names the first).
    """
    source = _Source(state_dict)
    _stem(model, source)
    for level, stage in enumerate(model.stages):
        if level:
            _merging(model.mergings[level - 1], source.under(f"levels.{level}.pool."))
        for index, block in enumerate(stage.blocks):
            _block(block, source.under(f"levels.{level}.encoder.{index}."))
    _norm(model.norm, source.under("norm."))
    if model.head is not None:
        _linear(model.head, source.under("head."))
    source.check_empty()


class _Source:
    """The state dict, from which each parameter is taken once."""

    def __init__(self, arrays: Mapping[str, np.ndarray], prefix: str = ""):
        self.prefix = prefix
        self.arrays = arrays if prefix else {k: v for k, v in arrays.items() if not k.endswith(_NOT_LEARNED)}

    def under(self, prefix: str) -> "_Source":
        return _Source(self.arrays, self.prefix + prefix)

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.arrays

    def take(self, name: str) -> np.ndarray:
        if name not in self:
            raise CheckpointError(f"the published checkpoint has no '{self.prefix}{name}': another architecture?")
        return np.asarray(self.arrays.pop(self.prefix + name))

    def check_empty(self) -> None:
        if self.arrays:
            raise CheckpointError(
                f"the model has no place for '{min(self.arrays)}' and {len(self.arrays) - 1} more of the published "
                "checkpoint's parameters: another architecture?"
            )


def _set(variable: nnx.Variable, value: np.ndarray) -> None:
    if variable.shape != value.shape:
        raise CheckpointError(f"a published parameter has shape {value.shape} where the model has {variable.shape}")
    variable[...] = value


def _norm(norm: nnx.LayerNorm | nnx.BatchNorm, source: _Source, order: np.ndarray | slice = slice(None)) -> None:
    _set(norm.scale, source.take("weight")[order])
    _set(norm.bias, source.take("bias")[order])
    if isinstance(norm, nnx.BatchNorm):
        _set(norm.mean, source.take("running_mean"))
        _set(norm.var, source.take("running_var"))


def _linear(layer: nnx.Linear, source: _Source) -> None:
    _set(layer.kernel, source.take("weight").T)
    if layer.bias is not None:
        _set(layer.bias, source.take("bias"))


def _stem(model: PosMLP, source: _Source) -> None:
    for index, (conv, norm) in enumerate(zip(model.stem.convs, model.stem.norms, strict=True)):
        _set(conv.kernel, source.take(f"patch_embed.projs.{index}.weight").transpose(2, 3, 1, 0))
        _set(conv.bias, source.take(f"patch_embed.projs.{index}.bias"))
        _norm(norm, source.under(f"patch_embed.norms.{index}."))


def _merging(merging: ConvMerging, source: _Source) -> None:
    _set(merging.kernel, source.take("conv.weight").transpose(2, 3, 1, 0))
    _set(merging.bias, source.take("conv.bias"))
    _norm(merging.norm, source.under("norm."))


def _block(block, source: _Source) -> None:
    gate, relation = block.gate, block.gate.relation
    expanded = block.expand.out_features
    mixed = mixed_channels(expanded, gate.split)
    # Contiguous position p holds the interleaved channel order[p].
    order = np.arange(mixed).reshape(-1, relation.groups).T.reshape(-1)
    rows = np.concatenate([order + start for start in range(0, expanded, mixed)])
    columns = np.concatenate([order + start for start in range(0, gate.out_channels, mixed)])

    _norm(block.norm, source.under("norm."))
    _set(block.expand.kernel, source.take("proj_c_e.weight").T[:, rows])
    _set(block.expand.bias, source.take("proj_c_e.bias")[rows])
    _set(block.project.kernel, source.take("proj_c_s.weight").T[columns])
    _set(block.project.bias, source.take("proj_c_s.bias"))
    _gate(gate, source.under("gate_unit."), order)


def _gate(gate, source: _Source, order: np.ndarray) -> None:
    relation = gate.relation
    if "proj_list.0.weight" in source:
        _set(relation.weight, source.take("proj_list.0.weight")[None])
        _norm(gate.norm, source.under("norm_list.0."), order)
        _set(gate.bias, source.take("proj_list.0.bias"))
        return
    if "token_proj_n_weight" in source:
        _set(relation.dense.weight, source.take("token_proj_n_weight"))
        relation = relation.learned
    if "pos.window_relative_position_bias_table" in source:
        _set(relation.table, source.take("pos.window_relative_position_bias_table"))
    else:
        _quadratic(relation, source.under("pos."))
    # The published code keeps this parameter where it does not use it.
    bias = source.take("pos.token_proj_n_bias")[0, :, 0]
    if gate.bias is not None:
        _set(gate.bias, bias)


def _quadratic(relation, source: _Source) -> None:
    center, spread = source.take("attention_centers"), source.take("attention_spreads")
    if relation.covariance == "isotropic":
        center = center * spread[:, None] ** 2
        spread = np.ones_like(spread)
    else:
        spread = _AXES.T @ spread @ (np.eye(2, dtype=np.float32) if relation.covariance == "psd" else _AXES)
    _set(relation.spread, spread)
    if relation.center is not None:
        _set(relation.center, center @ _AXES)
