"""The tables that AVA's annotations and detections are in: CSV files without a header, and a label map.

A row is a box with one label: `video,second,x1,y1,x2,y2,action,person`, the corners as shares of the frame, x to the
right and y down, seconds of the film's own time. Detections have a score where that has the person, and a detector's
boxes, of which nobody knows yet what is done in them, an empty action. mmaction2 publishes the latter as a pickle.
"""

import csv
import io
import itertools
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from os import PathLike
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from etils import epath

from posmlp_jax.data.sources.box_pickles import is_pickle, read_box_pickle
from posmlp_jax.data.sources.objects import Category
from posmlp_jax.errors import DataError, refusal
from posmlp_jax.paths import as_path

# Rows that are in memory as texts at a time: a table of scored boxes has millions.
_CHUNK = 1 << 16
# How far a corner may lie outside of the frame, in its sides: detectors' do, and one in pixels lies further out.
_OUTSIDE = 0.5
# What a label map consists of: `item { name: "stand" id: 12 }`, or label and label_id; names may have braces.
_TEXT = r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\''
_ITEM = re.compile(rf"\s*\w+\s*:?\s*\{{((?:{_TEXT}|[^{{}}\"'])*)\}}\s*")
_FIELD = re.compile(rf"(\w+)\s*:\s*({_TEXT}|[^\s,;]+)")
_Part = TypeVar("_Part")


class Boxes(NamedTuple):
    """The n rows of a table, in its order.

    Attributes:
      videos: object [n], texts.
      seconds: int64 [n], of the key frames.
      boxes: float64 [n, 4], x1, y1, x2, y2 as shares of the frame.
      actions: int64 [n], ids from 1; 0 where the table says none.
      scores: float64 [n], as given; NaN in ground truth.
      people: int64 [n], who it is, told apart in one film only; −1 where the table does not say.
    """

    videos: np.ndarray
    seconds: np.ndarray
    boxes: np.ndarray
    actions: np.ndarray
    scores: np.ndarray
    people: np.ndarray

    def take(self, which: np.ndarray | slice) -> "Boxes":
        """Some of the rows: their numbers in order, a bool for each, or a part of the table."""
        return Boxes(*(column[which] for column in self))

    def are_of(self, frames: Collection[tuple[str, int]]) -> np.ndarray:
        """Which rows are of some key frames, (video, second); bool [n]."""
        own = zip(self.videos, self.seconds.tolist(), strict=True)
        return np.fromiter((frame in frames for frame in own), bool, len(self.videos))


def read_ground_truth(file: str | PathLike) -> Boxes:
    """The labelled boxes of a CSV file; the last column, the person, may be missing.

    Raises:
      DataError: for a file that cannot be read or is empty, and for a row that is none of ground truth; the message
        has file and line.
    """
    return _read_boxes(as_path(file), "ground truth")


def read_detections(file: str | PathLike) -> Boxes:
    """The detected boxes of a CSV file or a pickle, with their scores: a detector's, or an action detector's.

    A pickle is a dict of an array [n, 5], corners and score, for each 'video,second'. No code in it is run.

    Raises:
      DataError: as `read_ground_truth`, also for a table that has people where the scores should be.
    """
    path = as_path(file)
    if is_pickle(path):
        return _of_pickle(path)
    boxes = _read_boxes(path, "detections")
    # Logits may be above 1, and some whole; not all of them.
    if (boxes.scores > 1).any() and (boxes.scores % 1 == 0).all():
        raise DataError(
            f"{path}: column 8 has whole numbers alone, up to {int(boxes.scores.max())}: these are people, so this is "
            "ground truth; detections have their score there"
        )
    return boxes


def read_excluded(file: str | PathLike) -> frozenset[tuple[str, int]]:
    """The key frames, (video, second), that are neither trained on nor evaluated, of rows `video,second`.

    Raises:
      DataError: for a file that cannot be read, or a row of other columns; the message has file and line.
    """

    def parse(rows: list[list[str]]) -> list[tuple[str, int]]:
        videos, seconds = _columns(rows, (2,), "video,second")
        return list(zip(_names(videos).tolist(), _whole(seconds, "second").tolist(), strict=True))

    return frozenset(itertools.chain.from_iterable(_parsed(as_path(file), parse)))


