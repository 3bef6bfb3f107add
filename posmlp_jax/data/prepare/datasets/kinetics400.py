"""Kinetics-400 from its video files and the official CSV files, or from lists of paths and labels."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from posmlp_jax.data.prepare.builder import Builder, Recipe
from posmlp_jax.data.prepare.lists import (
    TRAIN_NAMES,
    VALIDATION_NAMES,
    Entry,
    find_list,
    number_labels,
    read_list,
    read_text,
)
from posmlp_jax.data.prepare.videos import Clip, VideoFiles, clips_recipe
from posmlp_jax.errors import DataError

# DeepMind's own columns; newer files add is_cc.
_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
OFFICIAL = (
    "a folder with the video files, in any sub-folders, and train.csv and val.csv, there or in annotations/: the "
    "official lists (label,youtube_id,time_start,time_end,split), or lines of path,label"
)


def build(source: Path | None, name: str) -> Recipe:
    """The splits are 'train' and 'validation'; videos that are listed and not there count as unreadable.

    With the official lists the classes are the training labels in sorted order, as is usual; with others, see
    `lists.number_labels`. Their names may stand in classes.txt beside the lists, one a line.

    Raises:
      DataError: when a list is missing, or has a line that cannot be understood.
    """
    if not source.is_dir():
        raise DataError(f"--source={source} is no folder: give {OFFICIAL}")
    entries = {}
    for split, names in (("train", TRAIN_NAMES), ("validation", VALIDATION_NAMES)):
        file = find_list(source, names, (".csv", ".txt"))
        if file is None:
            raise DataError(f"{source} has no {names[-1]}.csv: give {OFFICIAL}")
        entries[split] = _read(file)
    names_file = find_list(source, ("classes",), (".txt",))
    classes, labels = number_labels(entries, read_text(names_file).splitlines() if names_file else None)
    files = VideoFiles(source)
    return clips_recipe(
        name,
        classes,
        {split: _clips(files, entries[split], labels[split]) for split in entries},
        f"Videos of {classes if isinstance(classes, int) else len(classes)} kinds of human action.",
        homepage="https://github.com/cvdfoundation/kinetics-dataset",
    )


def _clips(files: VideoFiles, entries: Sequence[Entry], labels: Sequence[int]) -> list[Clip]:
    return [Clip(files.find(entry.video), label, entry.video) for entry, label in zip(entries, labels, strict=True)]


def _read(file: Path) -> list[Entry]:
    text = read_text(file)
    header = [field.strip() for field in text.partition("\n")[0].split(",")]
    if "youtube_id" not in header:
        return read_list(file)
    if missing := set(_COLUMNS[:4]) - set(header):
        raise DataError(f"{file}, line 1: the column {sorted(missing)[0]} is missing")
    rows = csv.DictReader(io.StringIO(text), fieldnames=header)
    next(rows)
    entries = []
    for row in rows:
        where = f"{file}, line {rows.line_num}"
        label, video = (row["label"] or "").strip(), (row["youtube_id"] or "").strip()
        try:
            start, end = int(row["time_start"]), int(row["time_end"])
        except (TypeError, ValueError):
            raise DataError(f"{where}: time_start and time_end must be whole seconds") from None
        if not label or not video:
            raise DataError(f"{where}: the {'youtube_id' if label else 'label'} is missing")
        entries.append(Entry(f"{video}_{start:06d}_{end:06d}", label, where))
    if not entries:
        raise DataError(f"{file} lists no video")
    return entries


BUILDER = Builder(build, source="FOLDER_WITH_VIDEOS_AND_LISTS", official=OFFICIAL)
