"""Any folder of images as a prepared data set: for disks and networks on which many small files are slow."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from posmlp_jax.data.prepare.builder import Builder, Example, Recipe, Split, count_by_class, cut
from posmlp_jax.data.sources.class_folders import (
    IMAGES,
    find_eval_folder,
    find_train_folder,
    list_classes,
    list_known_classes,
    warn_of_links,
)
from posmlp_jax.errors import DataError

PER_SHARD = 2500
OFFICIAL = "a folder with train/CLASS/*.jpg and, if you have them, val/CLASS/*.jpg; or one with CLASS/*.jpg"


def build(source: Path | None, name: str) -> Recipe:
    """The splits are 'train' and, when there is a folder for it, 'validation'.

    The order is a fixed permutation, so that 'train[:90%]' and 'train[90%:]' are random parts.

    Raises:
      DataError: when `name` is not the data set's own, or for what `list_classes` and `list_known_classes` refuse.
    """
    import tensorflow_datasets as tfds

    if name == "image_folder":
        raise DataError("image_folder needs --name=NAME, the name under which configs will find it (data.name)")
    if not source.is_dir():
        raise DataError(f"--source={source} is no folder: give {OFFICIAL}")
    train = find_train_folder(source, IMAGES)
    class_names, train_files = list_classes(train, IMAGES)
    files = {"train": train_files}
    evaluation = find_eval_folder(source)
    if evaluation is not None:
        files["validation"] = list_known_classes(evaluation, IMAGES, class_names)
    warn_of_links((train, evaluation), IMAGES)
    digest = hashlib.sha256()
    for path in (path for split in files.values() for paths in split for path in paths):
        digest.update(f"{path.relative_to(source).as_posix()} {path.stat().st_size}\n".encode())
    labels = {split: [label for label, some in enumerate(paths) for _ in some] for split, paths in files.items()}
    counts = count_by_class(labels, class_names)
    return Recipe(
        name=name,
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {
                "file_name": tfds.features.Text(),
                "image": tfds.features.Image(),
                "label": tfds.features.ClassLabel(names=list(class_names)),
            }
        ),
        splits={split: _split(source, paths) for split, paths in files.items()},
        fingerprint={"sha256": digest.hexdigest(), "per_shard": PER_SHARD, "counts": counts},
        description=f"Images of {len(class_names)} classes from a folder.",
    )


def _split(source: Path, files: Sequence[Sequence[Path]]) -> Split:
    paths = [path for paths in files for path in paths]
    labels = [label for label, paths in enumerate(files) for _ in paths]

    def read(index: int) -> Example:
        path = paths[index]
        return {"file_name": str(path.relative_to(source)), "image": path.read_bytes(), "label": labels[index]}

    return cut(read, np.random.default_rng(0).permutation(len(paths)), PER_SHARD)


BUILDER = Builder(build, source="DIR", official=OFFICIAL)
