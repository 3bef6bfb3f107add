"""Anyone's own annotated images: a folder with COCO JSON, as labelme, CVAT, Label Studio and Roboflow export it."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from posmlp_jax.data.prepare.builder import Builder, Recipe
from posmlp_jax.data.prepare.coco_images import Folders
from posmlp_jax.data.prepare.coco_json import parse_instances
from posmlp_jax.data.prepare.coco_recipe import CocoSplit, coco_recipe
from posmlp_jax.errors import DataError

_TRAIN, _VALIDATION, _TEST = ("train",), ("val", "valid", "validation"), ("test",)
# Roboflow's name.
_IN_FOLDER = "_annotations.coco.json"
_ANNOTATIONS = "annotations"
_LABELME = "labelme's own files, one for each image, have to be exported as one COCO JSON"
OFFICIAL = (
    "a folder with train.json and, if you have it, val.json, in COCO's format, and the images in train/ and val/, or "
    f"in images/; or with train/{_IN_FOLDER} and valid/{_IN_FOLDER} beside the images, as Roboflow has it; or with "
    "annotations/instances_train2017.json and train2017/, as COCO has it; or with one JSON for all"
)


def build(source: Path | None, name: str) -> Recipe:
    """The splits are 'train' and, as far as there are JSON files for them, 'validation' and 'test'.

    Where there is none for validation, test's is 'validation'. One JSON of any name is 'train'.

    Raises:
      DataError: when `name` is not the data set's own, when there is no JSON or it is unclear which is which, or for
        what `parse_instances` and `coco_recipe` refuse.
    """
    if name == "coco_folder":
        raise DataError("coco_folder needs --name=NAME, the name under which configs will find it (data.name)")
    if not source.is_dir():
        raise DataError(f"--source={source} is no folder: give {OFFICIAL}")
    store = Folders(source)
    splits = {}
    for split, (file, names) in _find_files(source, store).items():
        instances = parse_instances(store.read(file), str(source / file))
        folders = _image_folders(file, names)
        splits[split] = CocoSplit(instances, store, folders, f"{source} or its folders, as {folders[0]}/ and images/")
    return coco_recipe(
        name, splits, check_first=True, description="Images from a folder, with objects annotated in COCO's format."
    )


def _find_files(source: Path, store: Folders) -> dict[str, tuple[str, Sequence[str]]]:
    """The JSON of each split, and the names that its folder may have."""
    files = sorted(file for file in store.sizes if re.fullmatch(r"([^/]+/)?[^/.][^/]*\.json", file))
    found = {names: _find_json(source, files, names) for names in (_TRAIN, _VALIDATION, _TEST)}
    if found[_TRAIN] is None:
        # Also where it is called val.json: what is trained on is not for evaluation, too.
        only = _only_json(source, files)
        found = {names: None if file == only else file for names, file in found.items()} | {_TRAIN: only}
    named = {names[0]: (file, names) for names, file in found.items() if file is not None}
    evaluation = named.pop("val", None) or named.pop("test", None)
    return named if evaluation is None else {"train": named.pop("train"), "validation": evaluation, **named}


def _find_json(source: Path, files: Sequence[str], names: Sequence[str]) -> str | None:
    """The file among `files` that is for a split of one of `names`, or None."""
    name = f"(?:{'|'.join(names)})"
    for pattern in (
        rf"(?:{_ANNOTATIONS}/)?(?:instances_)?{name}(?:\d{{4}})?\.json",
        rf"{name}/{re.escape(_IN_FOLDER)}",
        rf"{name}/[^/]+\.json",
    ):
        matches = [file for file in files if re.fullmatch(pattern, file)]
        if len(matches) > 1:
            raise DataError(
                f"{source} has several JSON files for {names[0]}, {matches[0]} and {matches[1]}: leave one of them; "
                f"{_LABELME}"
            )
        if matches:
            return matches[0]
    return None


def _only_json(source: Path, files: Sequence[str]) -> str:
    """The one JSON of a folder without one for training."""
    anywhere = [file for file in files if "/" not in file or file.startswith(f"{_ANNOTATIONS}/")]
    if not anywhere:
        raise DataError(f"there is no JSON in {source}: give {OFFICIAL}")
    if len(anywhere) > 1:
        raise DataError(
            f"{source} has {len(anywhere)} JSON files, {anywhere[0]} for one, and it is unclear which is for training: "
            f"call it train.json; {_LABELME}"
        )
    return anywhere[0]


def _image_folders(file: str, names: Sequence[str]) -> list[str]:
    """Where a JSON's images may be, the likeliest first: folders of the split, of the JSON, and of all."""
    path = PurePosixPath(file)
    parent = "" if len(path.parts) == 1 else path.parts[0]
    own = [
        name
        for each in (*names, path.stem.removeprefix("instances_"))
        for name in (each, f"images/{each}", f"{each}/images")
    ]
    return list(dict.fromkeys([*own, parent, f"{parent}/images" if parent else "images", "", "images"]))


BUILDER = Builder(build, source="DIR", official=OFFICIAL)
