"""A trained model as one file that runs without this package.

    python -m posmlp_jax.export --checkpoint=runs/digits --output=digits.stablehlo

The file is StableHLO from `jax.export`: the folded model with its weights, for any batch size and for CPUs, NVIDIA GPUs
and TPUs. It takes float32 images `[batch, height, width, 3]` or clips `[batch, frames, height, width, 3]`, RGB,
(pixel / 255 − mean) / std, and gives float32 logits `[batch, classes]`. A detector takes `sizes`, float32 `[batch, 2]`,
too, the (height, width) that each image has in the upper left of the array, and gives a dict of `boxes`, `scores`,
`classes`, `valid` and, where it has them, `masks`. What else its user needs is in FILE.json beside it: mean, std, crop,
shapes and class names.

With jax and flatbuffers alone (JAX promises to read the file for six months of its own releases):

    exported = jax.export.deserialize(open("digits.stablehlo", "rb").read())
    logits = jax.jit(exported.call)(images)
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

import jax
import jax.export
import jax.numpy as jnp
from etils import epath

from posmlp_jax.checkpoints.pretrained import Pretrained, open_pretrained
from posmlp_jax.checkpoints.selection import CHECKPOINT_HELP, add_selection
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data import evaluation_sizes
from posmlp_jax.data.augment.augmentation import WHOLE
from posmlp_jax.errors import CheckpointError, ConfigError, nearest, refusal
from posmlp_jax.models.backbone import Backbone
from posmlp_jax.models.detectors.config import ActionDetectorConfig
from posmlp_jax.paths import as_path, file_size
from posmlp_jax.training.saved_config import data_config
from posmlp_jax.writing import atomic_write, check_output

PLATFORMS = ("cpu", "cuda", "tpu")
DTYPES = ("float32", "bfloat16")


def export_model(
    model: Backbone,
    *,
    platforms: Sequence[str] = PLATFORMS,
    features: bool = False,
    canvas: tuple[int, int] | None = None,
) -> jax.export.Exported:
    """A model as a function of images or clips alone: folded, in evaluation mode, for every batch size.

    Args:
      model: its `input_size` is that of the images or clips.
      platforms: what the function is lowered for, of 'cpu', 'cuda' and 'tpu'.
      features: whether it gives the stages' maps, `Backbone.features`, in place of the logits.
      canvas: (height, width) of the images that a detector takes, if not its `input_size`.

    Returns:
      float32 `[batch, height, width, 3]`, or `[batch, frames, height, width, 3]` for a model of clips, to float32
      `[batch, num_classes]`, or to a tuple of float32 maps. Of a detector float32 `[batch, height, width, 3]` and
      `[batch, 2]`, the images' sizes in it, to a dict of its `Detections`.

    Raises:
      ConfigError: for an unknown platform, or none, and for the logits of a detector of actions, which takes boxes.
    """
    if isinstance(model.config, ActionDetectorConfig) and not features:
        raise ConfigError(
            "a detector of actions takes boxes beside clips, and an exported function clips alone: its maps can be "
            "exported, with --features"
        )
    for platform in platforms:
        if platform not in PLATFORMS:
            # Not the nearest: that of 'gpu' is 'tpu'.
            raise ConfigError(f"unknown platform '{platform}'; known: {', '.join(PLATFORMS)} (NVIDIA GPUs are cuda)")
    if not platforms:
        raise ConfigError(f"which platforms? some of {', '.join(PLATFORMS)}")
    folded = model.fold()

    def call(images: jax.Array, *sizes: jax.Array):
        if features:
            return tuple(stage.astype(jnp.float32) for stage in folded.features(images))
        # Who reads the file has no tuples with our names.
        return folded(images, *sizes)._asdict() if sizes else folded(images)

    (batch,) = jax.export.symbolic_shape("batch")
    shapes = [(batch, *(canvas or model.config.input_size), 3)]
    if model.config.is_detector and not features:
        shapes.append((batch, 2))
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.export.export(jax.jit(call), platforms=tuple(dict.fromkeys(platforms)))(*inputs)


def load_exported(path: epath.PathLike) -> jax.export.Exported:
    """What `python -m posmlp_jax.export` wrote: `jax.jit(load_exported(path).call)(images)`.

    Raises:
      CheckpointError: if there is no such file, or it is no exported model.
    """
    try:
        data = as_path(path).read_bytes()
    except Exception as error:
        if (reason := refusal(error)) is None:
            raise
        raise CheckpointError(f"cannot read {path}: {reason}") from error
    try:
        return jax.export.deserialize(data)
    except Exception as error:  # Flatbuffers and MLIR raise what they stumble over.
        raise CheckpointError(f"{path} is no exported model, or of a JAX that this one cannot read") from error


def save_exported(
    pretrained: Pretrained,
    output: epath.PathLike,
    *,
    platforms: Sequence[str] = PLATFORMS,
    features: bool = False,
    dtype: str | None = None,
) -> dict[str, Any]:
    """Writes `output` and `output`.json; what fails leaves neither.

    Args:
      pretrained: from `open_pretrained`.
      output: the file, which must not exist.
      platforms: as in `export_model`.
      features: as in `export_model`.
      dtype: the compute type, 'float32' or 'bfloat16'; None is the model's own.

    Returns:
      What the JSON file holds.

    Raises:
      ConfigError: for an unknown platform or dtype.
      CheckpointError: if the files cannot be written or are there already.
    """
    output = as_path(output)
    sidecar = output.with_name(output.name + ".json")
    check_outputs(output)
    dtype = pretrained.config.dtype if dtype is None else dtype
    if dtype not in DTYPES:
        raise ConfigError(f"dtype '{dtype}' is not one to export; {nearest(dtype, DTYPES)}")
    # Without rematerialisation, which only a backward pass has a use for, and the kernel, which is for one platform.
    model = replace(pretrained, config=pretrained.config.replace(dtype=dtype, remat=False, kernel="xla")).model()
    # A detector's canvas need not be the size that its positions were learned for. Of several, the first.
    size = evaluation_sizes(data_config(pretrained), pretrained.config.input_size)[0]
    canvas = size if pretrained.config.is_detector else None
    exported = export_model(model, platforms=platforms, features=features, canvas=canvas)
    about = describe(pretrained, exported, dtype)
    try:
        # A name that is no UTF-8 keeps its odd bytes as JSON's own escapes, \udce9.
        text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
        atomic_write(sidecar, text.encode(errors="backslashreplace"))
        atomic_write(output, exported.serialize())
    except BaseException as error:
        reason = refusal(error)
        with contextlib.suppress(Exception):
            sidecar.unlink(missing_ok=True)
        if reason is None:
            raise
        raise CheckpointError(f"cannot write {output}: {reason}") from error
    return about


def check_outputs(output: epath.Path) -> None:
    """Raises a CheckpointError unless `output` and its .json can be made."""
    if output.is_dir() or not output.name:
        raise CheckpointError(f"{output} is a folder; the output should be a file in it, as {output}/model.stablehlo")
    for path in (output, output.with_name(output.name + ".json")):
        check_output(path)


def describe(pretrained: Pretrained, exported: jax.export.Exported, dtype: str) -> dict[str, Any]:
    """What the user of an exported file needs to know: how images become its input, and what its output means."""
    data, (images, *sizes) = pretrained.data, exported.in_avals
    # Of a clip every frame is cropped alike; these say which frames it has. Older checkpoints may lack some of them.
    of_clips = ("sampling", "stride", "fps", "frame_side") if images.ndim == 5 else ()

    def about(array) -> dict[str, Any]:
        return {"shape": ["batch", *array.shape[1:]], "dtype": array.dtype.name}

    crop = {
        "eval_crop": data["eval_crop"],
        "crop": "bicubic resize to just cover height / eval_crop by width / eval_crop, then the centre",
    }
    outputs = [about(output) for output in exported.out_avals]
    if data.get("crop") in WHOLE:
        crop = {
            "crop": "resized, in its own shape, to just fit into height by width and, where they are given, short_side "
            "and long_side: bilinearly or, where it shrinks, averaged over pixels; in the upper left, the rest 0",
            **{name: data[name] for name in ("short_side", "long_side") if data.get(name)},
        }
    if sizes:
        crop["sizes"] = about(sizes[0]) | {"values": "(height, width) of each image in that"}
        names = jax.tree.unflatten(exported.out_tree, range(len(outputs)))
        outputs = [{"name": name} | outputs[place] for name, place in names.items()]
    return {
        "model": pretrained.name,
        "checkpoint": pretrained.description,
        "platforms": list(exported.platforms),
        "compute_dtype": dtype,
        "input": {
            **about(images),
            "values": "RGB: (pixel / 255 - mean) / std",
            "mean": list(data["mean"]),
            "std": list(data["std"]),
            **crop,
            **{name: data[name] for name in of_clips if name in data},
        },
        "outputs": outputs,
        "class_names": None if pretrained.class_names is None else list(pretrained.class_names),
        **({} if pretrained.class_ids is None else {"class_ids": list(pretrained.class_ids)}),
    }


def main(argv: list[str] | None = None) -> None:
    """The command. Raises a PosMLPError for a mistake of the user."""
    parser = CommandParser("posmlp_jax.export", __doc__)
    parser.add_argument("--checkpoint", required=True, metavar="NAME_OR_DIR", help=CHECKPOINT_HELP)
    parser.add_argument("--output", required=True, metavar="FILE", help="must not exist; and FILE.json")
    add_selection(parser)
    parser.add_argument("--platforms", default=",".join(PLATFORMS), help="some of %(default)s, with commas between")
    parser.add_argument("--features", action="store_true", help="the stages' maps in place of the logits")
    parser.add_argument("--dtype", help=f"compute type, {' or '.join(DTYPES)}; by default the model's own")
    options = parser.parse_args(argv)
    output = as_path(options.output)
    check_outputs(output)
    pretrained = open_pretrained(options.checkpoint, step=options.step, weights=options.weights)
    about = save_exported(
        pretrained,
        output,
        platforms=[name for name in options.platforms.split(",") if name],
        features=options.features,
        dtype=options.dtype,
    )
    source = about["input"]
    megabytes = file_size(output) / 1e6
    print(f"wrote the {pretrained.choice} to {options.output} ({megabytes:.1f} MB), and {options.output}.json")
    print(f"runs on: {', '.join(about['platforms'])}; computes in {about['compute_dtype']}")
    print(f"input:   float32 {_shape(source)}, RGB, (pixel / 255 − mean) / std")
    more = f", eval_crop {source['eval_crop']}" if "eval_crop" in source else ""
    print(f"         mean {source['mean']}, std {source['std']}{more}")
    if "sizes" in source:
        print(f"         float32 {_shape(source['sizes'])}, the (height, width) of each image in that")
    print(f"output:  {', '.join(map(_described, about['outputs']))}")


def _shape(array: dict[str, Any]) -> str:
    return f"[{', '.join(map(str, array['shape']))}]"


def _described(output: dict[str, Any]) -> str:
    return " ".join(filter(None, (output.get("name"), output["dtype"], _shape(output))))


def run(argv: list[str] | None = None) -> None:
    """Runs `main` as a program."""
    run_program(main, argv)


if __name__ == "__main__":
    run()
