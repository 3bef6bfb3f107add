"""The gating unit: mix some channels over tokens with a relation, then gate the others with the result.

SGU (gMLP), PoSGU (PosMLP), PoTGU and PoSTGU (PosMLP-Video) are this one unit with different relations and grids.

Channels come first here, before examples and windows, and tokens last: all products then have their operands as they
lie, and compilers join what is between them. Of a group's channels in all windows a matrix is made without a copy.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.gpus import by_token
from posmlp_jax.normalization import NORM_EPSILON, LayerNorm
from posmlp_jax.relations import Relation
from posmlp_jax.windows import WindowLayout

GATES = ("multiply", "add", "concat")


def mix_tokens(
    relation: Float[Array, "groups tokens tokens"], x: Float[Array, "channels *batch tokens"]
) -> Float[Array, "channels *batch tokens"]:
    """X Wᵀ: W X of Eq. 9 and 12, with tokens in columns, for each window.

    Channels are in `groups` contiguous groups. The published code interleaves them (channel c in group c mod s), which
    is the same network with permuted channels (`posmlp_jax.convert`), but a worse memory layout.
    """
    # Its gradient is to be of x's type: XLA would write it as float32, in which GELU's gradient goes on.
    x = jax.lax.optimization_barrier(x)
    grouped = rearrange(x, "(g c) ... k -> g c ... k", g=relation.shape[0])
    return jnp.einsum("gqk,g...k->g...q", relation.astype(x.dtype), grouped).reshape(x.shape)


def mix_windows(
    relation: Relation, x: Float[Array, "channels batch windows tokens"], layout: WindowLayout | None
) -> Float[Array, "channels batch windows tokens"]:
    """`mix_tokens`, each window with the mask that `layout` gives it."""
    if layout is None or layout.masks is None:
        return mix_tokens(relation(), x)
    # Windows that share a mask are mixed together: no relation is copied for each of a large map's many windows.
    members = [np.flatnonzero(layout.mask_index == row) for row in range(len(layout.masks))]
    matrices = relation(layout.masks)
    mixed = [mix_tokens(matrix, x[:, :, rows]) for matrix, rows in zip(matrices, members, strict=True)]
    return jnp.concatenate(mixed, axis=2)[:, :, np.argsort(np.concatenate(members))]


def mix_frames(
    relation: Float[Array, "groups frames frames"], x: Float[Array, "channels batch windows tokens"]
) -> Float[Array, "channels batch windows tokens"]:
    """`mix_tokens` over the tokens at one place in all frames, of windows that `partition` cuts from single ones."""
    groups, frames, _ = relation.shape
    grouped = rearrange(x, "(g c) b (t n) k -> g c b t n k", t=frames, g=groups)
    mixed = jnp.einsum("gqt,gcbtnk->gcbqnk", relation.astype(x.dtype), grouped)
    return mixed.reshape(x.shape)


def add_bias(
    x: Float[Array, "channels *batch tokens"], bias: Float[Array, "channels tokens"]
) -> Float[Array, "channels *batch tokens"]:
    """What x is with a bias that `by_token` gives."""
    return x + jnp.expand_dims(bias, range(1, x.ndim - 1))


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
        self.norm = LayerNorm(mixed, axis=0, epsilon=epsilon, dtype=dtype, rngs=rngs) if norm else None
        self.bias = nnx.Param(jnp.full((math.prod(relation.grid),), bias_init)) if token_bias else None
        self.out_channels = mixed * (2 if gate == "concat" else 1)

    @property
    def parts(self) -> int:
        """How many equal parts of its channels the unit takes: X₁ and X₂, or all of them as one."""
        return 2 if self.split else 1

    def __call__(
        self, parts: Sequence[Float[Array, "channels batch windows tokens"]], layout: WindowLayout | None = None
    ) -> list[Float[Array, "channels batch windows tokens"]]:
        """Z, in the parts' type: one array, or for 'concat' two, whose channels come one after the other's."""
        mixed, other = self._mix(self.mixed_part(parts), layout), parts[-1]
        match self.gate:
            case "add":
                return [mixed + other]
            case "concat":
                return [mixed, other]
        return [mixed * other]

    def mixed_part(
        self, parts: Sequence[Float[Array, "channels batch windows tokens"]]
    ) -> Float[Array, "channels batch windows tokens"]:
        """Norm(X₁), which is mixed."""
        return parts[0] if self.norm is None else self.norm(parts[0])

    def _mix(
        self, x: Float[Array, "channels batch windows tokens"], layout: WindowLayout | None
    ) -> Float[Array, "channels batch windows tokens"]:
        """W X₁ + b."""
        mixed = mix_frames(self.relation(), x) if self.over_frames else mix_windows(self.relation, x, layout)
        if self.bias is None:
            return mixed
        bias = self.bias[...].astype(mixed.dtype)
        if self.over_frames:
            return mixed + jnp.repeat(bias, x.shape[2] // len(bias))[:, None]
        (bias,) = by_token(bias[None], mixed.shape[0], mixed.shape[-1])
        return add_bias(mixed, bias)


def mixed_channels(channels: int, split: bool) -> int:
    """How many of a gating unit's input channels are mixed over tokens."""
    return channels // 2 if split else channels
