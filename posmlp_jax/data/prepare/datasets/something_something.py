"""Something-Something: version 1 from its folders of JPEG frames, version 2 from its WebM files."""

import json
from collections.abc import Sequence
from pathlib import Path

from posmlp_jax.data.prepare.builder import Builder, Recipe
from posmlp_jax.data.prepare.lists import (
    TRAIN_NAMES,
    VALIDATION_NAMES,
    Entry,
    find_list,
    number_labels,
    read_json_list,
    read_list,
    read_text,
)
from posmlp_jax.data.prepare.videos import Clip, VideoFiles, clips_recipe
from posmlp_jax.errors import DataError

# Version 1 is given away as frames, of which 12 were taken a second.
V1_FPS = 12.0
_V1, _V2 = "something-something-v1-", "something-something-v2-"
OFFICIAL_V1 = (
    "the folder that holds 20bn-something-something-v1/ with a folder of JPEGs for each video, and "
    f"{_V1}train.csv, {_V1}validation.csv and {_V1}labels.csv"
)
OFFICIAL_V2 = (
    "the folder that holds 20bn-something-something-v2/ with the .webm files, and train.json, validation.json and "
    f"labels.json, there or in labels/; their older names, {_V2}train.json and so on, will do too, and so will "
    "train.csv and val.csv with lines of path,label"
)


def build_v1(source: Path | None, name: str) -> Recipe:
    """The splits are 'train' and 'validation'; the classes are in alphabetical order, as the published lists have them.

    Raises:
      DataError: when a file is missing, or has a line that cannot be understood.
    """
    _check_folder(source, OFFICIAL_V1)
    names_file = find_list(source, (f"{_V1}labels", "labels"), (".csv", ".txt"))
    names = sorted(filter(None, map(str.strip, read_text(names_file).splitlines()))) if names_file else None
    entries = {}
    for split, official in (("train", TRAIN_NAMES), ("validation", VALIDATION_NAMES)):
        file = find_list(source, (_V1 + split, *official), (".csv", ".txt"))
        if file is None:
            raise DataError(f"{source} has no {_V1}{split}.csv: give {OFFICIAL_V1}")
        entries[split] = read_list(file)
    folder = _frames_folder(source, entries["train"])
    return _recipe(name, 1, entries, names, {text: folder / text for text in _videos(entries)})


def build_v2(source: Path | None, name: str) -> Recipe:
    """The splits are 'train' and 'validation'; the classes are numbered as labels.json says.

    Raises:
      DataError: when a file is missing, or has a line that cannot be understood.
    """
    _check_folder(source, OFFICIAL_V2)
    names = _v2_names(find_list(source, (f"{_V2}labels", "labels"), (".json",)))
    entries = {}
    for split, official in (("train", TRAIN_NAMES), ("validation", VALIDATION_NAMES)):
        file = find_list(source, (_V2 + split, *official), (".json", ".csv", ".txt"))
        if file is None:
            raise DataError(f"{source} has no {split}.json: give {OFFICIAL_V2}")
        entries[split] = _read_json(file) if file.suffix == ".json" else read_list(file)
    files = VideoFiles(source)
    return _recipe(name, 2, entries, names, {text: files.find(text) for text in _videos(entries)})


def _recipe(
    name: str, version: int, entries: dict[str, list[Entry]], names: Sequence[str] | None, paths: dict[str, Path]
) -> Recipe:
    classes, labels = number_labels(entries, names)
    return clips_recipe(
        name,
        classes,
        {
            split: [
                Clip(paths[entry.video], label, entry.video)
                for entry, label in zip(entries[split], labels[split], strict=True)
            ]
            for split in entries
        },
        f"Something-Something, version {version}: people do basic actions with everyday objects.",
        homepage="https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
        frames_fps=V1_FPS if version == 1 else None,
    )


def _videos(entries: dict[str, list[Entry]]) -> set[str]:
    return {entry.video for listed in entries.values() for entry in listed}


def _check_folder(source: Path, official: str) -> None:
    if not source.is_dir():
        raise DataError(f"--source={source} is no folder: give {official}")


def _frames_folder(source: Path, entries: Sequence[Entry]) -> Path:
    """The folder that holds a folder for each video: `source` or one in it."""
    candidates = [source, *sorted(path for path in source.iterdir() if path.is_dir())]
    first = [entry.video for entry in entries[:100]]
    for folder in candidates:
        if any((folder / video).is_dir() for video in first):
            return folder
    raise DataError(f"no folder {first[0]} of frames in {source} or a folder in it: give {OFFICIAL_V1}")


def _v2_names(file: Path | None) -> list[str] | None:
    """The names of the classes in the order of their numbers, from {"name": "number", …}."""
    if file is None:
        return None
    try:
        numbers = json.loads(read_text(file))
        names = {int(number): name for name, number in numbers.items()}
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {error.lineno}: {error.msg}") from error
    except (AttributeError, TypeError, ValueError):
        raise DataError(f'{file} must hold {{"class": "number", …}}') from None
    if sorted(names) != list(range(len(numbers))):
        raise DataError(f"{file}: the {len(numbers)} classes are not numbered from 0 to {len(numbers) - 1}")
    return [names[number] for number in sorted(names)]


def _read_json(file: Path) -> list[Entry]:
    """The template without its brackets is the class; `label`, with the objects' names filled in, is not."""
    entries = []
    for entry, where in read_json_list(file):
        for key in ("id", "template"):
            if not isinstance(entry.get(key), str):
                raise DataError(f"{where}: the entry has no text '{key}'")
        entries.append(Entry(entry["id"], entry["template"].replace("[", "").replace("]", ""), where))
    if not entries:
        raise DataError(f"{file} lists no video")
    return entries


BUILDER_V1 = Builder(build_v1, source="FOLDER_WITH_FRAMES_AND_LISTS", official=OFFICIAL_V1)
BUILDER_V2 = Builder(build_v2, source="FOLDER_WITH_VIDEOS_AND_LISTS", official=OFFICIAL_V2)
