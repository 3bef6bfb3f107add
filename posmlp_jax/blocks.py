"""The residual block round a gating unit."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from posmlp_jax.fused_branch import fused_branch, is_fused, memory_obstacle, refuse
from posmlp_jax.gating import GatingUnit
from posmlp_jax.layers import Dropout, channels_first, channels_last, gelu, linear, stochastic_depth
from posmlp_jax.normalization import NORM_EPSILON, LayerNorm
from posmlp_jax.windows import WindowLayout


class GatedBranch(nnx.Module):
    """What a block adds to its input: Dropout(Linear(gate(GELU(Linear(Norm(x))))))."""

    def __init__(
        self,
        channels: int,
        expansion: int,
        make_gate,
        *,
        dropout: float = 0.0,
        epsilon: float = NORM_EPSILON,
        kernel: str = "auto",
        dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Args: `make_gate(channels)` builds the gate for the expanded channels; `dropout` is a probability.

        `kernel` is one of `KERNELS`: 'xla' leaves all to the compiler, 'pallas' is one kernel for windows without masks
        (`posmlp_jax.fused_branch`), and 'auto' that kernel where it can be had and is a gain.

        Raises:
          ConfigError: for 'pallas' and a branch that the kernel cannot do; in calls, too, for windows with masks.
        """
        self.norm = LayerNorm(channels, epsilon=epsilon, dtype=dtype, rngs=rngs)
        self.expand = linear(channels, expansion * channels, dtype, rngs)
        self.gate = make_gate(expansion * channels)
        self.project = linear(self.gate.out_channels, channels, dtype, rngs)
        self.dropout = Dropout(dropout)
        self.kernel = kernel
        if kernel == "pallas":
            refuse(self.obstacle())

    def __call__(
        self,
        x: Float[Array, "batch windows tokens channels"],
        layout: WindowLayout | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "batch windows tokens channels"]:
        """What to add to x; with a random `key` the branch drops, without one it does not."""
        return self._apply(x, layout, key, residual=False)

    def _apply(
        self,
        x: Float[Array, "batch windows tokens channels"],
        layout: WindowLayout | None,
        key: Key[Array, ""] | None,
        *,
        residual: bool,
    ) -> Float[Array, "batch windows tokens channels"]:
        """The branch, and x added to it if there is a `residual`."""
        if is_fused(self.kernel, self.obstacle(layout), x):
            return self._fused(x, key, residual=residual)
        parts = [gelu(part) for part in channels_first(self.expand, self.norm(x), self.gate.parts)]
        y = self._drop(channels_last(self.project, self.gate(parts, layout)), key)
        return x + y if residual else y

    def _drop(
        self, y: Float[Array, "batch windows tokens channels"], key: Key[Array, ""] | None
    ) -> Float[Array, "batch windows tokens channels"]:
        return y if key is None else self.dropout(y, rngs=key)

    def _fused(
        self, x: Float[Array, "batch windows tokens channels"], key: Key[Array, ""] | None, *, residual: bool
    ) -> Float[Array, "batch windows tokens channels"]:
        """The branch as one kernel, and x added to it if there is a `residual`."""
        ones = jnp.ones_like(x)
        kept = self._drop(ones, key)
        return fused_branch(
            x,
            None if kept is ones else kept,
            scale=self.norm.scale[...],
            shift=self.norm.bias[...],
            expand=self.expand.kernel[...],
            expand_bias=self.expand.bias[...],
            relation=self.gate.relation(),
            token_bias=self.gate.bias[...],
            project=self.project.kernel[...],
            project_bias=self.project.bias[...],
            epsilon=self.norm.epsilon,
            residual=residual,
        )

    def obstacle(self, layout: WindowLayout | None = None) -> str:
        """What stands against computing this branch by the kernel, in windows of a layout; or ''."""
        gate = self.gate
        if not isinstance(gate, GatingUnit):
            return "is of one gating unit, and this branch has several"
        if gate.gate != "multiply" or not gate.split or gate.norm is not None or gate.bias is None:
            return (
                "is of gates that multiply halves and have a bias and no norm (gate='multiply', split=True, "
                "token_bias=True, gate_norm=False)"
            )
        if gate.over_frames:
            return "is of windows, and not of tokens at one place in all frames"
        if self.expand.dtype == jnp.float64:
            return "computes in float32"
        if layout is not None and layout.masks is not None:
            sizes = (" × ".join(map(str, size)) for size in (layout.map_size, layout.window))
            return "takes no windows with masks, and a map of {} in windows of {} is padded or shifted".format(*sizes)
        width, channels = self.expand.in_features, self.project.in_features
        return memory_obstacle(width, channels, gate.relation.groups, len(gate.bias), self.expand.dtype)


class GatedBlock(GatedBranch):
    """The block of gMLP and PosMLP (Figure 1 a): x + DropPath(branch(x))."""

    def __init__(self, channels: int, expansion: int, make_gate, *, drop_path: float = 0.0, **options):
        """Args: as `GatedBranch`; `drop_path` is a probability."""
        super().__init__(channels, expansion, make_gate, **options)
        self.drop_path = stochastic_depth(drop_path)

    def __call__(
        self,
        x: Float[Array, "batch windows tokens channels"],
        layout: WindowLayout | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "batch windows tokens channels"]:
        """The block's output; with a random `key` the block drops, without one it does not."""
        return self._apply(x, layout, key, residual=True)

    def _drop(
        self, y: Float[Array, "batch windows tokens channels"], key: Key[Array, ""] | None
    ) -> Float[Array, "batch windows tokens channels"]:
        if key is None:
            return y
        dropout_key, path_key = jax.random.split(key)
        return self.drop_path(super()._drop(y, dropout_key), rngs=path_key)
