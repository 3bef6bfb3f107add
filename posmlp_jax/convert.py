"""Published PyTorch checkpoints of PosMLP and PosMLP-Video into our models.

The two are the same function of the image or clip; what differs is bookkeeping:

- Linear and convolution kernels are transposed.
- The published code interleaves groups (channel c of the mixed half is in group c mod s), ours are contiguous: the
  rows of each block's first linear layer, the columns of its second and the gate's norm are permuted.
- GQPE's vectors are (x, y) there, with a y offset of query − key; ours are (y, x) and key − query in both.
- The published isotropic form's logits are a·Δ·δ − ½|δ|² with a = spread²; ours, −½α|δ − Δ|², has α = 1, Δ' = aΔ.
"""

import copy
import math
from collections.abc import Mapping

import numpy as np
from flax import nnx

from posmlp_jax.errors import CheckpointError
from posmlp_jax.gating import GatingUnit, mixed_channels
from posmlp_jax.layers import ConvMerging, GatedBranch
from posmlp_jax.models.posmlp import PosMLP
from posmlp_jax.models.posmlp_video import PosMLPVideo
from posmlp_jax.relations import DenseRelation, LearnedRelation, QuadraticRelation, SumRelation

# Index tables that published checkpoints store beside what they learned, and a counter no result depends on.
_NOT_LEARNED = ("rel_indices", "relative_position_index", "num_batches_tracked")
# What a published model can have, of the options that change which parameters there are.
_PUBLISHED = {
    "stem": ("conv", "conv2d"),
    "merge": ("conv",),
    "block": ("parallel", "spatial"),
    "version": ("v1",),
    "absolute_position": (False,),
}
# Ours (y, x) to theirs (x, −y).
_AXES = np.array([[0.0, 1.0], [-1.0, 0.0]], np.float32)


def load_published(model: PosMLP | PosMLPVideo, state_dict: Mapping[str, np.ndarray]) -> None:
    """Copies a published state dict into `model`, in place.

    Args:
      model: one with the same architecture.
      state_dict: PyTorch parameter names to arrays.

    Raises:
      CheckpointError: if a parameter is missing, left over, or of another shape (names the first), or the model has
        what no published one has. The model is then as it was.
    """
    config = model.config
    for option, published in _PUBLISHED.items():
        value = getattr(config, option, published[0])
        if value not in published:
            raise CheckpointError(f"no published checkpoint has {option}={value!r}, which this model has")
    source = _Source(state_dict)
    (_video_body if isinstance(model, PosMLPVideo) else _image_body)(model, source)
    _norm(model.norm, source.under("norm."))
    if model.head is not None:
        _linear(model.head, source.under("head."))
    source.copy()


class _Source:
    """The state dict, from which each parameter is taken once, and copied when all are."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.prefix = ""
        self.arrays = {k: np.asarray(v) for k, v in arrays.items() if not k.endswith(_NOT_LEARNED)}
        self.copies: list[tuple[nnx.Variable, np.ndarray]] = []

    def under(self, prefix: str) -> "_Source":
        """The same source, for parameters whose names begin with `prefix`."""
        source = copy.copy(self)
        source.prefix = self.prefix + prefix
        return source

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A parameter that should have this shape."""
        name = self.prefix + name
        if name not in self.arrays:
            raise CheckpointError(f"the published checkpoint has no '{name}': another architecture?")
        array = self.arrays.pop(name)
        if array.shape != tuple(shape):
            raise CheckpointError(f"the published '{name}' has shape {array.shape}, and the model needs {tuple(shape)}")
        return array

    def put(
        self,
        name: str,
        variable: nnx.Variable,
        axes: tuple[int, ...] | None = None,
        order: np.ndarray | slice = slice(None),
    ) -> None:
        """Takes a parameter for a variable, whose axis i is the parameter's axis `axes[i]`, its last one in `order`."""
        axes = tuple(range(variable.ndim)) if axes is None else axes
        array = self.take(name, tuple(variable.shape[axes.index(axis)] for axis in range(variable.ndim)))
        self.set(variable, array.transpose(axes)[..., order])

    def set(self, variable: nnx.Variable, array: np.ndarray) -> None:
        """To be done by `copy`."""
        self.copies.append((variable, array))

    def copy(self) -> None:
        """Sets the variables, if nothing was left over."""
        if self.arrays:
            raise CheckpointError(
                f"the model has no place for '{min(self.arrays)}' and {len(self.arrays) - 1} more of the published "
                "checkpoint's parameters: another architecture?"
            )
        for variable, array in self.copies:
            variable[...] = array


def _image_body(model: PosMLP, source: _Source) -> None:
    for index, (conv, norm) in enumerate(zip(model.stem.convs, model.stem.norms, strict=True)):
        source.put(f"patch_embed.projs.{index}.weight", conv.kernel, (2, 3, 1, 0))
        source.put(f"patch_embed.projs.{index}.bias", conv.bias)
        _norm(norm, source.under(f"patch_embed.norms.{index}."))
    for level, stage in enumerate(model.stages):
        if level:
            _merging(model.mergings[level - 1], source.under(f"levels.{level}.pool."))
        for index, block in enumerate(stage.blocks):
            _branch(block, source.under(f"levels.{level}.encoder.{index}."), "proj_c_e", "proj_c_s")


