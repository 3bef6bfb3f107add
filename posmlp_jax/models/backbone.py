"""What every model of the registry shares: a config's fields and their checks, and the way from input to logits."""

import contextlib
import types
import typing
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields, replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped

from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.fused_branch import KERNELS
from posmlp_jax.gating import GATES, GatingUnit, mixed_channels
from posmlp_jax.layers import kernel_init
from posmlp_jax.normalization import NORM_EPSILON, LayerNorm
from posmlp_jax.relations import COVARIANCES, RELATIONS, FoldedRelation

# The fields that say how a model computes, and have no part in what it computes but for rounding.
COMPUTING = ("dtype", "remat", "kernel")
# What a model is called with. Of wrong shapes and types, a user's mistake, `_check_images` tells.
Images = Shaped[ArrayLike, "batch ..."]


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
    kernel: str = "auto"

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
        for field, choices in (
            ("relation", RELATIONS),
            ("covariance", COVARIANCES),
            ("gate", GATES),
            ("kernel", KERNELS),
        ):
            check_choice(field, getattr(self, field), choices)
        if self.dtype not in ("float32", "bfloat16", "float64"):
            raise ConfigError(f"dtype '{self.dtype}' should be float32, bfloat16 or float64")
        for field in ("dropout", "drop_path"):
            if not 0 <= getattr(self, field) < 1:
                raise ConfigError(f"{field} {getattr(self, field)} should be at least 0 and less than 1")

    @property
    def input_size(self) -> tuple[int, ...]:
        """What the model takes without batch and channels: (height, width), or (frames, height, width) of a clip."""
        return self.image_size

    @property
    def kind(self) -> typing.Literal["image", "video"]:
        """What the model takes."""
        return "video" if len(self.input_size) == 3 else "image"

    @property
    def is_detector(self) -> bool:
        """Whether it is a head on a backbone (`detectors.OnBackboneConfig`), and gives or takes boxes."""
        return False

    @property
    def class_layers(self) -> tuple[str, ...]:
        """The layers whose outputs are the classes: what a model of other classes does not take over."""
        return ("head",)

    @property
    def maps(self) -> tuple[tuple[int, int], ...]:
        """Channels of each map that `features` gives, and pixels between its tokens; here of models of stages."""
        return tuple((width, 4 * 2**stage) for stage, width in enumerate(self.widths))

    @property
    def norm_epsilon(self) -> float:
        """What the family's normalisations add to the variance."""
        return NORM_EPSILON

    @property
    def normalizes_gate(self) -> bool:
        """`gate_norm`, or where it is None what the published code does: on for the dense relation (SGU) alone."""
        return self.relation == "dense" if self.gate_norm is None else self.gate_norm

    def replace(self, **overrides):
        """A copy with some fields changed.

        Raises:
          ConfigError: for a field this family does not have (names the nearest), or a value it cannot have.
        """
        check_known(type(self), overrides)
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


def check_known(config: type[BackboneConfig], names: Iterable[str]) -> None:
    """Raises a ConfigError for the first name that is no field of a class of configs, with the nearest."""
    known = config.__dataclass_fields__
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown field '{name}' of {config.__name__}; {nearest(name, known)}")


def check_choice(field: str, value: str, choices: Collection[str]) -> None:
    """Raises a ConfigError that names the nearest choice unless `value` is one of them."""
    if value not in choices:
        raise ConfigError(f"{field} '{value}' is unknown; {nearest(str(value), choices)}")


def check_stages(config: BackboneConfig, *per_stage: str) -> None:
    """Brings the fields that have a value for each stage, `widths`, `windows` and others, to tuples, and checks them.

    Raises:
      ConfigError: unless there is one for each of `widths`, all positive; windows may be sides or (height, width).
    """
    for field in ("widths", *per_stage):
        object.__setattr__(config, field, tuple(getattr(config, field)))
        if len(getattr(config, field)) != len(config.widths) or not config.widths:
            raise ConfigError(
                f"{field} has {len(getattr(config, field))} values and widths {len(config.widths)}; "
                "both should have one for each stage"
            )
    sides = tuple((w, w) if isinstance(w, int) else tuple(w) for w in config.windows)
    object.__setattr__(config, "windows", sides)
    for field in ("widths", *per_stage):
        if field != "windows" and min(getattr(config, field)) < 1:
            raise ConfigError(f"{field} {getattr(config, field)} should all be 1 or more")
    if any(len(window) != 2 or min(window) < 1 for window in sides):
        raise ConfigError(f"windows {config.windows} should each be a positive side or (height, width)")


