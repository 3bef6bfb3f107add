"""Runs the notebooks of colabs/ from top to bottom and writes them back with their outputs.

    python -m colabs.run                        # all of them
    python -m colabs.run quickstart relations

Each runs in an empty folder, on the CPU, with this clone's package; its first cell of code becomes `first_cell.py`.
What differs from run to run, such as times and paths, is not written, so that only what has changed shows in a commit.
A notebook with an error stays as it was.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.errors import ConfigError, PosMLPError, nearest
from posmlp_jax.paths import as_path
from posmlp_jax.writing import atomic_write

FOLDER = Path(__file__).resolve().parent
FIRST_CELL = FOLDER / "first_cell.py"
# A cell that takes longer has hung.
CELL_SECONDS = 600
# Of a shell, or of tests, that a reader's kernel would not have.
_NOT_PASSED_ON = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "COLUMNS")


class NotebookError(PosMLPError):
    """A notebook whose run ended in an error."""


def notebook_files(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks of these names, or all.

    Raises:
      ConfigError: for a name that there is not.
    """
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no notebook '{name}'; {nearest(name, known)}")
    return [known[name] for name in names or known]


def read_notebook(path: Path) -> NotebookNode:
    """A notebook as it is to be run: without outputs, and with the common first cell of code."""
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    cells[0].source = FIRST_CELL.read_text().rstrip()
    for cell in cells:
        cell.outputs, cell.execution_count = [], None
    return notebook


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that are Python, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def execute(notebook: NotebookNode) -> NotebookNode:
    """Runs all cells, in an empty folder that is gone afterwards, and leaves what is the same in each run.

    Raises:
      NotebookError: at the first cell that fails.
    """
    # Where the user's own settings of IPython are not.
    with tempfile.TemporaryDirectory() as settings, tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
        environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(FOLDER.parent), "IPYTHONDIR": settings}
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            # The kernel warns that others on the machine could listen.
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
            timeout=CELL_SECONDS,
            record_timing=False,
            coalesce_streams=True,
            store_widget_state=False,
        )
        try:
            client.execute(env=environment)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise NotebookError(str(error)) from None
        _leave_what_repeats(notebook, [f"{os.path.realpath(folder)}/", f"{folder}/", f"{FOLDER.parent}/"])
    return notebook


def _leave_what_repeats(notebook: NotebookNode, folders: Sequence[str]) -> None:
    """Takes out of an executed notebook what differs between runs and machines: the kernel's version and folders."""
    notebook.metadata = nbformat.from_dict(
        {
            "colab": {"provenance": []},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in code_cells(notebook):
        for output in cell.outputs:
            for holder, key in _texts(output):
                for folder in folders:
                    holder[key] = holder[key].replace(folder, "")


def _texts(output: NotebookNode) -> Iterator[tuple[dict, str]]:
    """Where the texts of an output are: the dictionary and the key."""
    if "text" in output:
        yield output, "text"
    for kind, value in output.get("data", {}).items():
        if kind.startswith("text/") and isinstance(value, str):
            yield output.data, kind


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Writes a notebook whole or not at all."""
    nbformat.validate(notebook)
    atomic_write(as_path(path), nbformat.writes(notebook).rstrip("\n") + "\n")


def main(argv: list[str] | None = None) -> None:
    """The command. Raises a PosMLPError for a mistake of the user, and for a notebook with an error at its end."""
    parser = CommandParser("colabs.run", __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a notebook in colabs/; by default all")
    failed = []
    for path in notebook_files(parser.parse_args(argv).names):
        start = time.perf_counter()
        try:
            write_notebook(execute(read_notebook(path)), path)
        except NotebookError as error:
            print(error, file=sys.stderr)
            failed.append(path.stem)
        else:
            print(f"{path.stem}: {time.perf_counter() - start:.0f} s, {path.stat().st_size / 1e6:.2f} MB")
    if failed:
        raise NotebookError(f"these ended in an error and were not written: {', '.join(failed)}")


if __name__ == "__main__":
    run_program(main, None)
