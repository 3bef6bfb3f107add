"""Tables as people keep them: spreadsheets (xlsx, xls, ods) and CSV files, with text above their header or without."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from posmlp_jax.data.prepare.lists import read_text
from posmlp_jax.errors import DataError

SUFFIXES = (".xlsx", ".xlsm", ".xls", ".ods", ".csv")


class Row(NamedTuple):
    """A row of a table below its header.

    Attributes:
      cells: by the column's name, as text without spaces around it; a whole number has no decimal point.
      where: the file, the sheet and the row, for messages.
    """

    cells: Mapping[str, str]
    where: str


def find_table(folder: Path, pattern: str) -> Path:
    """The one table in `folder` whose name, in lower case, has the regular expression `pattern`, or the one that is.

    Raises:
      DataError: when there is none, or when it cannot be told which it is.
    """
    tables = sorted(
        file
        for file in folder.iterdir()
        # Office's locks begin with '~$'.
        if file.suffix.lower() in SUFFIXES and file.name[0] not in "~." and file.name.lower() not in ("crops.csv",)
    )
    named = [file for file in tables if re.search(pattern, file.name.lower())]
    found = named or tables
    if not found:
        raise DataError(f"{folder} has no table ({', '.join(SUFFIXES)})")
    if len(found) > 1:
        raise DataError(
            f"{folder} has {len(found)} tables that may be meant, {', '.join(file.name for file in found[:3])}: keep "
            "one of them there"
        )
    return found[0]


def read_table(file: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a table, from the sheet and below the row that have all the columns.

    Columns are found by their names, whatever their case, spaces and underscores, and may be in any order and beside
    others. Rows in which all of them are empty are passed over.

    Args:
      file: a spreadsheet or a CSV file.
      columns: the names.

    Raises:
      DataError: when the file is none, or no sheet has such a row; the message says what is missing in the best one.
    """
    wanted = {_plain(name): name for name in columns}
    nearest: tuple[int, str] = (-1, "")
    sheets = _read_csv(file) if file.suffix.lower() == ".csv" else _read_sheets(file)
    for sheet, rows in sheets:
        for number, row in enumerate(rows):
            names = [_plain(cell) for cell in row]
            places = {wanted[name]: place for place, name in reversed([*enumerate(names)]) if name in wanted}
            if len(places) == len(wanted):
                return _below(rows, number, places, f"{file}{sheet}")
            if len(places) > nearest[0]:
                missing = ", ".join(f"'{name}'" for name in columns if name not in places)
                nearest = len(places), f"row {number + 1}{sheet} is nearest, without {missing}"
    detail = nearest[1] if nearest[0] > 0 else "no row has any of them"
    raise DataError(f"{file} has no row with the columns {', '.join(columns)}: {detail}")


def whole_number(text: str) -> int | None:
    """A cell's whole number, or None where there is none, as of '' and '/'."""
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _below(rows: Sequence[Sequence[Any]], header: int, places: Mapping[str, int], where: str) -> list[Row]:
    found = []
    for number, row in enumerate(rows[header + 1 :], header + 2):
        cells = {name: _text(row[place]) if place < len(row) else "" for name, place in places.items()}
        if any(cells.values()):
            found.append(Row(cells, f"{where}, row {number}"))
    return found


def _read_csv(file: Path) -> list[tuple[str, list[list[str]]]]:
    text = read_text(file)
    line = max(text.splitlines()[:50], key=len, default="")
    delimiter = max(",;\t", key=line.count)
    try:
        return [("", list(csv.reader(io.StringIO(text), delimiter=delimiter)))]
    except csv.Error as error:
        raise DataError(f"{file} is no CSV file: {error}") from error


def _read_sheets(file: Path) -> list[tuple[str, list[list[Any]]]]:
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        workbook = CalamineWorkbook.from_path(str(file))
        return [
            (f", sheet '{name}'", workbook.get_sheet_by_name(name).to_python(skip_empty_area=False))
            for name in workbook.sheet_names
        ]
    except (CalamineError, OSError) as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise DataError(f"{file} cannot be read as a spreadsheet ({reason}): save it anew as .xlsx or .csv") from error


def _plain(cell: Any) -> str:
    """A column's name without what differs from table to table."""
    return re.sub(r"[\s_]+", "", str(cell)).lower()


def _text(cell: Any) -> str:
    text = str(cell).strip()
    # Spreadsheets have all numbers as such, and so have CSV files that were made by programs.
    return re.sub(r"\.0+", "", text) if re.fullmatch(r"-?\d+\.0+", text) else text
