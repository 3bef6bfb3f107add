"""Published checkpoints into ours, and back, from the command line.

    python -m posmlp_jax.convert --source=posmlp_t.pth.tar --model=posmlp_t --output=runs/published
    python -m posmlp_jax.convert --source=runs/mine --output=mine.npz

The first writes a checkpoint that `from_pretrained`, `main.py` and every other command of this package load; what the
shapes show of the architecture goes before the model's own fields, and `--override` before both. The second writes a
trained model under the published names, as .pth, .npz or .safetensors.
"""

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

from posmlp_jax.checkpoints.folders import folder_of
from posmlp_jax.checkpoints.selection import CHECKPOINT_HELP, STEP_HELP, WEIGHTS_HELP
from posmlp_jax.command_line import CommandParser, field_value, run_program
from posmlp_jax.convert.checkpoint import CHANNELS, Converted, convert_checkpoint, export_checkpoint
from posmlp_jax.convert.files import SUFFIXES
from posmlp_jax.errors import CheckpointError, ConfigError
from posmlp_jax.models import list_models, parameter_count
from posmlp_jax.paths import as_path

# Of Something-Something, v1 and v2 alike.
_CLASSES = 174


def main(argv: list[str] | None = None) -> None:
    """The command. Raises a PosMLPError for a mistake of the user."""
    parser = CommandParser("posmlp_jax.convert", __doc__)
    parser.add_argument(
        "--source", required=True, help=f"a file ({', '.join(SUFFIXES)}); or, to export, {CHECKPOINT_HELP}"
    )
    parser.add_argument("--output", required=True, help="the folder to write; to export, the file")
    parser.add_argument("--model", help=f"what the file is of: {', '.join(list_models())}")
    parser.add_argument("--step", help=f"to export: {STEP_HELP}")
    parser.add_argument("--weights", default="best", help=f"{WEIGHTS_HELP}; of a file, best is ema where there is one")
    parser.add_argument(
        "--override", action="append", default=[], metavar="FIELD=VALUE", help="a model field, as covariance=free"
    )
    parser.add_argument("--class_names", help="a text file with a name a line, or imagenet2012 for its synsets")
    parser.add_argument(
        "--channels", help=f"the order that the file's network takes, {' or '.join(CHANNELS)} (Something-Something's)"
    )
    arguments = parser.parse_args(argv)
    channels = arguments.channels or "rgb"
    source, output = folder_of(arguments.source), as_path(arguments.output)
    if source.is_dir():
        if arguments.model or arguments.override or arguments.class_names:
            raise ConfigError(f"{source} is a checkpoint of ours, which knows its model: leave the other options out")
        step = arguments.step or "latest"
        exported = export_checkpoint(source, output, step=step, weights=arguments.weights, channels=channels)
        print(f"wrote the {exported} to {arguments.output}, under the published names")
        return
    if not source.exists():
        raise CheckpointError(f"there is no file or folder {source}")
    if arguments.step:
        raise ConfigError(f"{source} is a file, and --step chooses among the checkpoints of a run's folder")
    if arguments.model is None:
        raise ConfigError(f"which model is {source} of? --model=posmlp_t, or another of {', '.join(list_models())}")
    converted = convert_checkpoint(
        source,
        arguments.model,
        output,
        weights=arguments.weights,
        overrides=dict(map(field_value, arguments.override)),
        class_names=_read_class_names(arguments.class_names),
        channels=channels,
    )
    shown = ", ".join(f"{field}={value}" for field, value in converted.inferred.items())
    print(
        f"read {converted.group or 'the parameters'} of {arguments.source}"
        + (f"; its shapes show {shown}" if shown else "")
    )
    print(f"wrote {arguments.model} ({parameter_count(converted.model) / 1e6:.2f} M parameters) to {arguments.output}")
    if arguments.channels is None and _may_take_blue_first(converted):
        print(
            "note: if this was trained on Something-Something by the published code, it takes blue first, and what it "
            "says of red, green, blue is wrong: convert it with --channels=bgr"
        )


def _may_take_blue_first(converted: Converted) -> bool:
    config = converted.model.config
    return config.kind == "video" and config.num_classes == _CLASSES


def _read_class_names(source: str | None) -> list[str] | None:
    if source is None:
        return None
    if source == "imagenet2012":
        from posmlp_jax.data.prepare.datasets.imagenet import synsets

        return synsets()
    try:
        return as_path(source).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read the class names in {source}: {error}") from error


def run(argv: list[str] | None = None) -> None:
    """Runs `main` as a program."""
    run_program(main, argv)


if __name__ == "__main__":
    run()