def _video_body(model: PosMLPVideo, source: _Source) -> None:
    for number, (conv, norm) in enumerate(zip(model.stem.convs, model.stem.norms, strict=True), start=1):
        _frame_conv(conv, source.under(f"patch_embed1.proj{number}."))
        _norm(norm, source.under(f"patch_embed1.norm{number}."))
    for level, stage in enumerate(model.stages, start=1):
        if level > 1:
            merging = model.mergings[level - 2]
            _frame_conv(merging.conv, source.under(f"patch_embed{level}.proj."))
            _norm(merging.norm, source.under(f"patch_embed{level}.norm."))
        for index, block in enumerate(stage.blocks):
            place = f"blocks{level}.{index}"
            if model.config.block == "parallel":
                _branch(block.temporal, source.under(f"{place}.t_fc.encoder."), "fc1", "fc2")
            _branch(block.spatial, source.under(f"{place}.fc.encoder."), "fc1", "fc2")


def _frame_conv(conv: nnx.Conv, source: _Source) -> None:
    """A published (1, 3, 3) convolution, which has an axis more than ours."""
    rows, columns, inputs, outputs = conv.kernel.shape
    weight = source.take("weight", (outputs, inputs, 1, rows, columns))
    source.set(conv.kernel, weight[:, :, 0].transpose(2, 3, 1, 0))
    source.put("bias", conv.bias)


def _norm(norm: nnx.LayerNorm | nnx.BatchNorm, source: _Source, order: np.ndarray | slice = slice(None)) -> None:
    source.put("weight", norm.scale, order=order)
    source.put("bias", norm.bias, order=order)
    if isinstance(norm, nnx.BatchNorm):
        source.put("running_mean", norm.mean)
        source.put("running_var", norm.var)


def _linear(layer: nnx.Linear, source: _Source, order: np.ndarray | slice = slice(None)) -> None:
    source.put("weight", layer.kernel, (1, 0), order)
    source.put("bias", layer.bias, order=order)


def _merging(merging: ConvMerging, source: _Source) -> None:
    source.put("conv.weight", merging.kernel, (2, 3, 1, 0))
    source.put("conv.bias", merging.bias)
    _norm(merging.norm, source.under("norm."))


def _branch(branch: GatedBranch, source: _Source, expand: str, project: str) -> None:
    """A gated branch, whose linear layers have these published names."""
    gate = branch.gate
    expanded = branch.expand.out_features
    mixed = mixed_channels(expanded, gate.split)
    # Contiguous position p holds the interleaved channel order[p].
    order = np.arange(mixed).reshape(-1, gate.relation.groups).T.reshape(-1)
    rows = np.concatenate([order + start for start in range(0, expanded, mixed)])
    columns = np.concatenate([order + start for start in range(0, gate.out_channels, mixed)])

    _norm(branch.norm, source.under("norm."))
    _linear(branch.expand, source.under(f"{expand}."), rows)
    weight = source.take(f"{project}.weight", branch.project.kernel.shape[::-1])
    source.set(branch.project.kernel, weight.T[columns])
    source.put(f"{project}.bias", branch.project.bias)
    _gate(gate, source.under("gate_unit."), order)


def _gate(gate: GatingUnit, source: _Source, order: np.ndarray) -> None:
    relation = gate.relation
    if gate.norm is not None:
        _norm(gate.norm, source.under("norm_list.0."), order)
    tokens = math.prod(relation.grid)
    if isinstance(relation, DenseRelation):
        ungrouped = relation.weight.shape[1:] if relation.groups == 1 else relation.weight.shape
        source.set(relation.weight, source.take("proj_list.0.weight", ungrouped)[None])
        bias = source.take("proj_list.0.bias", (tokens,))
    else:
        if isinstance(relation, SumRelation):
            source.put("token_proj_n_weight", relation.dense.weight)
            relation = relation.learned
        if isinstance(relation, LearnedRelation):
            source.put("pos.window_relative_position_bias_table", relation.table)
        else:
            _quadratic(relation, source.under("pos."))
        bias = source.take("pos.token_proj_n_bias", (1, tokens, 1))[0, :, 0]
    # The published code keeps this parameter where it does not use it.
    if gate.bias is not None:
        source.set(gate.bias, bias)


def _quadratic(relation: QuadraticRelation, source: _Source) -> None:
    center = source.take("attention_centers", (relation.groups, 2))
    spread = source.take("attention_spreads", relation.spread.shape)
    if relation.covariance == "isotropic":
        center = center * spread[:, None] ** 2
        spread = np.ones_like(spread)
    else:
        spread = _AXES.T @ spread @ (np.eye(2, dtype=np.float32) if relation.covariance == "psd" else _AXES)
    source.set(relation.spread, spread)
    if relation.center is not None:
        source.set(relation.center, center @ _AXES)
    elif center.any():
        raise CheckpointError(
            f"the published '{source.prefix}attention_centers' are not 0, and the model has learn_center=False"
        )
