"""Names what is in images or videos, and finds where: `python -m posmlp_jax.predict --checkpoint=DIR FILES…`.

FILES are images or, for a model of clips, videos: files, folders (with all their sub-folders) and patterns
('photos/**/*.jpg'). The most probable classes of each, or the objects that a detector finds in it, go to stdout, what
cannot be read to stderr. From Python, `posmlp_jax.predict.predict` does the same.

Exit codes: 0 done; 1 some files could not be read, the others are predicted; 2 a mistake that the message explains;
130 stopped from the keyboard; 141 whoever read the output has gone (`| head`).
"""

import argparse
import contextlib
import json
import shutil
import sys
from collections.abc import Sequence

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

from tqdm import tqdm

from posmlp_jax.checkpoints.pretrained import Pretrained, open_pretrained
from posmlp_jax.checkpoints.selection import CHECKPOINT_HELP, add_selection
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data.sources.files import find_files
from posmlp_jax.errors import ConfigError, nearest
from posmlp_jax.predict.drawn import DrawnFiles
from posmlp_jax.predict.loading import takes
from posmlp_jax.predict.outputs import CocoFile, GridPicture, Output
from posmlp_jax.predict.picture import MOST_FILES
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
    arguments = _parser().parse_intermixed_args(argv)
    if arguments.output not in OUTPUTS:
        raise ConfigError(f"unknown output '{arguments.output}'; {nearest(arguments.output, OUTPUTS)}")
    pretrained = open_pretrained(arguments.checkpoint, step=arguments.step, weights=arguments.weights)
    kind, task = takes(pretrained), find_task(pretrained.task)
    files = find_files(arguments.files, kind)
    with contextlib.ExitStack() as stack:
        outputs = [stack.enter_context(contextlib.closing(each)) for each in _outputs(arguments, pretrained, files)]
        predictions = predict(
            pretrained,
            files,
            top_k=arguments.top_k,
            threshold=arguments.threshold,
            batch_size=arguments.batch_size,
            clips=arguments.clips,
            crops=arguments.crops,
        )
        stack.enter_context(contextlib.closing(predictions))
        _say(f"using the {pretrained.choice}")
        if arguments.output == "json":
            show = to_json
        else:
            show = task.prediction_table(pretrained, files, shutil.get_terminal_size().columns)
        # Predictions that scroll through the terminal show by themselves how far it is. `None`: only on a terminal.
        hidden = True if sys.stdout.isatty() else None
        broken = 0
        with tqdm(
            total=len(files), unit=f" {kind.noun}", delay=2, disable=hidden, leave=False, dynamic_ncols=True
        ) as bar:
            for prediction in predictions:
                file = printable(prediction.file)
                if prediction.error is None:
                    print(show(prediction))
                    for each in outputs:
                        each.add(prediction)
                else:
                    broken += 1
                    bar.clear()
                    _say(f"cannot read {file}: {prediction.error}")
                if prediction.replaced:
                    bar.clear()
                    looked_at = sum(map(len, prediction.frames))
                    _say(
                        f"damaged: {prediction.replaced} of {looked_at} frames of {file} cannot be decoded, and the "
                        "last good ones before them are used"
                    )
                bar.update()
        for each in outputs:
            for line in each.finish():
                _say(line)
            broken += each.failed
    if broken:
        _say(f"{broken} of {len(files)} {kind.noun} could not be read")
    return int(broken > 0)


def _outputs(arguments: argparse.Namespace, pretrained: Pretrained, files: Sequence[str]) -> list[Output]:
    """The files that the command line asks for."""
    found = []
    if arguments.picture is not None:
        found.append(GridPicture(arguments.picture, pretrained, arguments.crops, files))
    if arguments.drawn is None and arguments.coco is None:
        return found
    # Of what has no place in an image there are none.
    annotations = find_task(pretrained.task).annotations(pretrained)
    if arguments.drawn is not None:
        others = [each for each in (arguments.picture, arguments.coco) if each is not None]
        found.append(DrawnFiles(arguments.drawn, files, others))
    if arguments.coco is not None:
        found.append(CocoFile(arguments.coco, annotations, files))
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _parser() -> CommandParser:
    about, exit_codes = __doc__.rsplit("\n\n", 1)
    parser = CommandParser("posmlp_jax.predict", about, epilog=exit_codes)
    parser.add_argument("files", nargs="+", metavar="FILES", help="files, folders or quoted patterns; each file once")
    parser.add_argument("--checkpoint", required=True, metavar="NAME_OR_DIR", help=CHECKPOINT_HELP)
    add_selection(parser)
    parser.add_argument(
        "--top-k", type=int, metavar="K", help="classes a file, at most all (5); of a detector objects a file (all)"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="the least score of a detector's objects, wherever they go: table, JSON, pictures, COCO (0.3); 0: all "
        "that it finds, as an evaluation takes them",
    )
    parser.add_argument(
        "--output",
        default="table",
        help="table (the default) or json: JSON lines, for each file that could be read a line "
        '{"file": …, "predictions": [{"class": …, "index": …, "probability": …}, …]}, the most probable class first, '
        'and of videos "frames": [[…], …], the numbers of those that were looked at in each clip, and "replaced", how '
        'many of them stand for others that cannot be decoded; of a detector {"file": …, "width": …, "height": …, '
        '"objects": [{"class": …, "index": …, "category_id": …, "score": …, "box": [x1, y1, x2, y2]}, …]}, the '
        "highest score first, boxes in the pixels of the image as it is seen upright, and with masks "
        '"segmentation", run-length encoded as COCO has it',
    )
    sizes = " or ".join(f"{size} {kind.noun}" for kind, size in BATCH_SIZES.items())
    parser.add_argument(
        "--batch_size", type=int, metavar="N", help=f"files computed at a time ({sizes}, fewer large images)"
    )
    parser.add_argument("--clips", type=int, metavar="K", help="views in time of each video (as the run tests)")
    parser.add_argument("--crops", type=int, metavar="K", help="views in space of each file, 1 or 3 (as the run tests)")
    parser.add_argument(
        "--picture",
        metavar="FILE",
        help=f"draws the first {MOST_FILES} files that can be read: what was looked at, the crops, the classes or the "
        "objects",
    )
    parser.add_argument(
        "--drawn",
        metavar="FOLDER",
        help="of a detector: draws the objects into each image (small ones enlarged), as files of the same names in "
        "the same folders; none may be there yet",
    )
    parser.add_argument(
        "--coco",
        metavar="FILE.json",
        help="of a detector: all objects as a data set in COCO's JSON, whose annotations have scores; must not be "
        "there yet. Images' ids are the numbers that files are called by, if all are, else 1, 2, 3, …",
    )
    return parser


def run(argv: list[str] | None = None) -> None:
    """Runs `main` as a program: its exit codes are in the module's docstring."""
    run_program(main, argv)


if __name__ == "__main__":
    run()
