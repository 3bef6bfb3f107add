"""Names what is in images or videos: `python -m posmlp_jax.predict --checkpoint=DIR FILES…`.

FILES are images or, for a model of clips, videos: files, folders (with all their sub-folders) and patterns
('photos/**/*.jpg'). The most probable classes of each go to stdout, what cannot be read to stderr. From Python,
`posmlp_jax.predict.predict` does the same.

Exit codes: 0 done; 1 some files could not be read, the others are predicted; 2 a mistake that the message explains;
130 stopped from the keyboard; 141 whoever read the output has gone (`| head`).
"""

import contextlib
import json
import shutil
import sys
from functools import partial

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

from tqdm import tqdm

from posmlp_jax.checkpoints.pretrained import open_pretrained
from posmlp_jax.checkpoints.selection import CHECKPOINT_HELP, add_selection
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data.sources.files import find_files
from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.figures import check_figure_path, save_figure
from posmlp_jax.predict.loading import takes
from posmlp_jax.predict.picture import MOST_FILES, draw_predictions
from posmlp_jax.predict.predicting import BATCH_SIZES, predict
from posmlp_jax.tasks import find_task
from posmlp_jax.tasks.predictor import FilePrediction
from posmlp_jax.terminal import printable

OUTPUTS = ("table", "json")


def to_json(prediction: FilePrediction) -> str:
    """A prediction as one line of JSON, in ASCII; of a video with the frames that were looked at."""
    video = {"frames": prediction.frames, "replaced": prediction.replaced} if prediction.frames else {}
    return json.dumps({"file": prediction.file, **prediction.to_json(), **video})


def main(argv: list[str] | None = None) -> int:
    """The command. Returns its exit code, 0 or 1; raises a PosMLPError for a mistake of the user."""
    about, exit_codes = __doc__.rsplit("\n\n", 1)
    parser = CommandParser("posmlp_jax.predict", about, epilog=exit_codes)
    parser.add_argument("files", nargs="+", metavar="FILES", help="files, folders or quoted patterns; each file once")
    parser.add_argument("--checkpoint", required=True, metavar="NAME_OR_DIR", help=CHECKPOINT_HELP)
    add_selection(parser)
    parser.add_argument("--top-k", type=int, default=5, metavar="K", help="classes a file, at most all (5)")
    parser.add_argument(
        "--output",
        default="table",
        help="table (the default) or json: JSON lines, for each file that could be read a line "
        '{"file": …, "predictions": [{"class": …, "index": …, "probability": …}, …]}, the most probable class first, '
        'and of videos "frames": [[…], …], the numbers of those that were looked at in each clip, and "replaced", how '
        "many of them stand for others that cannot be decoded",
    )
    sizes = " or ".join(f"{size} {kind.noun}" for kind, size in BATCH_SIZES.items())
    parser.add_argument("--batch_size", type=int, metavar="N", help=f"files computed at a time ({sizes})")
    parser.add_argument("--clips", type=int, metavar="K", help="views in time of each video (as the run tests)")
    parser.add_argument("--crops", type=int, metavar="K", help="views in space of each file, 1 or 3 (as the run tests)")
    parser.add_argument(
        "--picture",
        metavar="FILE",
        help=f"draws the first {MOST_FILES} files that can be read: what was looked at, the crops, the classes",
    )
    arguments = parser.parse_intermixed_args(argv)
    if arguments.output not in OUTPUTS:
        raise ConfigError(f"unknown output '{arguments.output}'; {nearest(arguments.output, OUTPUTS)}")
    pretrained = open_pretrained(arguments.checkpoint, step=arguments.step, weights=arguments.weights)
    kind = takes(pretrained)
    files = find_files(arguments.files, kind)
    if arguments.picture is not None:
        check_figure_path(arguments.picture, files)
    predictions = predict(
        pretrained,
        files,
        top_k=arguments.top_k,
        batch_size=arguments.batch_size,
        clips=arguments.clips,
        crops=arguments.crops,
    )
    print(f"using the {pretrained.choice}", file=sys.stderr)
    if arguments.output == "json":
        show = to_json
    else:
        columns = shutil.get_terminal_size().columns
        show = find_task(pretrained.task).prediction_table(pretrained, files, columns)
    broken, drawn = 0, []
    # Predictions that scroll through the terminal show by themselves how far it is. `None`: only on a terminal.
    hidden = True if sys.stdout.isatty() else None
    with (
        contextlib.closing(predictions),
        tqdm(total=len(files), unit=f" {kind.noun}", delay=2, disable=hidden, leave=False, dynamic_ncols=True) as bar,
    ):
        for prediction in predictions:
            file = printable(prediction.file)
            if prediction.error is None:
                print(show(prediction))
                if arguments.picture is not None and len(drawn) < MOST_FILES:
                    drawn.append(prediction)
            else:
                broken += 1
                bar.clear()
                print(f"cannot read {file}: {prediction.error}", file=sys.stderr)
            if prediction.replaced:
                bar.clear()
                looked_at = sum(map(len, prediction.frames))
                print(
                    f"damaged: {prediction.replaced} of {looked_at} frames of {file} cannot be decoded, and the last "
                    "good ones before them are used",
                    file=sys.stderr,
                )
            bar.update()
    if drawn:
        figure = draw_predictions(pretrained, drawn, crops=arguments.crops)
        say = partial(print, file=sys.stderr)
        save_figure(figure, arguments.picture, say)
        if len(figure.axes) < len(files) - broken:
            say(f"it shows the first {len(figure.axes)} of {len(files) - broken} {kind.noun}")
    if broken:
        print(f"{broken} of {len(files)} {kind.noun} could not be read", file=sys.stderr)
    return int(broken > 0)


def run(argv: list[str] | None = None) -> None:
    """Runs `main` as a program: its exit codes are in the module's docstring."""
    run_program(main, argv)


if __name__ == "__main__":
    run()
