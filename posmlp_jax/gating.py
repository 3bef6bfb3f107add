"""The gating unit: mix some channels over tokens with a relation, then gate the others with the result.

SGU (gMLP), PoSGU (PosMLP), PoTGU and PoSTGU (PosMLP-Video) are this one unit with different relations and grids.
"""

import math

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.relations import Relation
from posmlp_jax.windows import WindowLayout, join_frames, split_frames

GATES = ("multiply", "add", "concat")
NORM_EPSILON = 1e-6  # PosMLP's; PosMLP-Video has its own.


def mix_tokens(
    relation: Float[Array, "groups tokens tokens"], tokens: Float[Array, "*batch tokens channels"]
) -> Float[Array, "*batch tokens channels"]:
    """W X of Eq. 9 and 12.

    Channels are in `groups` contiguous groups. The published code interleaves them (channel c in group c mod s), which
    is the same network with permuted channels (`posmlp_jax.convert`), but a worse memory layout.
    """
    groups = relation.shape[0]
    grouped = tokens.reshape(*tokens.shape[:-1], groups, -1)
    return jnp.einsum("gqk,...kgc->...qgc", relation.astype(tokens.dtype), grouped).reshape(tokens.shape)


def mix_windows(
    relation: Relation, tokens: Float[Array, "batch windows tokens channels"], layout: WindowLayout | None
) -> Float[Array, "batch windows tokens channels"]:
    """`mix_tokens`, each window with the mask that `layout` gives it."""
    if layout is None or layout.masks is None:
        return mix_tokens(relation(), tokens)
    # Windows that share a mask are mixed together: no relation is copied for each of a large map's many windows.
    members = [np.flatnonzero(layout.mask_index == row) for row in range(len(layout.masks))]
    matrices = relation(layout.masks)
    mixed = [mix_tokens(matrix, tokens[:, rows]) for matrix, rows in zip(matrices, members, strict=True)]
    return jnp.concatenate(mixed, axis=1)[:, np.argsort(np.concatenate(members))]


class GatingUnit(nnx.Module):
    """Z = (W·Norm(X₁) + b) ⊙ X₂, Eq. 1, 9, 12 and 15, and the variants of Figure 3.

    Args:
      channels: C of the input.
      relation: W; its groups must divide the mixed channels.
      gate: how the mixed half joins the other: 'multiply', 'add' or 'concat' (Figure 3 a–c).
      split: whether X₁ and X₂ are the channels' first and second half; if not, both are all channels (Figure 3 e).
      norm: LayerNorm before mixing (Eq. 10–11, Figure 3 d).
      token_bias: b, one value a token and shared by all channels (Eq. 15).
      bias_init: b's initial value: 0 in PosMLP, 1 in gMLP.
      over_frames: whether the relation's tokens are those at one place in all frames (PoTGU), of an input whose windows
        are of single frames.
      epsilon: of the normalisation.
      dtype: compute type of the normalisation's result.

    Raises:
      ConfigError: for an unknown gate, or groups that do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        relation: Relation,
        *,
        gate: str = "multiply",
        split: bool = True,
        norm: bool = False,
        token_bias: bool = True,
        bias_init: float = 0.0,
        over_frames: bool = False,
        epsilon: float = NORM_EPSILON,
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        if gate not in GATES:
            raise ConfigError(f"unknown gate '{gate}'; {nearest(gate, GATES)}")
        mixed = mixed_channels(channels, split)
        if mixed % relation.groups:
            raise ConfigError(f"groups {relation.groups} do not divide the gating unit's {mixed} mixed channels")
        self.relation, self.gate, self.split, self.over_frames = relation, gate, split, over_frames
        self.norm = nnx.LayerNorm(mixed, epsilon=epsilon, dtype=dtype, rngs=rngs) if norm else None
        self.bias = nnx.Param(jnp.full((math.prod(relation.grid),), bias_init)) if token_bias else None
        self.out_channels = mixed * (2 if gate == "concat" else 1)

    def __call__(
        self, x: Float[Array, "batch windows tokens channels"], layout: WindowLayout | None = None
    ) -> Float[Array, "batch windows tokens {self.out_channels}"]:
        """Z, in x's type."""
        mixed, other = self.halves(x)
        if self.over_frames:
            # Only what is mixed changes its order, next to a product that XLA gives another order anyway.
            mixed = split_frames(self._mix(join_frames(mixed, self.relation.grid[0]), None), x.shape[1])
        else:
            mixed = self._mix(mixed, layout)
        match self.gate:
            case "add":
                return mixed + other
            case "concat":
                return jnp.concatenate([mixed, other], axis=-1)
        return mixed * other

    def halves(
        self, x: Float[Array, "batch windows tokens channels"]
    ) -> tuple[Float[Array, "batch windows tokens mixed"], Float[Array, "batch windows tokens mixed"]]:
        """Norm(X₁), which is mixed, and X₂, which is not."""
        mixed, other = jnp.split(x, 2, axis=-1) if self.split else (x, x)
        return (mixed if self.norm is None else self.norm(mixed)), other

    def _mix(
        self, tokens: Float[Array, "batch windows tokens channels"], layout: WindowLayout | None
    ) -> Float[Array, "batch windows tokens channels"]:
        """W X₁ + b."""
        mixed = mix_windows(self.relation, tokens, layout)
        return mixed if self.bias is None else mixed + self.bias[...].astype(mixed.dtype)[:, None]


def mixed_channels(channels: int, split: bool) -> int:
    """How many of a gating unit's input channels are mixed over tokens."""
    return channels // 2 if split else channels
