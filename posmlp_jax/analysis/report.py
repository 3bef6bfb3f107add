"""Shows what a trained model's relations have learned, as one HTML page that needs no network.

    python -m posmlp_jax.analysis.report --checkpoint=posmlp_digits --output=report.html

It has a section for each figure that the model has something for, and says which others it has not, and why. Stages,
blocks and groups count from 1; rows, columns and frames from 0. The functions in posmlp_jax.analysis draw the same in
notebooks.
"""

import argparse
import re
from collections.abc import Sequence
from typing import Any

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

import jax
import numpy as np
from tqdm import tqdm

from posmlp_jax.analysis.page import render
from posmlp_jax.analysis.sections import SECTIONS, Subject
from posmlp_jax.analysis.units import MissingRelationError, Place
from posmlp_jax.checkpoints import zoo
from posmlp_jax.checkpoints.pretrained import Pretrained, open_pretrained
from posmlp_jax.checkpoints.selection import CHECKPOINT_HELP, add_selection
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data.sources.class_folders import IMAGES, VIDEOS
from posmlp_jax.data.sources.files import FileSource, StrPath, find_files
from posmlp_jax.data.views import EvalViews
from posmlp_jax.errors import BrokenExampleError, CheckpointError, ConfigError, DataError, refusal
from posmlp_jax.models import parameter_count
from posmlp_jax.models.backbone import Backbone
from posmlp_jax.tasks.task import normalize_images
from posmlp_jax.training.saved_config import data_config
from posmlp_jax.writing import check_result, write_result

RELATIONS = {
    "gqpe": "gqpe: a Gaussian of the offset for each group (GQPE, GGQPE)",
    "lrpe": "lrpe: a table of offsets for each group (LRPE, GLRPE)",
    "lrpe_m": "lrpe_m: a dense matrix and a table of offsets (LRPE-M)",
    "dense": "dense: a matrix (Token FC, SGU)",
}
# As Table 6 and Figure 4 have them.
COVARIANCES = {"psd": "ΓΓᵀ", "free": "Γ", "isotropic": "αI"}


def read_input(pretrained: Pretrained, path: StrPath) -> np.ndarray:
    """An image or video file as evaluation would see it, normalised: float32 `[1, *input_size, 3]`.

    Args:
      pretrained: its config says how the file is cropped, sampled and normalised.
      path: one file.

    Raises:
      DataError: if it is not there, cannot be read or decoded.
    """
    kind = VIDEOS if pretrained.config.kind == "video" else IMAGES
    files = find_files(path, kind)
    if len(files) > 1:
        raise DataError(f"{path} stands for {len(files)} {kind.noun}; name one")
    data = data_config(pretrained)
    # The relations are those of the model's own size, whatever canvases it saw: a whole image is laid into that.
    data.update(short_side=0, long_side=0)
    pixels = np.zeros((*pretrained.config.input_size, 3), np.uint8)
    try:
        EvalViews(FileSource(files, kind), data, [pretrained.config.input_size]).fill(pixels, 0)
    except BrokenExampleError as error:
        raise DataError(f"cannot read {path}: {error.reason}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {refusal(error)}") from error
    return np.asarray(normalize_images(pixels[None], data.mean, data.std))


def write_report(
    pretrained: Pretrained, output: StrPath, *, compare: Sequence[Pretrained] = (), **options: Any
) -> None:
    """Writes the page.

    Args:
      pretrained: from `open_pretrained`.
      output: the HTML file, which is written over.
      compare: models to be shown beside it: Figure 4 with other covariances, Figure 1 d–e with SGU.
      **options: `pixels`, from `read_input`, and other fields of `Subject`.

    Raises:
      ConfigError: for a stage, block, group, query or place that there is not, or a file that cannot be written.
      CheckpointError: when the weights cannot be loaded, or are not all numbers.
    """
    model, *compared = (_checked_model(each) for each in (pretrained, *compare))
    others = _named([pretrained, *compare], [model, *compared]) if compare else {}
    subject = Subject(model, others, **options)
    sections, missing = {}, {}
    # Receptive fields of a large model take minutes.
    for title, make in tqdm(SECTIONS.items(), unit=" sections", delay=2, disable=None, leave=False, dynamic_ncols=True):
        try:
            sections[title] = make(subject)
        except MissingRelationError as error:
            missing[title] = str(error)
    page = render(f"What {_name(pretrained)} has learned", describe(pretrained, model), sections, missing)
    write_result(output, page)


