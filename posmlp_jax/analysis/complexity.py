"""What models cost: `python -m posmlp_jax.analysis.complexity [--tables]`.

Parameters, and multiply-accumulates of convolutions and matrix products for one image or clip, which the papers call
FLOPs: of the models by name or, with `--tables`, of every row of the papers' tables beside what is printed there.
"""

import functools
from collections.abc import Iterator, Sequence

if __name__ == "__main__":
    from posmlp_jax.command_line import begin_program

    begin_program()

from rich.table import Table

from posmlp_jax.analysis.paper_tables import DETECTORS, OTHERS, ROWS, Row
from posmlp_jax.command_line import CommandParser, run_program
from posmlp_jax.models import list_models
from posmlp_jax.models.cost import model_cost
from posmlp_jax.terminal import as_text


@functools.cache
def _cost(model: str, overrides: tuple) -> tuple[int, int]:
    """Rows that are the same network share it."""
    return model_cost(model, **dict(overrides))


def row_cost(row: Row) -> tuple[int, int]:
    """Parameters and multiply-accumulates of a row's network."""
    return _cost(row.model, tuple(row.overrides.items()))


def rounds_to(value: float, printed: str) -> bool:
    """Whether a value, with the digits of what is printed, is that."""
    return f"{value:.{len(printed.partition('.')[2])}f}" == printed


def differing(row: Row) -> Iterator[str]:
    """'parameters' and 'gmacs', where what is counted does not round to what the row has printed."""
    parameters, macs = row_cost(row)
    for name, value in (("parameters", parameters / 1e6), ("gmacs", macs / 1e9)):
        printed = getattr(row, name)
        if printed is not None and not rounds_to(value, printed):
            yield name


def format_models(names: Sequence[str]) -> str:
    """The cost of models as lines of text."""
    table = _table("model", "parameters", "GMACs")
    for name in names:
        parameters, macs = model_cost(name)
        table.add_row(name, f"{parameters:,}", f"{macs / 1e9:.2f}")
    return as_text(table, whole=True)


def format_tables(rows: Sequence[Row]) -> str:
    """Rows of the papers' tables as lines of text: what is counted beside what is printed, and why they differ."""
    table = _table("", "parameters", "printed", "GMACs", "printed", "the code's", "")
    notes = {}
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        parameters, macs = row_cost(row)
        mark = ""
        if any(differing(row)):
            mark = notes.setdefault(row.difference, f"({chr(ord('a') + len(notes))})")
        table.add_row(
            row.name,
            f"{parameters:,}",
            row.parameters and f"{row.parameters}M",
            f"{macs / 1e9:.2f}",
            row.gmacs and f"{row.gmacs}G",
            row.code_gmacs,
            mark,
            end_section=following is not None and following.table != row.table,
        )
    return "\n".join([as_text(table, whole=True), "", *(f"{mark} {note}." for note, mark in notes.items())])


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def main(arguments: list[str] | None = None) -> None:
    """Prints what the command line asks for."""
    parser = CommandParser("posmlp_jax.analysis.complexity", __doc__)
    parser.add_argument("--tables", action="store_true", help="the rows of the papers' tables, beside what they print")
    options = parser.parse_args(arguments)
    if not options.tables:
        print(format_models(list_models()))
        return
    print(format_tables([*ROWS, *DETECTORS, *OTHERS]))
    print("\nThe code's: measured on what the authors published. The video paper's own tables are not at hand.")


if __name__ == "__main__":
    run_program(main, None)
