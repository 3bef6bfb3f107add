"""PosMLP (Figure 2, Table 11): four stages of windows whose tokens are mixed by relations of their positions."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx

from posmlp_jax.blocks import GatedBlock
from posmlp_jax.downsampling import DOWNSAMPLINGS, ConvMerging, ConvStem, LinearMerging, LinearStem
from posmlp_jax.errors import ConfigError
from posmlp_jax.models.backbone import Backbone, BackboneConfig, check_choice, check_groups, check_stages
from posmlp_jax.models.stages import Stage, branch_options, drop_path_rates, gate_maker
from posmlp_jax.normalization import NORMS


@dataclass(frozen=True, kw_only=True)
class PosMLPConfig(BackboneConfig):
    """What a PosMLP is made of; the defaults are the paper's PosMLP-T as its code was published.

    Attributes:
      image_size: pixels, an integer or (height, width). Only `absolute_position` ties a model to it.
      num_classes: logits; 0 for no head.
      widths: channels of each stage. Each stage's map has half the side of the one before, whose width is half its own.
      depths: blocks in each stage.
      expansions: γ, how much a block widens its channels.
      windows: tokens along the side of each stage's windows, an integer or (height, width).
      groups: s of each stage; 1 is the ungrouped form.
      relation: 'gqpe', 'lrpe', 'lrpe_m' or 'dense' (Table 1).
      covariance: Σ⁻¹ of gqpe, 'psd' ΓΓᵀ, 'free' Γ or 'isotropic' αI (Table 6).
      learn_center: whether gqpe's Δ is learned (Table 6).
      gate: 'multiply', 'add' or 'concat' (Figure 3 a–c).
      split: whether the gate mixes one half of the channels (Figure 3 e: not).
      gate_norm: LayerNorm before mixing. None is as published: on for dense (SGU), off for the others. Eq. 10–11 and
        Figure 3 d are True.
      token_bias: the bias of Eq. 15.
      absolute_position: a learned embedding after the stem (Table 7).
      stem, stem_norm: 'conv' (ConvPE) or 'linear', with 'batch' or 'layer' norm (Table 10).
      merge, merge_norm: 'conv' (ConvPM) or 'linear', with 'batch' or 'layer' norm (Table 10).
      shift_windows: every second block's windows shifted by half (section 5.5).
      dropout: after a block's second linear layer, and of the pooled vector before the head.
      drop_path: stochastic depth of the last block; growing linearly from 0 at the first.
      dtype: compute type, float32 or bfloat16. Parameters, relations, statistics and logits are float32.
      remat: recompute each block's activations in the backward pass, for less memory and a third more compute.
      kernel: what computes a block's branch in windows without masks: 'xla', the compiler's operations; 'pallas', one
        kernel of ours (`posmlp_jax.fused_branch`); 'auto', that kernel in bfloat16 on TPUs, wherever it can.
    """

    widths: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (2, 2, 18, 2)
    expansions: tuple[int, ...] = (4, 4, 4, 2)
    windows: tuple[int | tuple[int, int], ...] = (14, 14, 14, 7)
    groups: tuple[int, ...] = (8, 16, 32, 64)
    stem: str = "conv"
    stem_norm: str = "batch"
    merge: str = "conv"
    merge_norm: str = "layer"
    shift_windows: bool = False
    dropout: float = 0.02333
    drop_path: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        check_stages(self, "depths", "expansions", "windows", "groups")
        for before, after in zip(self.widths, self.widths[1:], strict=False):
            if after != 2 * before:
                raise ConfigError(f"widths {self.widths} should double from stage to stage: merging does that")
        for field, choices in (
            ("stem", DOWNSAMPLINGS),
            ("stem_norm", NORMS),
            ("merge", DOWNSAMPLINGS),
            ("merge_norm", NORMS),
        ):
            check_choice(field, getattr(self, field), choices)
        for stage, sizes in enumerate(zip(self.widths, self.expansions, self.groups, strict=True), start=1):
            check_groups(stage, *sizes, self.split)


class PosMLP(Backbone):
    """The image backbone. `model(images)` gives logits, `model.features(images)` the stages' maps (`Backbone`)."""

    def __init__(self, config: PosMLPConfig, *, rngs: nnx.Rngs):
        super().__init__(config)
        dtype = jnp.dtype(config.dtype)
        width = config.widths[0]
        if config.stem == "conv":
            self.stem = ConvStem(width, config.stem_norm, dtype, rngs)
        else:
            self.stem = LinearStem(width, 4, config.stem_norm, dtype, rngs)
        height, breadth = config.image_size
        self._add_position((-(-height // 4), -(-breadth // 4)), width, rngs)

        merging = ConvMerging if config.merge == "conv" else LinearMerging
        self.mergings = nnx.List(merging(width, config.merge_norm, dtype, rngs) for width in config.widths[:-1])
        rates = iter(drop_path_rates(config.drop_path, sum(config.depths)))
        self.stages = nnx.List(
            Stage(
                [
                    GatedBlock(
                        width,
                        expansion,
                        gate_maker(config, window, groups, rngs),
                        drop_path=next(rates),
                        **branch_options(config, rngs),
                    )
                    for _ in range(depth)
                ],
                window,
                shift=config.shift_windows,
                remat=config.remat,
            )
            for width, depth, expansion, window, groups in zip(
                config.widths, config.depths, config.expansions, config.windows, config.groups, strict=True
            )
        )
        self._add_head(config.widths[-1], rngs, dropout=config.dropout)
