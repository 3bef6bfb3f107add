"""ImageNet-1k (ILSVRC 2012) from its two official tar files, which are read in place and never unpacked."""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from posmlp_jax.data.prepare.builder import Builder, Example, Recipe, Split, cut
from posmlp_jax.errors import DataError

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VALIDATION_TAR = "ILSVRC2012_img_val.tar"
TRAIN_IMAGES = 1_281_167
CLASSES_PER_SHARD = 4
VALIDATION_PER_SHARD = 2500
OFFICIAL = (
    f"a folder that holds {TRAIN_TAR} (147,897,477,120 bytes) and {VALIDATION_TAR} (6,744,924,160 bytes), "
    "both from https://www.image-net.org/download.php after registration"
)


def synsets() -> list[str]:
    """The 1000 classes, 'n01440764' and so on, in the order of the labels."""
    return _lines("labels.txt")


def validation_synsets() -> list[str]:
    """The classes of the 50,000 validation images, in the order of their names."""
    return _lines("validation_labels.txt")


def _lines(name: str) -> list[str]:
    import tensorflow_datasets as tfds

    return tfds.core.tfds_path(f"datasets/imagenet2012/{name}").read_text().split()


def build(source: Path | None, name: str) -> Recipe:
    """Same features, labels and file names as tfds' own imagenet2012, the images byte by byte as they are.

    The training images stay in the order of the tar file, class by class, so that it is read once from start to end:
    shuffle when training.

    Raises:
      DataError: when a tar file is missing, truncated, or does not hold what it should.
    """
    import tensorflow_datasets as tfds

    classes = synsets()
    train_tar, train = _open(source / TRAIN_TAR)
    validation_tar, validation = _open(source / VALIDATION_TAR)
    by_synset = {Path(member.name).stem: member for member in train}
    if missing := sorted(set(classes) - set(by_synset)):
        raise DataError(
            f"{source / TRAIN_TAR} lacks {len(missing)} of {len(classes)} class archives, {missing[0]}.tar for one: "
            f"give {OFFICIAL}"
        )
    validation_labels = validation_synsets()
    if len(validation) != len(validation_labels):
        raise DataError(
            f"{source / VALIDATION_TAR} holds {len(validation)} images instead of {len(validation_labels)}: "
            f"give {OFFICIAL}"
        )
    label = {synset: number for number, synset in enumerate(classes)}
    in_order = sorted(classes, key=lambda synset: by_synset[synset].offset)
    groups = [in_order[start : start + CLASSES_PER_SHARD] for start in range(0, len(classes), CLASSES_PER_SHARD)]

    def train_shard(group: Sequence[str]) -> Iterator[Example]:
        for synset in group:
            yield from _class_images(train_tar, by_synset[synset], label[synset])

    label_of = {
        member.name: label[synset]
        for member, synset in zip(sorted(validation, key=lambda one: one.name), validation_labels, strict=True)
    }

    def validation_image(index: int) -> Example:
        member = validation[index]
        image = validation_tar.extractfile(member).read()
        return {"file_name": Path(member.name).name, "image": image, "label": label_of[member.name]}

    digest = hashlib.sha256("".join(f"{one.name} {one.size}\n" for one in (*train, *validation)).encode())
    return Recipe(
        name=name,
        version="5.1.0",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=classes),
                "file_name": tfds.features.Text(),
            }
        ),
        splits={
            "train": Split([lambda group=group: train_shard(group) for group in groups], TRAIN_IMAGES),
            "validation": cut(validation_image, range(len(validation)), VALIDATION_PER_SHARD),
        },
        fingerprint={
            "sha256": digest.hexdigest(),
            "classes_per_shard": CLASSES_PER_SHARD,
            "validation_per_shard": VALIDATION_PER_SHARD,
        },
        description="ImageNet-1k, ILSVRC 2012: 1,281,167 training and 50,000 validation images of 1000 classes.",
        homepage="https://www.image-net.org/",
    )


def _open(path: Path) -> tuple[tarfile.TarFile, list[tarfile.TarInfo]]:
    """A tar file, left open for reading, and its files in the order in which they lie in it."""
    if not path.is_file():
        raise DataError(f"no {path}: give {OFFICIAL}")
    try:
        archive = tarfile.open(path, "r:")  # noqa: SIM115 (the recipe reads from it)
        return archive, [member for member in archive.getmembers() if member.isfile()]
    except (tarfile.TarError, OSError) as error:
        size = path.stat().st_size
        raise DataError(f"{path} ({size:,} bytes) is broken or truncated ({error}): give {OFFICIAL}") from error


def _class_images(archive: tarfile.TarFile, member: tarfile.TarInfo, label: int) -> Iterator[Example]:
    """The images of one class, from the tar file inside the tar file."""
    try:
        with tarfile.open(fileobj=archive.extractfile(member), mode="r:") as images:
            for image in images:
                if image.isfile():
                    data = images.extractfile(image).read()
                    yield {"file_name": Path(image.name).name, "image": data, "label": label}
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{member.name} in {archive.name} is broken ({error}): give {OFFICIAL}") from error


BUILDER = Builder(build, source="FOLDER_WITH_BOTH_TAR_FILES", official=OFFICIAL)
