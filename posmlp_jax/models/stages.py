"""Stages: blocks of one width on maps that are kept in windows, and how their parts follow from a config."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from posmlp_jax.gating import GatingUnit
from posmlp_jax.models.backbone import BackboneConfig
from posmlp_jax.relations import create_relation
from posmlp_jax.windows import WindowLayout, merge, partition, window_layout


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Stochastic depth, growing linearly from 0 at the first block to `rate` at the last."""
    return [rate * block / max(depth - 1, 1) for block in range(depth)]


def branch_options(config: BackboneConfig, rngs: nnx.Rngs) -> dict:
    """The keyword arguments of `GatedBranch`, and what is built on it, that a config decides."""
    return {
        "dropout": config.dropout,
        "epsilon": config.norm_epsilon,
        "kernel": config.kernel,
        "dtype": jnp.dtype(config.dtype),
        "rngs": rngs,
    }


def gate_maker(
    config: BackboneConfig,
    grid: tuple[int, ...],
    groups: int,
    rngs: nnx.Rngs,
    *,
    dense_stddev: float = 0.02,
    **options,
) -> Callable[[int], GatingUnit]:
    """`make(channels)`: a gating unit with the config's relation over `grid`.

    `dense_stddev` is of a dense relation's initial values; the options are `GatingUnit`'s.
    """

    def make(channels: int) -> GatingUnit:
        relation = create_relation(
            config.relation,
            grid,
            groups,
            covariance=config.covariance,
            learn_center=config.learn_center,
            dense_stddev=dense_stddev,
            rngs=rngs,
        )
        return GatingUnit(
            channels,
            relation,
            gate=config.gate,
            split=config.split,
            norm=config.normalizes_gate,
            token_bias=config.token_bias,
            epsilon=config.norm_epsilon,
            dtype=jnp.dtype(config.dtype),
            rngs=rngs,
            **options,
        )

    return make


class Stage(nnx.Module):
    """Blocks of one width whose tokens are in windows of one size.

    Args:
      blocks: modules `block(tokens, layout, key)` that keep the tokens' shape.
      window: tokens along each axis of a window, of a map with as many axes.
      shift: whether every second block's windows are shifted by half.
      remat: whether the backward pass computes each block's activations again.
    """

    def __init__(
        self, blocks: Iterable[nnx.Module], window: tuple[int, ...], *, shift: bool = False, remat: bool = False
    ):
        self.window, self.shift, self.remat = window, shift, remat
        self.blocks = nnx.List(blocks)

    def __call__(
        self, x: Float[Array, "batch *map channels"], key: Key[Array, ""] | None = None
    ) -> Float[Array, "batch *map channels"]:
        """The map after all blocks; with a random `key` they drop."""
        size = x.shape[1:-1]
        keys = [None] * len(self.blocks) if key is None else jax.random.split(key, len(self.blocks))
        layout = window_layout(size, self.window)
        tokens = partition(x, layout)
        for index, block in enumerate(self.blocks):
            # Blocks that share a layout stay in window order; maps are only put together where the layout changes.
            wanted = window_layout(size, self.window, self.shift and index % 2 == 1)
            if wanted is not layout:
                tokens, layout = partition(merge(tokens, layout), wanted), wanted
            tokens = self._apply(block, tokens, layout, keys[index])
        return merge(tokens, layout)

    def _apply(
        self,
        block: nnx.Module,
        tokens: Float[Array, "batch windows tokens channels"],
        layout: WindowLayout,
        key: Key[Array, ""] | None,
    ) -> Float[Array, "batch windows tokens channels"]:
        if not self.remat:
            return block(tokens, layout, key)
        # A block changes no state, so its parameters can go through jax.checkpoint as plain arrays.
        graph, state = nnx.split(block)
        return jax.checkpoint(lambda state, tokens, key: nnx.merge(graph, state)(tokens, layout, key))(
            state, tokens, key
        )
