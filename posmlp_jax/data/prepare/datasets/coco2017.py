"""COCO 2017, detection and instance segmentation, from its official zip files, which are read in place."""

from pathlib import Path

from posmlp_jax.data.prepare.builder import Builder, Recipe
from posmlp_jax.data.prepare.coco_images import Archive, Folders, Store
from posmlp_jax.data.prepare.coco_json import parse_instances
from posmlp_jax.data.prepare.coco_recipe import CocoSplit, coco_recipe
from posmlp_jax.errors import DataError

# The folder of each, in the zip file of that name, and what its JSON is called.
FOLDERS = {"train": "train2017", "validation": "val2017"}
ANNOTATIONS = "annotations"
OFFICIAL = (
    "a folder that holds train2017.zip (19,336,861,798 bytes), val2017.zip (815,585,330 bytes) and "
    "annotations_trainval2017.zip (252,907,541 bytes), from https://cocodataset.org/#download, or what they unpack to: "
    "train2017/, val2017/ and annotations/"
)


def build(source: Path | None, name: str) -> Recipe:
    """The splits are 'train', of 118,287 images, and 'validation', of 5,000; classes are the 80 categories.

    Each zip file is taken, or the folder that it unpacks to where there is none.

    Raises:
      DataError: when something is missing, broken, or not what it should be.
    """
    if not source.is_dir():
        raise DataError(f"--source={source} is no folder: give {OFFICIAL}")
    annotations = _open(source, ANNOTATIONS, "annotations_trainval2017.zip")
    splits = {}
    for split, folder in FOLDERS.items():
        images = _open(source, folder, f"{folder}.zip")
        file = annotations.find(f"instances_{folder}.json", [ANNOTATIONS])
        if file is None:
            where = annotations.path(f"{ANNOTATIONS}/instances_{folder}.json")
            raise DataError(f"there is no {where}: give {OFFICIAL}")
        instances = parse_instances(annotations.read(file), annotations.path(file))
        splits[split] = CocoSplit(instances, images, [folder], f"{folder}.zip or {folder}/ of {source}")
    return coco_recipe(
        name,
        splits,
        check_first=False,
        description="COCO 2017: photographs of everyday scenes with boxes and masks of objects of 80 categories.",
        homepage="https://cocodataset.org/",
    )


def _open(source: Path, folder: str, archive: str) -> Store:
    """The zip file, or else the folder; names in both begin with the folder's."""
    if (source / archive).is_file():
        return Archive(source / archive, f"get it anew, or give {OFFICIAL}")
    if (source / folder).is_dir():
        return Folders(source, folder)
    raise DataError(f"there is neither {source / archive} nor a folder {folder}/ beside it: give {OFFICIAL}")


BUILDER = Builder(build, source="FOLDER_WITH_THE_ZIP_FILES", official=OFFICIAL)
