"""Files of published parameters into checkpoints, and checkpoints into such files."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from etils import epath

from posmlp_jax.checkpoints.pretrained import open_pretrained
from posmlp_jax.checkpoints.state import empty_model, module_weights
from posmlp_jax.checkpoints.store import Checkpoints
from posmlp_jax.convert.architecture import infer_fields
from posmlp_jax.convert.files import check_state_dict_file, read_state_dict, write_state_dict
from posmlp_jax.convert.models import load_torch_state_dict, published_groups, torch_state_dict
from posmlp_jax.errors import CheckpointError
from posmlp_jax.models.backbone import Backbone, check_choice
from posmlp_jax.models.registry import NamedModel, model_config
from posmlp_jax.paths import as_path
from posmlp_jax.tasks.classification.outcomes import METRICS
from posmlp_jax.training.config import default_config, plain
from posmlp_jax.writing import atomic_folder, check_output

# What the published video models take their pixels to be and how their views are averaged, on every data set; those of
# images are ImageNet's.
_OF_CLIPS = {"mean": (0.45, 0.45, 0.45), "std": (0.225, 0.225, 0.225), "test_average": "logits"}
CHANNELS = ("rgb", "bgr")


@dataclass(frozen=True)
class Converted:
    """What `convert_checkpoint` made.

    Attributes:
      model: with the published parameters.
      group: what these are called in the file, as 'state_dict_ema'; '' where the file holds nothing else.
      inferred: the model's fields that its shapes show to be others than the preset's.
    """

    model: Backbone
    group: str
    inferred: Mapping[str, Any]


def convert_checkpoint(
    source: epath.PathLike,
    model: str,
    output: epath.PathLike,
    *,
    weights: str = "best",
    overrides: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    channels: str = "rgb",
) -> Converted:
    """Writes a checkpoint from a file of published parameters, all of it or nothing.

    Args:
      source: .pth, .pth.tar, .pyth, .pt, .npz or .safetensors (`files.read_state_dict`).
      model: the name of what it is of; fields that shapes show to be others are taken from them.
      output: the folder to write, which must not exist, in one that does. It then holds a checkpoint of step 0 for
        `from_pretrained`, `init_from` and evaluation; no run goes on from it.
      weights: 'raw' or 'ema' (the moving average) parameters; 'best': the moving average where there is one.
      overrides: fields of the model that no shape shows, or shows wrong.
      class_names: to be saved with it, in the order of the logits.
      channels: the order in which the file's network takes them; ours is 'rgb'. No file says so, but the published code
        reads Something-Something's frames by OpenCV, 'bgr', and exchanges nothing.

    Raises:
      PosMLPError: for whatever is wrong with these; nothing is left at `output` then.
    """
    source, output = as_path(source), as_path(output)
    check_choice("channels", channels, CHANNELS)
    check_output(output)
    preset = model_config(model, **(overrides or {}))
    state_dict, group = read_state_dict(source, weights)
    shapes = {name: tuple(array.shape) for name, array in state_dict.items()}
    found = infer_fields(shapes, preset)
    inferred = {field: value for field, value in found.items() if field not in (overrides or {})}
    config = preset.replace(**inferred)
    if class_names is not None and not all(name.strip() for name in class_names):
        raise CheckpointError("a class has no name: the class names should have one in every line")
    if class_names is not None and len(class_names) != config.num_classes:
        raise CheckpointError(f"there are {len(class_names)} class names for a model of {config.num_classes} classes")
    loaded = _with_channels(load_torch_state_dict(empty_model(config), state_dict), channels)
    run = default_config(model)
    run.model.update({name: getattr(config, name) for name in config.__dataclass_fields__})
    if config.kind == "video":
        run.data.update(_OF_CLIPS)
    with atomic_folder(output) as folder, closing(Checkpoints(folder, keep=1, metrics=METRICS)) as checkpoints:
        checkpoints.save_weights(module_weights(loaded), plain(run), NamedModel(model, config), class_names)
    return Converted(loaded, group, inferred)


def export_checkpoint(
    source: epath.PathLike,
    output: epath.PathLike,
    *,
    step: str | int = "latest",
    weights: str = "best",
    channels: str = "rgb",
) -> str:
    """Writes a trained model under the published names, with all that the published code needs to load it strictly.

    Args:
      source: a working directory, one of its checkpoints, or what else `open_pretrained` takes.
      output: .pth, .npz or .safetensors, which must not exist.
      step: which checkpoint, as for `open_pretrained`.
      weights: which of its weights, likewise.
      channels: the order in which the file's network is to take them, as of `convert_checkpoint`.

    Returns:
      What was exported, and why that, in words.

    Raises:
      PosMLPError: for whatever is wrong with these, or a model that the published code has no place for.
    """
    output = as_path(output)
    check_choice("channels", channels, CHANNELS)
    check_state_dict_file(output)
    pretrained = open_pretrained(source, step=step, weights=weights)
    model = _with_channels(pretrained.model(), channels)
    write_state_dict(output, torch_state_dict(model), published_groups(model))
    return pretrained.choice


def _with_channels(model: Backbone, channels: str) -> Backbone:
    """The model, whose first kernel `[…, 3, width]` takes its channels the other way round if they are 'bgr'."""
    # A stem without convolutions is no published one, which is said where names are looked for.
    if channels == "bgr" and hasattr(model.stem, "convs"):
        kernel = model.stem.convs[0].kernel
        kernel[...] = kernel[..., ::-1, :]
    return model
