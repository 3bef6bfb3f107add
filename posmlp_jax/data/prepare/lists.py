"""The lists that say which videos there are and what they show: CSV and text files, JSON files."""

import csv
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from posmlp_jax.errors import DataError

TRAIN_NAMES = ("train",)
VALIDATION_NAMES = ("validation", "validate", "val")
_FOLDERS = ("", "annotations", "labels")


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a line says: the video's path or id, its label, and for messages where the line is."""

    video: str
    label: str
    where: str


def find_list(source: Path, names: Sequence[str], suffixes: Sequence[str]) -> Path | None:
    """The first file of these names and suffixes in `source`, source/annotations or source/labels, or None."""
    candidates = (source / folder / (name + suffix) for folder in _FOLDERS for name in names for suffix in suffixes)
    return next((file for file in candidates if file.is_file()), None)


def read_text(file: Path) -> str:
    """The file's text. Raises a DataError when it cannot be read or is no text."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is no text file in UTF-8 (byte {error.start})") from error


def read_list(file: Path) -> list[Entry]:
    """The lines of a list file: `path,label`, `path label`, `id;label` or, for folders of frames, `path frames label`.

    Which of them it is, the first line tells. A first line `path,label` is passed over, as are empty ones.

    Raises:
      DataError: for a line that is none of this; the message has file and line.
    """
    lines = [(number, line) for number, line in enumerate(read_text(file).splitlines(), 1) if line.strip()]
    if not lines:
        raise DataError(f"{file} is empty: expected lines of 'path,label' or 'path label'")
    delimiter = _delimiter(lines[0][1])
    entries = []
    for number, line in lines:
        where = f"{file}, line {number}"
        if delimiter:
            fields = [field.strip() for field in next(csv.reader([line], delimiter=delimiter))]
        else:
            fields = _split_from_the_right(line)
        if number == lines[0][0] and [field.lower() for field in fields] == ["path", "label"]:
            continue
        if len(fields) != 2 or not all(fields):
            expected = f"path{delimiter or ' '}label"
            raise DataError(f"{where}: expected '{expected}', not '{_shortened(line)}'")
        entries.append(Entry(*fields, where))
    return entries


def read_json_list(file: Path) -> Iterator[tuple[dict, str]]:
    """The objects of a JSON file that is a list of them, each with where it is.

    Raises:
      DataError: when the file is something else, or broken; the message has file and line.
    """
    text = read_text(file)
    decoder = json.JSONDecoder()
    place, line, counted = _after_spaces(text, 0), 1, 0
    if text[place : place + 1] != "[":
        raise DataError(f"{file}, line 1: expected a list of objects")
    place = _after_spaces(text, place + 1)
    while text[place : place + 1] != "]":
        line += text.count("\n", counted, place)
        counted = place
        where = f"{file}, line {line}"
        try:
            entry, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise DataError(f"{file}, line {error.lineno}: {error.msg}") from error
        if not isinstance(entry, dict):
            raise DataError(f"{where}: expected an object, not {_shortened(json.dumps(entry))}")
        yield entry, where
        place = _after_spaces(text, place)
        if text[place : place + 1] == ",":
            place = _after_spaces(text, place + 1)
        elif text[place : place + 1] != "]":
            line += text.count("\n", counted, place)
            raise DataError(f"{file}, line {line}: expected a comma or the end of the list")


def number_labels(
    lists: Mapping[str, Sequence[Entry]], names: Sequence[str] | None = None
) -> tuple[Sequence[str] | int, dict[str, list[int]]]:
    """Labels as numbers.

    Args:
      lists: the entries by split. Their labels are all numbers, or all names; the first one decides.
      names: the names of the classes in order, where they are known.

    Returns:
      (the names of the classes, or how many there are, and each split's labels). Without `names` the classes are the
      first split's names, sorted; or there are as many as its highest number asks for.

    Raises:
      DataError: for a label that is not among the classes; the message has file and line.
    """
    first = next(iter(lists.values()))
    if not first[0].label.isdecimal():
        classes = names or tuple(sorted({entry.label for entry in first}))
        number_of = {name: number for number, name in enumerate(classes)}
        labels = {split: [_number(entry, number_of) for entry in entries] for split, entries in lists.items()}
        return classes, labels
    classes = names or max(int(entry.label) for entry in first if entry.label.isdecimal()) + 1
    count = classes if isinstance(classes, int) else len(classes)
    for entry in (entry for entries in lists.values() for entry in entries):
        if not entry.label.isdecimal() or int(entry.label) >= count:
            raise DataError(f"{entry.where}: label '{entry.label}' is not a number from 0 to {count - 1}")
    return classes, {split: [int(entry.label) for entry in entries] for split, entries in lists.items()}


def _number(entry: Entry, number_of: Mapping[str, int]) -> int:
    if entry.label not in number_of:
        raise DataError(f"{entry.where}: label '{entry.label}' is not among the {len(number_of)} classes")
    return number_of[entry.label]


def _delimiter(line: str) -> str:
    """',' or ';', or '' for spaces: in `my, clip.mp4 3` the comma belongs to the path."""
    before, _, last = line.strip().rpartition(" ")
    if last.isdecimal() and before and before.rstrip()[-1] not in ",;":
        return ""
    return next((delimiter for delimiter in (",", ";") if delimiter in line), "")


def _split_from_the_right(line: str) -> list[str]:
    """Path and label; a number between them says how many frames there are, which is counted anyway."""
    fields = line.strip().rsplit(None, 2)
    if len(fields) == 3 and not (fields[1].isdecimal() and fields[2].isdecimal()):
        return line.strip().rsplit(None, 1)
    return [fields[0], fields[-1]] if len(fields) > 1 else fields


def _after_spaces(text: str, place: int) -> int:
    while text[place : place + 1].isspace():
        place += 1
    return place


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
