"""Micro-expressions that a table codes: a row a clip, with the numbers of its onset, apex and offset, and the emotion.

CASME II and SAMM have the same columns, but for spaces in their names, and the same folders: one a subject, and in that
one a clip.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from posmlp_jax.data.prepare.clip_frames import folders_below, numbered_folders
from posmlp_jax.data.prepare.clip_tables import Listed
from posmlp_jax.data.prepare.spreadsheets import Row, find_table, read_table, whole_number
from posmlp_jax.errors import DataError, nearest

_SUBJECT, _CLIP, _EMOTION = "Subject", "Filename", "Estimated Emotion"
_FRAMES = {"onset": "Onset Frame", "apex": "Apex Frame", "offset": "Offset Frame"}
_COLUMNS = (_SUBJECT, _CLIP, *_FRAMES.values(), _EMOTION)
# How far below the source the subjects' folders may lie, as in Cropped/Cropped.
_DEPTH = 2


def list_coded(source: Path, table: str, emotions: Sequence[str], prefix: str, digits: int) -> list[Listed]:
    """All rows of a data set's table, in their order.

    Args:
      source: the folder with the table, and the frames in it or below it.
      table: what the table's name has, in lower case, as a regular expression.
      emotions: all that there are.
      prefix: of the subjects' folders' names, as 'sub'.
      digits: how many numbers follow it.

    Raises:
      DataError: when the table or the folders are missing or there twice, or a row has what cannot be; the message has
        file and row. An apex may be missing, or '/'.
    """
    if not source.is_dir():
        raise DataError(f"{source} is no folder: give one with the table and the folders of frames")
    file = find_table(source, table)
    rows = read_table(file, _COLUMNS)
    if not rows:
        raise DataError(f"{file} has no row below its header")
    subjects = _find_subjects(source, rows, prefix, file)
    listed = []
    for row in rows:
        number = _subject_number(row)
        subject = f"{prefix}{number:0{digits}d}"
        frames = {field: whole_number(row.cells[column]) for field, column in _FRAMES.items()}
        for field in ("onset", "offset"):
            if frames[field] is None:
                cell = row.cells[_FRAMES[field]]
                raise DataError(f"{row.where}: '{_FRAMES[field]}' is '{cell}', and should be a frame's number")
        if not (clip := row.cells[_CLIP]):
            raise DataError(f"{row.where}: '{_CLIP}' is empty")
        folder = subjects.get(number, source / subject) / clip
        listed.append(Listed(subject, clip, _emotion(row, emotions), folder, row.where, **frames))
    return listed


def _subject_number(row: Row) -> int:
    """From a cell that may have 1, '01', 'sub01' or '006'."""
    match = re.fullmatch(r"[a-z]*(\d+)", row.cells[_SUBJECT].lower())
    if match is None:
        raise DataError(f"{row.where}: '{_SUBJECT}' is '{row.cells[_SUBJECT]}', and should be a subject's number")
    return int(match[1])


def _emotion(row: Row, emotions: Sequence[str]) -> str:
    text = row.cells[_EMOTION].lower()
    # 'other' is what SAMM has for CASME II's 'others', and copies of both have either.
    found = {"other": "others", "others": "other"}.get(text, text) if text not in emotions else text
    if found not in emotions:
        raise DataError(f"{row.where}: unknown emotion '{row.cells[_EMOTION]}': {nearest(text, emotions)}")
    return found


def _find_subjects(source: Path, rows: Sequence[Row], prefix: str, table: Path) -> dict[int, Path]:
    """The subjects' folders by their numbers, from the one folder that has clips of the table in such."""
    wanted = [(_subject_number(row), row.cells[_CLIP]) for row in rows if row.cells[_CLIP]]
    found = []
    for folder in folders_below(source, _DEPTH):
        subjects = numbered_folders(folder, (prefix,))
        if any((subjects[number] / clip).is_dir() for number, clip in wanted if number in subjects):
            found.append((folder, subjects))
    if len(found) > 1:
        raise DataError(
            f"{' and '.join(str(folder) for folder, _ in found[:2])} both have frames of the clips in {table.name}: "
            "keep one kind of them in the source"
        )
    if not found:
        number, clip = wanted[0]
        raise DataError(
            f"{source} has no folder of any of the {len(wanted)} clips in {table.name}, as {prefix}{number:02d}/{clip}"
        )
    return dict(found[0][1])
