"""What every model of the registry shares: stages of gated blocks, the classification head, the checks of a config."""

import contextlib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.gating import GATES, NORM_EPSILON, GatingUnit, mixed_channels
from posmlp_jax.layers import GatedBlock, kernel_init
from posmlp_jax.relations import COVARIANCES, RELATIONS, FoldedRelation, create_relation
from posmlp_jax.windows import merge, partition, window_layout


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Fields that every family has. See `PosMLPConfig` for what they mean.

    Raises:
      ConfigError: for a value that no model can be built with.
    """

    image_size: int | tuple[int, int] = 224
    num_classes: int = 1000
    relation: str = "gqpe"
    covariance: str = "psd"
    learn_center: bool = True
    gate: str = "multiply"
    split: bool = True
    gate_norm: bool | None = None
    token_bias: bool = True
    absolute_position: bool = False
    dropout: float = 0.0
    drop_path: float = 0.0
    dtype: str = "float32"
    remat: bool = False

    def __post_init__(self):
        set_field = object.__setattr__  # Frozen for others; here values are only brought to one form.
        if self.dtype is not None:  # Which NumPy takes for float64.
            with contextlib.suppress(TypeError):  # What is no type is refused below.
                set_field(self, "dtype", jnp.dtype(self.dtype).name)
        for field in fields(self):
            value = getattr(self, field.name)
            if not _is_a(value, field.type):
                kind = field.type.__name__ if isinstance(field.type, type) else field.type
                raise ConfigError(f"{field.name} {value!r} should be of type {kind}")
        size = self.image_size
        set_field(self, "image_size", (size, size) if isinstance(size, int) else tuple(size))
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise ConfigError(f"image_size {size} should be one positive integer or (height, width)")
        if self.num_classes < 0:
            raise ConfigError(f"num_classes {self.num_classes} should be 0 (no head) or more")
        for field, choices in (("relation", RELATIONS), ("covariance", COVARIANCES), ("gate", GATES)):
            check_choice(field, getattr(self, field), choices)
        if self.dtype not in ("float32", "bfloat16", "float64"):
            raise ConfigError(f"dtype '{self.dtype}' should be float32, bfloat16 or float64")
        for field in ("dropout", "drop_path"):
            if not 0 <= getattr(self, field) < 1:
                raise ConfigError(f"{field} {getattr(self, field)} should be at least 0 and less than 1")

    @property
    def normalizes_gate(self) -> bool:
        """`gate_norm`, or where it is None what the published code does: on for the dense relation (SGU) alone."""
        return self.relation == "dense" if self.gate_norm is None else self.gate_norm

    def replace(self, **overrides):
        """A copy with some fields changed.

        Raises:
          ConfigError: for a field this family does not have (names the nearest), or a value it cannot have.
        """
        for name in overrides:
            known = self.__dataclass_fields__
            if name not in known:
                raise ConfigError(f"unknown field '{name}' of {type(self).__name__}; {nearest(name, known)}")
        return replace(self, **overrides)


def _is_a(value, kind) -> bool:
    """Whether a value is of an annotated type; lists pass for tuples, of any length, and integers for floats."""
    if isinstance(kind, types.UnionType):
        return any(_is_a(value, option) for option in kind.__args__)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, list | tuple) and all(_is_a(item, kind.__args__[0]) for item in value)
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, int | float if kind is float else kind)


def check_choice(field: str, value: str, choices: Sequence[str]) -> None:
    """Raises a ConfigError that names the nearest choice unless `value` is one of them."""
    if value not in choices:
        raise ConfigError(f"{field} '{value}' is unknown; {nearest(str(value), choices)}")


def check_groups(stage: int, width: int, expansion: int, groups: int, split: bool) -> None:
    """Raises a ConfigError, with the numbers that would do, unless `groups` divide the stage's mixed channels."""
    if split and expansion * width % 2:
        raise ConfigError(
            f"stage {stage}: width {width} times expansion {expansion} should be even, to be split in two"
        )
    channels = mixed_channels(expansion * width, split)
    if groups < 1 or channels % groups:
        divisors = [n for n in range(1, channels + 1) if channels % n == 0]
        raise ConfigError(
            f"stage {stage}: groups {groups} do not divide the {channels} mixed channels "
            f"(width {width}, expansion {expansion}); these would: {', '.join(map(str, divisors))}"
        )


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Stochastic depth, growing linearly from 0 at the first block to `rate` at the last."""
    return [rate * block / max(depth - 1, 1) for block in range(depth)]


class Stage(nnx.Module):
    """Gated blocks of one width that mix tokens in windows of one size.

    Args:
      config: the model's; its relation, gate, dropout, dtype and remat fields.
      width: channels.
      window: tokens along each axis of a window.
      drop_paths: one rate for each block; their number is the depth.
      shift: whether every second block's windows are shifted by half.
      dense_stddev, bias_init: initial values of a dense relation and of the token bias.
    """

    def __init__(
        self,
        config: BackboneConfig,
        width: int,
        expansion: int,
        window: tuple[int, ...],
        groups: int,
        drop_paths: Sequence[float],
        *,
        shift: bool = False,
        dense_stddev: float = 0.02,
        bias_init: float = 0.0,
        rngs: nnx.Rngs,
    ):
        dtype = jnp.dtype(config.dtype)

        def make_gate(channels: int) -> GatingUnit:
            relation = create_relation(
                config.relation,
                window,
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
                bias_init=bias_init,
                dtype=dtype,
                rngs=rngs,
            )

        self.window, self.shift, self.remat = window, shift, config.remat
        self.blocks = nnx.List(
            GatedBlock(width, expansion, make_gate, dropout=config.dropout, drop_path=rate, dtype=dtype, rngs=rngs)
            for rate in drop_paths
        )

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """A map `[B, *map, width]` to the same; with a random `key` the blocks drop."""
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

    def _apply(self, block: GatedBlock, tokens: jax.Array, layout, key: jax.Array | None) -> jax.Array:
        if not self.remat:
            return block(tokens, layout, key)
        # A block changes no state, so its parameters can go through jax.checkpoint as plain arrays.
        graph, state = nnx.split(block)
        return jax.checkpoint(lambda state, tokens, key: nnx.merge(graph, state)(tokens, layout, key))(
            state, tokens, key
        )


class Backbone(nnx.Module):
    """A model of the registry: subclasses build `stem`, `stages` and `mergings`, and call `_add_head` last."""

    def __init__(self, config: BackboneConfig):
        self.config = config
        self.folded = False

    def fold(self) -> typing.Self:
        """A copy for inference, whose relations are computed once, now, and not for every batch (`FoldedRelation`).

        It gives the same features and logits, and never sees later changes of the relations' parameters. With
        `train=True` it raises a ConfigError: gradients would not reach those parameters. A folded model's copy is
        folded as it is.
        """
        model = nnx.clone(self)
        if not self.folded:
            for stage in model.stages:
                for block in stage.blocks:
                    block.gate.relation = FoldedRelation(block.gate.relation, self.config.dtype)
            model.folded = True
        return model

    def _add_position(self, tokens: tuple[int, int], width: int, rngs: nnx.Rngs) -> None:
        """The learned absolute position embedding of Table 7, after the stem, where the config asks for one."""
        shape = (*tokens, width)
        self.position = nnx.Param(kernel_init(rngs.params(), shape)) if self.config.absolute_position else None

    def _add_head(self, width: int, rngs: nnx.Rngs) -> None:
        dtype = jnp.dtype(self.config.dtype)
        self.norm = nnx.LayerNorm(width, epsilon=NORM_EPSILON, dtype=dtype, rngs=rngs)
        classes = self.config.num_classes
        # Logits are float32 whatever the compute type.
        self.head = nnx.Linear(width, classes, kernel_init=kernel_init, rngs=rngs) if classes else None

    def features(self, images: jax.Array, *, train: bool = False, rngs: nnx.Rngs | None = None) -> list[jax.Array]:
        """The stages' maps `[B, h, w, C]` in the compute type, from fine to coarse, the last after the final norm.

        Args:
          images: float `[B, H, W, 3]`, normalised with the data's mean and standard deviation.
          train: dropout, drop path and batch statistics on. Needs `rngs` where the config drops anything.
          rngs: a stream `dropout`.
        """
        self._check_images(images)
        if train and self.folded:
            raise ConfigError("a folded model is for inference; train the model that fold() was called on")
        drops = train and (self.config.dropout > 0 or self.config.drop_path > 0)
        if drops and rngs is None:
            raise ConfigError("train=True with dropout or drop_path needs rngs=nnx.Rngs(dropout=seed)")
        keys = jax.random.split(rngs.dropout(), len(self.stages)) if drops else [None] * len(self.stages)

        x = self.stem(images.astype(self.config.dtype), train=train)
        if self.position is not None:
            if x.shape[1:] != self.position.shape:
                raise ConfigError(
                    f"a model with absolute_position takes images of its image_size {self.config.image_size}, "
                    f"not {images.shape[1:3]}"
                )
            x = x + self.position[...].astype(x.dtype)
        maps = []
        for index, stage in enumerate(self.stages):
            if index:
                x = self.mergings[index - 1](x, train=train)
            x = stage(x, keys[index])
            maps.append(x)
        return [*maps[:-1], self.norm(x)]

    def _check_images(self, images: jax.Array) -> None:
        if images.ndim != 4 or images.shape[-1] != 3 or not jnp.issubdtype(images.dtype, jnp.floating):
            raise ConfigError(f"images should be float [batch, height, width, 3], not {images.dtype} {images.shape}")

    def __call__(self, images: jax.Array, *, train: bool = False, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Float32 logits `[B, num_classes]` of the last map's average over places; without a head, that average."""
        pooled = jnp.mean(self.features(images, train=train, rngs=rngs)[-1].astype(jnp.float32), axis=(1, 2))
        return pooled if self.head is None else self.head(pooled)


def parameter_count(model: nnx.Module) -> int:
    """Learned values in a model; running batch statistics are not counted."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