def describe(pretrained: Pretrained, model: Backbone) -> dict[str, str]:
    """What the head of the page says."""
    config = pretrained.config
    relation = RELATIONS[config.relation]
    if config.relation == "gqpe":
        centers = "Δ learned" if config.learn_center else "Δ = 0"
        relation += f"; Σ̃ = {COVARIANCES[config.covariance]}, {centers}"
    return {
        "model": f"{type(model).__name__}, {parameter_count(model):,} parameters ({pretrained.name} or its variant)",
        "relation": relation,
        "input": f"{' × '.join(map(str, config.input_size))} ({config.kind})",
        "blocks": " + ".join(str(len(stage.blocks)) for stage in model.stages),
        "weights": pretrained.choice,
    }


def _checked_model(pretrained: Pretrained) -> Backbone:
    """The model; relations of what is not a number have no eigenvalues, nor colours."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pretrained.weights)):
        raise CheckpointError(f"the {pretrained.description} are not all numbers; take another --step")
    return pretrained.model()


def _named(pretrained: Sequence[Pretrained], models: Sequence[Backbone]) -> dict[str, Backbone]:
    """Models by what tells them apart: their covariances or relations or, where those do not, their names too."""
    configs = [each.config for each in pretrained]
    names = [config.relation for config in configs]
    if set(names) == {"gqpe"}:
        names = [COVARIANCES[config.covariance] for config in configs]
    if len(set(names)) < len(names):
        names = [f"{_name(each)}, {name}" for each, name in zip(pretrained, names, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{number}: {name}" for number, name in enumerate(names, start=1)]
    return dict(zip(names, models, strict=True))


def _name(pretrained: Pretrained) -> str:
    """The zoo's name of a model, or its folder's."""
    return zoo.name_of(pretrained.workdir) or pretrained.workdir.name


def _place(text: str) -> Place:
    """A place from the command line, '7,7' or '0,7,7'."""
    if not re.fullmatch(r"\d+(,\d+){1,2}", text):
        raise argparse.ArgumentTypeError(f"'{text}' should be ROW,COLUMN or FRAME,ROW,COLUMN, from 0")
    return tuple(map(int, text.split(",")))


def main(argv: list[str] | None = None) -> None:
    """The command. Raises a PosMLPError for a mistake of the user."""
    parser = CommandParser("posmlp_jax.analysis.report", __doc__)
    parser.add_argument("--checkpoint", required=True, metavar="NAME_OR_DIR", help=CHECKPOINT_HELP)
    parser.add_argument("--output", default="report.html", metavar="FILE", help="the page (report.html)")
    add_selection(parser)
    parser.add_argument(
        "--compare", nargs="+", default=[], metavar="NAME_OR_DIR", help="models to be shown beside it, as Figure 4 does"
    )
    parser.add_argument("--image", metavar="FILE", help="a picture: what feeds a place of it")
    parser.add_argument("--video", metavar="FILE", help="the same, for a model of clips")
    parser.add_argument(
        "--stage", type=int, metavar="N", help="maps, parts, receptive fields, mixing: of this alone (all)"
    )
    parser.add_argument(
        "--block", type=int, metavar="N", help="maps and mixing: of this block of the stage alone (all)"
    )
    parser.add_argument("--group", type=int, metavar="N", help="of LRPE-M's parts (1)")
    parser.add_argument(
        "--queries",
        nargs="+",
        type=_place,
        default=[],
        metavar="ROW,COLUMN",
        help="tokens in the window of --stage or, without it, of the stage with the most blocks (each window's middle)",
    )
    parser.add_argument(
        "--place", type=_place, metavar="ROW,COLUMN", help="on that stage's map: what feeds it (middle)"
    )
    options = parser.parse_args(argv)
    check_result(options.output, filter(None, (options.image, options.video)))
    pretrained = open_pretrained(options.checkpoint, step=options.step, weights=options.weights)
    compare = [open_pretrained(each) for each in options.compare]
    pixels = _pixels(pretrained, options.image, options.video)
    if options.group is not None and pretrained.config.relation != "lrpe_m":
        raise ConfigError(f"--group is of LRPE-M's parts, and the model's relation is '{pretrained.config.relation}'")
    print(f"using the {pretrained.choice}")
    write_report(
        pretrained,
        options.output,
        compare=compare,
        pixels=pixels,
        stage=options.stage,
        block=options.block,
        group=options.group,
        queries=options.queries,
        place=options.place,
    )
    print(f"wrote {options.output}")


def _pixels(pretrained: Pretrained, image: str | None, video: str | None) -> np.ndarray | None:
    """The one input that the command line gives, of the kind that the model takes."""
    given = {"image": image, "video": video}
    kind = pretrained.config.kind
    (other,) = given.keys() - {kind}
    if given[other] is not None:
        raise ConfigError(f"--{other} is given, and the model takes {kind}s: give --{kind}=FILE")
    return None if given[kind] is None else read_input(pretrained, given[kind])


def run(argv: list[str] | None = None) -> None:
    """Runs `main` as a program."""
    run_program(main, argv)


if __name__ == "__main__":
    run()
