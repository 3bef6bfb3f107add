"""The models by name."""

import functools
import itertools
from collections.abc import Mapping
from typing import NamedTuple

import jax
from flax import nnx

from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.models.backbone import Backbone, BackboneConfig
from posmlp_jax.models.gmlp import GMLP, GMLPConfig
from posmlp_jax.models.posmlp import PosMLP, PosMLPConfig
from posmlp_jax.models.posmlp_video import PosMLPVideo, PosMLPVideoConfig

_FAMILIES: dict[type[BackboneConfig], type[Backbone]] = {}
_PRESETS: dict[str, BackboneConfig] = {}


class NamedModel(NamedTuple):
    """A model's config, and the name of the model that it is a variant of."""

    name: str
    config: BackboneConfig


def register(family: type[Backbone], presets: Mapping[str, BackboneConfig]) -> None:
    """Makes the models of a family known by name.

    A model whose head is not the backbone's linear one, on the average of its last map, is a family as well: a config
    that adds the head's fields to a backbone's, flat, as `config.model` and checkpoints have them, and its module.

    Args:
      family: the module, which is made with such a config and `rngs`.
      presets: its models' configs, all of one class, which no other family has.

    Raises:
      ConfigError: for a name that another family has.
    """
    for name, config in presets.items():
        register_config(type(config), family)
        if _PRESETS.setdefault(name, config) != config:
            raise ConfigError(f"there is a model '{name}' already")


def register_config(config: type[BackboneConfig], family: type[Backbone]) -> None:
    """Makes a family known by its config alone, whose models have no names of their own.

    Raises:
      ConfigError: for a config that another family has.
    """
    if _FAMILIES.setdefault(config, family) is not family:
        raise ConfigError(f"there is a family of {config.__name__} already")


def list_models() -> list[str]:
    """The names `create_model` knows."""
    return sorted(name for name, config in _PRESETS.items() if not config.is_detector)


def list_detectors() -> list[str]:
    """The names `create_detector` knows."""
    return sorted(name for name, config in _PRESETS.items() if config.is_detector)


def families() -> list[type[BackboneConfig]]:
    """The config dataclasses of the model families."""
    return list(_FAMILIES)


def family_of(config: type[BackboneConfig]) -> type[Backbone]:
    """The module that is made with a config of a class."""
    return _FAMILIES[config]


def model_config(name: str, **overrides) -> BackboneConfig:
    """The frozen config of a named model or detector with some fields changed.

    Raises:
      ConfigError: for an unknown name or field (the message has the nearest), or a value that cannot be.
    """
    if name not in _PRESETS:
        raise ConfigError(f"unknown model '{name}'; {nearest(name, _PRESETS)}")
    return _PRESETS[name].replace(**overrides)


def create_model(name: str, *, rngs: nnx.Rngs | None = None, **overrides) -> Backbone:
    """Builds a model with random parameters.

    Args:
      name: one of `list_models()`.
      rngs: where the parameters come from; by default the keys of `nnx.Rngs(0)`.
      **overrides: fields of the family's config dataclass (`PosMLPConfig`, `GMLPConfig`, `PosMLPVideoConfig`).

    Returns:
      A module: `model(images, train=False, rngs=None)` takes float `[B, H, W, 3]`, or `[B, T, H, W, 3]` if it is
      one of clips, and gives float32 logits.

    Raises:
      ConfigError: as `model_config`, and for a detector's name.
    """
    if name in list_detectors():
        raise ConfigError(f"'{name}' is a detector, which create_detector makes")
    return build(model_config(name, **overrides), Keys(0) if rngs is None else rngs)


def build(config: BackboneConfig, rngs: nnx.Rngs) -> Backbone:
    """The model that a config describes."""
    return family_of(type(config))(config, rngs=rngs)


class Keys(nnx.Rngs):
    """The keys that `nnx.Rngs(seed)` gives parameters, one after the other.

    Its count is an integer, and no variable of the trace that a model is made in: so that takes a third of the time.
    """

    def __init__(self, seed: int):
        counts = itertools.count()
        key = jax.random.key(seed)
        # Past Flax, which would make variables of what it is given.
        object.__setattr__(self, "params", lambda: jax.random.fold_in(key, next(counts)))


@functools.lru_cache(maxsize=64)
def _split_abstract(config: BackboneConfig) -> tuple[nnx.GraphDef, nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: build(config, Keys(0))))


def abstract_model(config: BackboneConfig) -> Backbone:
    """A module of an architecture with shapes in place of parameters; the caller may change it."""
    return nnx.merge(*_split_abstract(config))


register(
    PosMLP,
    {
        "posmlp_t": PosMLPConfig(),
        "posmlp_s": PosMLPConfig(widths=(128, 256, 512, 1024)),
        "posmlp_b": PosMLPConfig(widths=(192, 384, 768, 1536)),
        # The paper does not state its windows at 384²; these give the 17.7 GMACs that it prints.
        "posmlp_t_384": PosMLPConfig(image_size=384, windows=(32, 16, 12, 12)),
    },
)
register(GMLP, {"gmlp_s": GMLPConfig(), "gmlp_b": GMLPConfig(width=512)})
for _name, _config in {
    "posmlp_video_s": PosMLPVideoConfig(),
    # The published numbers, 4/6/15/4 blocks of 112/224/392/784, do not build: groups of 32 do not divide 392.
    "posmlp_video_b": PosMLPVideoConfig(widths=(112, 224, 448, 896), depths=(4, 6, 15, 4)),
}.items():
    register(
        PosMLPVideo,
        {
            _name: _config,
            # Twice the frames, of which the stem makes as many steps.
            f"{_name}_32": _config.replace(num_frames=32, stem="conv3d"),
            # Images first: what the video models' spatial parts are trained as.
            f"{_name}_image": _config.replace(num_frames=0, block="spatial", num_classes=1000),
        },
    )
