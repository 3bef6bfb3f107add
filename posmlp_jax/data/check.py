"""Whether a config makes sense, and a source is what it says, before any batch is made."""

from collections.abc import Sequence
from typing import Any

from posmlp_jax.data.augment.augmentation import WHOLE, Augmentation
from posmlp_jax.data.canvases import Canvases, evaluation_sizes, trains_on_whole
from posmlp_jax.data.decoding.examples import InputSize
from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.data.sources.clip_index import CLIP_ENDS
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.data.sources.source import Source
from posmlp_jax.data.targets import Labels
from posmlp_jax.errors import ConfigError

_AVERAGES = ("softmax", "logits")
# Of frames, whose longer side may be 16 times as long.
_MAX_SIDE = 2048


def check_config(config: Any) -> None:
    """Checks what the `data` section of a config says about sampling, augmentation and loading.

    Raises:
      ConfigError: for the first value that makes no sense.
    """
    Augmentation(config, (1, 1))
    FrameSampling(config.sampling, 1, config.stride, config.fps)
    if not 0 < config.eval_crop <= 1:
        raise ConfigError(f"eval_crop must be a share in (0, 1], not {config.eval_crop}")
    if not 0 <= config.max_broken <= 1:
        raise ConfigError(f"max_broken must be a share in [0, 1], not {config.max_broken}")
    if config.threads < 0 or config.processes < 0:
        raise ConfigError(f"threads ({config.threads}) and processes ({config.processes}) must not be negative")
    if config.balance not in ("none", "classes"):
        raise ConfigError(f"data.balance is '{config.balance}', and should be 'none' or 'classes'")
    for field in ("repeats", "test_clips"):
        if config[field] < 1:
            raise ConfigError(f"data.{field} is {config[field]}, and should be 1 or more")
    if not 0 <= config.frame_side <= _MAX_SIDE:
        raise ConfigError(f"data.frame_side is {config.frame_side}, and should be 0 (as stored) or up to {_MAX_SIDE}")
    if config.test_crops not in (1, 3):
        raise ConfigError(f"data.test_crops is {config.test_crops}, and should be 1 or 3")
    if config.clip_end not in CLIP_ENDS:
        raise ConfigError(f"unknown data.clip_end '{config.clip_end}': one of {', '.join(CLIP_ENDS)}")
    if config.test_average not in _AVERAGES:
        raise ConfigError(f"unknown data.test_average '{config.test_average}': one of {', '.join(_AVERAGES)}")
    for field in ("train_sizes", "canvases"):
        _check_sizes(field, config[field])
    _check_fit(config)


def _check_sizes(field: str, sizes: Any) -> None:
    wanted = "hold sides of squares or pairs (height, width), as (192, 224, (192, 256))"
    if not isinstance(sizes, tuple | list):
        raise ConfigError(f"data.{field} is {sizes!r}, and should {wanted}")
    for size in sizes:
        if not (_is_side(size) or (isinstance(size, tuple | list) and len(size) == 2 and all(map(_is_side, size)))):
            raise ConfigError(f"data.{field} holds {size!r}, and should {wanted}")


def _check_fit(config: Any) -> None:
    """Checks what only the crops that show whole images read, and what does not go with them."""
    short, long = config.short_side, config.long_side
    if not (short == long == 0 or (_is_side(short) and _is_side(long) and short <= long)):
        raise ConfigError(
            f"data.short_side is {short!r} and data.long_side {long!r}, and should be sides, the long one no less than "
            "the short one, or 0 and 0"
        )
    if config.crop not in WHOLE:
        for field in ("canvases", "short_side", "long_side"):
            if config[field]:
                raise ConfigError(
                    f"data.{field} is {config[field]}, which only data.crop 'fit' and 'scaled' read: {config.crop!r}"
                )
        return
    others = {"test_clips": 1, "test_crops": 1, "frame_side": 0}
    if trains_on_whole(config):
        others |= {"train_sizes": ()} | ({"balance": "none"} if len(config.canvases) > 1 else {})
    for field, value in others.items():
        if config[field] != value:
            reasons = {"frame_side": ", which resizes frames itself", "balance": " and several data.canvases"}
            raise ConfigError(
                f"data.{field} is {config[field]!r}, and should be {value!r} with data.crop '{config.crop}'"
                f"{reasons.get(field, ', which shows all of an image in a canvas')}"
            )


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def check_source(source: Source, config: Any, input_size: InputSize) -> None:
    """Checks that a source is what a config says and a model takes.

    Args:
      source: images or videos.
      config: the `data` section.
      input_size: the model's, (height, width) or (frames, height, width).

    Raises:
      ConfigError: when it is not.
    """
    if source.kind == "video" and len(input_size) == 2:
        raise ConfigError(
            f"the model takes images, but these are videos: {source.description}; take a model of clips, as "
            "--config.model.name=posmlp_video_s"
        )
    if source.kind == "image" and len(input_size) == 3:
        raise ConfigError(
            f"the model takes clips of {input_size[0]} frames, but these are images: {source.description}; take a "
            "model of images, as --config.model.name=posmlp_video_s_image"
        )
    if source.kind == "image" and config.test_clips > 1:
        raise ConfigError(f"data.test_clips is {config.test_clips}, but these are images: {source.description}")
    if config.crop in WHOLE:
        Canvases(evaluation_sizes(config, input_size), config).of_source(source)
    if isinstance(source, LabelledSource):
        Labels(source, config)  # Classes of `flip_label_pairs` that there are none of.
    elif config.balance == "classes":
        raise ConfigError(f"data.balance is 'classes', but these {source.kind}s have none: {source.description}")


def check_scales(config: Any, sizes: Sequence[InputSize]) -> None:
    """Raises a ConfigError where the crop 'scaled' would make frames smaller than what training cuts out of them.

    Args:
      config: the `data` section of a config.
      sizes: that training has (`canvases.training_sizes`).
    """
    side = max(max(size[-2:]) for size in sizes)
    if config.crop == "scaled" and config.scale_sides[0] < side and not trains_on_whole(config):
        raise ConfigError(
            f"data.scale_sides is {tuple(config.scale_sides)}, but crops of {side} pixels are cut out of what they "
            f"make: set --config.data.scale_sides='({side}, {max(side, config.scale_sides[1])})'"
        )