def read_label_map(file: str | PathLike) -> tuple[Category, ...]:
    """The actions that count, by ascending id, from a label map (.pbtxt) whose ids are `id:` or `label_id:`.

    Raises:
      DataError: for a file that cannot be read or is none, and for an action without name or id, or with one that
        another has; the message has file and line.
    """
    path = as_path(file)
    try:
        text = re.sub(r"(?m)^\s*#.*$", "", path.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {_reason(error)}") from error
    found: dict[int, str] = {}
    place = 0
    while place < len(text.rstrip()):
        where = f"{path}, line {text.count(chr(10), 0, place + len(text[place:]) - len(text[place:].lstrip())) + 1}"
        item = _ITEM.match(text, place)
        if item is None:
            raise DataError(f'{where}: expected an action as a label map has it, item {{ name: "stand" id: 12 }}')
        fields = dict(_FIELD.findall(item[1]))
        name, number = fields.get("name", ""), fields.get("id", fields.get("label_id", ""))
        if name[:1] not in ("'", '"') or not re.fullmatch(r"[1-9]\d*", number):
            raise DataError(f'{where}: an action needs a name in quotes and an id from 1 on, as name: "stand" id: 12')
        if int(number) in found:
            raise DataError(f"{where}: id {number} is that of '{found[int(number)]}' already")
        found[int(number)] = re.sub(r"\\(.)", r"\1", name[1:-1])
        place = item.end()
    if not found:
        raise DataError(f'{path} is empty: expected a label map, item {{ name: "stand" id: 12 }}')
    return tuple(Category(number, found[number]) for number in sorted(found))


def boxes_csv(boxes: Boxes) -> str:
    """A table as it is read: the scores in column 8 or, where there are none, the people.

    Nothing is rounded: scores are float32 and corners float64, each with as many digits as it takes.
    """
    parts = (slice(begin, begin + _CHUNK) for begin in range(0, len(boxes.videos), _CHUNK))
    return "".join(_rows_csv(boxes.take(part)) for part in parts)


def _rows_csv(boxes: Boxes) -> str:
    scored = ~np.isnan(boxes.scores)
    last = np.where(scored, boxes.scores.astype(np.float32).astype(str), boxes.people.astype(str))
    last[~scored & (boxes.people < 0)] = ""
    # The rows of one box begin alike, and of scored ones each action has one.
    differs = (boxes.boxes[1:] != boxes.boxes[:-1]).any(1)
    for column in (boxes.videos, boxes.seconds):
        differs |= column[1:] != column[:-1]
    begins = np.append(True, differs)
    first, heads = boxes.take(begins), []
    csv.writer(SimpleNamespace(write=heads.append), lineterminator="").writerows(
        (video, f"{second:04d}", *map(repr, box))
        for video, second, box in zip(first.videos, first.seconds.tolist(), first.boxes.tolist(), strict=True)
    )
    rows = zip((np.cumsum(begins) - 1).tolist(), boxes.actions.tolist(), last.tolist(), strict=True)
    return "".join(f"{heads[place]},{action or ''}{end and f',{end}'}\n" for place, action, end in rows)


def _read_boxes(path: epath.Path, kind: Literal["ground truth", "detections"]) -> Boxes:
    parts = list(_parsed(path, _ground_truth if kind == "ground truth" else _detections))
    if not parts:
        raise DataError(f"{path} is empty: expected {kind} as rows of video,second,x1,y1,x2,y2,action,…")
    return Boxes(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _parsed(path: epath.Path, parse: Callable[[list[list[str]]], _Part]) -> Iterator[_Part]:
    """What `parse` makes of the rows of a file, some at a time; it raises a ValueError that says what is wrong."""
    try:
        with io.TextIOWrapper(path.open("rb"), encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened)
            rows = ((reader.line_num, row) for row in reader if row)
            while chunk := list(itertools.islice(rows, _CHUNK)):
                try:
                    yield parse([row for _, row in chunk])
                except ValueError as error:
                    for line, row in chunk:
                        _check_row(path, line, row, parse)
                    raise DataError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {_reason(error)}") from error


def _check_row(
    path: epath.Path, line: int, row: Sequence[str], parse: Callable[[Sequence[Sequence[str]]], Any]
) -> None:
    try:
        parse([row])
    except ValueError as error:
        raise DataError(f"{path}, line {line}: {error}") from error


def _ground_truth(rows: list[list[str]]) -> Boxes:
    *columns, people = _columns(rows, (7, 8), "video,second,x1,y1,x2,y2,action,person")
    try:
        people = _whole([person or "-1" for person in people], "person")
    except ValueError as error:
        raise ValueError(f"{error}; a score there makes it a table of detections, not ground truth") from error
    boxes = _boxes(columns, np.full(len(rows), np.nan), people)
    if not boxes.actions.all():
        raise ValueError("the action, column 7, is empty: these are a detector's boxes, not ground truth")
    return boxes


def _detections(rows: list[list[str]]) -> Boxes:
    *columns, scores = _columns(rows, (7, 8), "video,second,x1,y1,x2,y2,action,score")
    if "" in scores:
        raise ValueError("column 8, the score, is missing: detections have one, ground truth has not")
    return _boxes(columns, _numbers(scores, "score"), np.full(len(rows), -1))


def _boxes(columns: Sequence[Sequence[str]], scores: np.ndarray, people: np.ndarray) -> Boxes:
    """The rows, from their first seven columns and what the eighth is."""
    videos, seconds, *corners, actions = columns
    names = ("x1", "y1", "x2", "y2")
    boxes = np.stack([_numbers(values, name) for values, name in zip(corners, names, strict=True)], axis=1)
    ids = _whole([action or "0" for action in actions], "action")
    if (ids < 1).sum() > actions.count(""):
        wrong = next(text for text, number in zip(actions, ids, strict=True) if text and number < 1)
        raise ValueError(f"action {wrong}: ids begin with 1")
    check_corners(boxes)
    return Boxes(_names(videos), _whole(seconds, "second"), boxes, ids, scores, people)


def _of_pickle(path: epath.Path) -> Boxes:
    found = read_box_pickle(path)
    try:
        return _of_arrays(found)
    except ValueError:
        # There are a hundred thousand arrays, and nearly always nothing is wrong.
        for key, rows in found.items():
            try:
                _of_arrays({key: rows})
            except ValueError as error:
                raise DataError(f"{path}, '{key}': {error}") from error
        raise


def _of_arrays(found: Mapping[str, np.ndarray]) -> Boxes:
    keys = [key.rpartition(",") for key in found]
    counts, rows = [len(rows) for rows in found.values()], np.concatenate(list(found.values()))
    check_corners(rows[:, :4])
    videos, seconds = _names([video for video, _, _ in keys]), _whole([second for _, _, second in keys], "second")
    none = np.zeros(len(rows), np.int64)
    return Boxes(np.repeat(videos, counts), np.repeat(seconds, counts), rows[:, :4], none, rows[:, 4], none - 1)


def check_corners(boxes: np.ndarray) -> None:
    """Raises a ValueError that says what is wrong with the first box [n, 4] that is none in shares of the frame."""
    if not np.isfinite(boxes).all():
        raise ValueError("a corner is no number")
    outside = ((boxes < -_OUTSIDE) | (boxes > 1 + _OUTSIDE)).any(1)
    if outside.any():
        corners = ", ".join(f"{corner:g}" for corner in boxes[outside][0])
        raise ValueError(f"the box ({corners}) is not in shares of the frame: divide pixels by its width and height")
    turned = (boxes[:, 2:] < boxes[:, :2]).any(1)
    if turned.any():
        corners = ", ".join(f"{corner:g}" for corner in boxes[turned][0])
        raise ValueError(f"the box ({corners}) ends before it begins: columns 3 to 6 are x1,y1,x2,y2")


def _columns(rows: list[list[str]], counts: Sequence[int], expected: str) -> list[tuple[str, ...]]:
    """The columns of rows, each of which has as many as `counts` allows; '' where a row has less than others may."""
    for count in {*map(len, rows)} - {*counts}:
        raise ValueError(f"number of columns: {count}, and should be {' or '.join(map(str, counts))}: {expected}")
    columns = list(itertools.zip_longest(*rows, fillvalue=""))
    return columns if len(columns) == counts[-1] else [*columns, ("",) * len(rows)]


def _names(column: Sequence[str]) -> np.ndarray:
    if not all(column):
        raise ValueError("the video, column 1, is empty")
    # One text for all rows of a film.
    return np.array([sys.intern(name) for name in column], object)


def _whole(column: Sequence[str], what: str) -> np.ndarray:
    try:
        return np.fromiter(map(int, column), np.int64, len(column))
    except (ValueError, OverflowError) as error:
        wrong = next((text for text in column if not re.fullmatch(r"\s*[+-]?\d{1,18}\s*", text)), column[0])
        raise ValueError(f"the {what} is '{wrong}', and should be a whole number; there is no header line") from error


def _numbers(column: Sequence[str], what: str) -> np.ndarray:
    try:
        numbers = np.fromiter(map(float, column), np.float64, len(column))
    except ValueError as error:
        raise ValueError(f"{what}: {error}; it should be a number") from error
    if not np.isfinite(numbers).all():
        raise ValueError(f"{what} is {column[int(np.flatnonzero(~np.isfinite(numbers))[0])]}, and should be a number")
    return numbers


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"it is no text in UTF-8 (byte {error.start})"
    return refusal(error) or str(error)