def check_groups(stage: int, width: int, expansion: int, groups: int, split: bool, units: int = 1) -> None:
    """Raises a ConfigError, with the numbers that would do, unless `groups` divide the channels that a unit mixes.

    The expanded channels are shared out to `units` gating units.
    """
    parts = units * (2 if split else 1)
    if expansion * width % parts:
        wanted = "even, to be split in two" if parts == 2 else f"a multiple of {parts}, to be split in {parts}"
        raise ConfigError(f"stage {stage}: width {width} times expansion {expansion} should be {wanted}")
    channels = mixed_channels(expansion * width // units, split)
    if groups < 1 or channels % groups:
        divisors = [n for n in range(1, channels + 1) if channels % n == 0]
        raise ConfigError(
            f"stage {stage}: groups {groups} do not divide the {channels} mixed channels "
            f"(width {width}, expansion {expansion}); these would: {', '.join(map(str, divisors))}"
        )


class Backbone(nnx.Module):
    """A model of the registry: subclasses build `stem`, `stages` and `mergings`, and call `_add_head` last."""

    def __init__(self, config: BackboneConfig):
        self.config = config
        self.folded = False

    def fold(self) -> "Backbone":
        """A copy for inference, whose relations are computed once, now, and not for every batch (`FoldedRelation`).

        It gives the same features and logits, and never sees later changes of the relations' parameters. With
        `train=True` it raises a ConfigError: gradients would not reach those parameters. A folded model's copy is
        folded as it is.
        """
        model = nnx.clone(self)
        if not self.folded:
            gates = [module for _, module in nnx.iter_modules(model) if isinstance(module, GatingUnit)]
            for gate in gates:
                gate.relation = FoldedRelation(gate.relation, self.config.dtype)
            model.folded = True
        return model

    def _add_position(self, tokens: tuple[int, int], width: int, rngs: nnx.Rngs) -> None:
        """The learned absolute position embedding of Table 7, after the stem, where the config asks for one.

        All frames of a clip have the same.
        """
        shape = (*tokens, width)
        self.position = nnx.Param(kernel_init(rngs.params(), shape)) if self.config.absolute_position else None

    def _add_head(self, width: int, rngs: nnx.Rngs, *, dropout: float = 0.0) -> None:
        """The last norm and the head; `dropout` is a probability for each value of the pooled vector."""
        dtype = jnp.dtype(self.config.dtype)
        self.norm = LayerNorm(width, epsilon=self.config.norm_epsilon, dtype=dtype, rngs=rngs)
        self.head_dropout = nnx.Dropout(dropout)
        self.head = self._make_head(width, rngs)

    def _make_head(self, width: int, rngs: nnx.Rngs) -> nnx.Module | None:
        """What makes the output of the last map or, of a detector, of all."""
        classes = self.config.num_classes
        # Logits are float32 whatever the compute type.
        return nnx.Linear(width, classes, kernel_init=kernel_init, rngs=rngs) if classes else None

    def features(
        self, images: Images, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> list[Float[Array, "batch *_map _channels"]]:
        """The stages' maps in the compute type, from fine to coarse, the last after the final norm.

        They are `[B, h, w, C]` of images and `[B, t, h, w, C]` of clips.

        Args:
          images: float `[B, H, W, 3]` or, for a model of clips, `[B, T, H, W, 3]`, normalised with the data's mean and
            standard deviation.
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
            x = x + self._positions(images.shape[-3:-1], x.shape[-3:-1]).astype(x.dtype)
        maps = []
        for index, stage in enumerate(self.stages):
            if index:
                x = self.mergings[index - 1](x, train=train)
            x = stage(x, keys[index])
            maps.append(x)
        return [*maps[:-1], self.norm(x)]

    def _positions(self, size: tuple[int, int], tokens: tuple[int, int]) -> Float[Array, "height width channels"]:
        """The embedding of a map with so many tokens, of images of a size."""
        if tokens != self.position.shape[:2]:
            raise ConfigError(
                f"a model with absolute_position takes images of its image_size {self.config.image_size}, not {size}"
            )
        return self.position[...]

    def _check_images(self, images: Images) -> None:
        axes = len(self.config.input_size)
        if images.ndim != axes + 2 or images.shape[-1] != 3 or not jnp.issubdtype(images.dtype, jnp.floating):
            wanted = "images should be float [batch, " if axes == 2 else "clips should be float [batch, frames, "
            raise ConfigError(f"{wanted}height, width, 3], not {images.dtype} {images.shape}")

    def __call__(
        self, images: Images, *, train: bool = False, rngs: nnx.Rngs | None = None
    ) -> Float[Array, "batch classes"]:
        """Float32 logits of the last map's average over its axes; without a head, that average."""
        last = self.features(images, train=train, rngs=rngs)[-1].astype(jnp.float32)
        pooled = jnp.mean(last, axis=tuple(range(1, last.ndim - 1)))
        if self.head is None:
            return pooled
        if train and self.head_dropout.rate > 0:
            pooled = self.head_dropout(pooled, rngs=rngs)
        return self.head(pooled)


def parameter_count(model: nnx.Module) -> int:
    """Learned values in a model; running batch statistics are not counted."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
