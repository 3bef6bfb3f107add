import fake_faces
import pytest

from posmlp_jax.data.prepare.spreadsheets import find_table, read_table, whole_number
from posmlp_jax.errors import DataError

COLUMNS = ("Subject", "Onset Frame", "Emotion")
ROWS = [["Onset_Frame", "subject", "", "EMOTION "], [46.0, "006", "x", "happiness"], [7, 6, "", "a,b"]]
EXPECTED = [
    {"Subject": "006", "Onset Frame": "46", "Emotion": "happiness"},
    {"Subject": "6", "Onset Frame": "7", "Emotion": "a,b"},
]


@pytest.mark.parametrize("text", [[], [["A title"], [], ["subject", "of this"]]], ids=["bare", "text above"])
@pytest.mark.parametrize("kind", ["xlsx", "csv", "semicolon", "tab", "second sheet"])
def test_tables_of_all_kinds(tmp_path, text, kind):
    file = tmp_path / ("t.xlsx" if kind in ("xlsx", "second sheet") else "t.csv")
    rows = [*text, *ROWS, ["", "", "no cell of the table", ""]]
    if kind == "xlsx":
        fake_faces.write_xlsx(file, {"one": rows})
    elif kind == "second sheet":
        fake_faces.write_xlsx(file, {"Read me": [["Subject"], [1]], "one": rows})
    else:
        fake_faces.write_csv(file, rows, {"csv": ",", "semicolon": ";", "tab": "\t"}[kind])
    found = read_table(file, COLUMNS)
    assert [row.cells for row in found] == EXPECTED
    sheet = ", sheet 'one'" if file.suffix == ".xlsx" else ""
    assert [row.where for row in found] == [f"{file}{sheet}, row {len(text) + number}" for number in (2, 3)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xlsx", b"no archive", "t.xlsx cannot be read as a spreadsheet"),
        ("t.xls", b"\xd0\xcf\x11\xe0 no table", "t.xls cannot be read as a spreadsheet"),
        ("t.xlsx", b"", "t.xlsx cannot be read as a spreadsheet"),
        ("t.csv", b"\xff\xfe\x00", "t.csv is no text file in UTF-8"),
        ("t.csv", b"", "no row with the columns Subject, Onset Frame, Emotion: no row has any of them"),
        ("t.csv", b"a,b\n1,2\n", "no row has any of them"),
        ("t.csv", b"text\nsubject,emotion\n1,2\n", "row 2 is nearest, without 'Onset Frame'"),
    ],
)
def test_what_is_no_table(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / name, COLUMNS)


def test_the_table_of_a_folder(tmp_path):
    with pytest.raises(DataError, match="has no table"):
        find_table(tmp_path, "codes")
    for name in ("~$codes.xlsx", "crops.csv", "b.csv"):
        (tmp_path / name).touch()
    assert find_table(tmp_path, "codes").name == "b.csv"
    (tmp_path / "c.xls").touch()
    with pytest.raises(DataError, match=r"2 tables that may be meant, b.csv, c.xls: keep one"):
        find_table(tmp_path, "codes")
    (tmp_path / "My Codes.xlsx").touch()
    assert find_table(tmp_path, "codes").name == "My Codes.xlsx"


def test_whole_numbers():
    assert [whole_number(text) for text in ("46", "-1", "", "/", "4.5", "x")] == [46, -1, None, None, None, None]
