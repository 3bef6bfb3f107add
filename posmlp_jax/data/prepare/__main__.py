"""Prepares a data set for training, without TensorFlow: `python -m posmlp_jax.data.prepare NAME --source=PATH`.

A run that was stopped goes on where it was when the same command is given again.
"""

import textwrap

from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.data.prepare.datasets import BUILDERS
from posmlp_jax.data.prepare.left_out import LIST, count_left_out
from posmlp_jax.data.prepare.prepare import MAX_BROKEN, prepare
from posmlp_jax.data.prepare.shards import says_its_source
from posmlp_jax.data.sources.tfds_layout import data_folder, find_version


def main(argv: list[str] | None = None) -> None:
    """The command. Raises a DataError for a mistake of the user."""
    parser = CommandParser("posmlp_jax.data.prepare", __doc__, epilog=_data_sets())
    parser.add_argument("dataset", metavar="NAME", help="one of the data sets below")
    parser.add_argument("--source", help="the file or folder that holds the images or videos")
    parser.add_argument("--data_dir", default="", help="where to put it (TFDS_DATA_DIR, else ~/tensorflow_datasets)")
    parser.add_argument("--name", help="the name to prepare it under, which a folder of your own needs")
    parser.add_argument(
        "--max_broken", type=float, default=MAX_BROKEN, help="the share of videos that may be missing or broken"
    )
    arguments = parser.parse_args(argv)
    before = find_version(data_folder(arguments.data_dir) / (arguments.name or arguments.dataset))
    folder = prepare(
        arguments.dataset, arguments.source, arguments.data_dir, arguments.name, arguments.max_broken, report=print
    )
    count = count_left_out(folder)
    lacking = f"; {count} videos could not be read and are left out, see {folder / LIST}" if count else ""
    unknown = "" if says_its_source(folder) else "; it does not say from what, so --source was not compared"
    print(f"{'already prepared' if before else 'prepared'}: {folder}{lacking}{unknown}")


def _data_sets() -> str:
    """Each data set's name, and under it what --source has to be."""
    wrapped = textwrap.TextWrapper(100, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False)
    sources = []
    for name, builder in BUILDERS.items():
        source = builder.official if builder.source else f"none: {builder.official}"
        sources.append(f"  {name}\n{wrapped.fill(source)}")
    return "\n".join(["data sets, and what --source is of each:", *sources])


def run(argv: list[str] | None = None) -> None:
    """Runs `main` as a program."""
    run_program(main, argv, "the same command goes on from here")


if __name__ == "__main__":
    run()
