"""What data sets of annotated images share: their features, and the file that says what is in them at a glance."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from posmlp_jax.data.prepare.builder import Example, Recipe, Split, cut
from posmlp_jax.data.sources.objects import INDEX, Category

PER_SHARD = 1000


@dataclasses.dataclass(frozen=True)
class AnnotatedImage:
    """An image and its objects.

    Attributes:
      id: COCO's, by which results name it.
      file_name: where it lies, in words or as a path.
      size: (height, width) of the upright image, in pixels.
      annotations: COCO's objects, each with 'id', 'category_id', 'bbox' [x, y, width, height], 'area', 'iscrowd' and
        'segmentation', which is a list of polygons, compressed RLE or None (`Objects`).
    """

    id: int
    file_name: str
    size: tuple[int, int]
    annotations: Sequence[Mapping[str, Any]]


def annotated_recipe(
    name: str,
    categories: Sequence[Category],
    splits: Mapping[str, Sequence[AnnotatedImage]],
    read: Callable[[str, AnnotatedImage], bytes],
    *,
    fingerprint: Mapping[str, Any],
    description: str,
    homepage: str = "",
    version: str = "1.0.0",
) -> Recipe:
    """The recipe of a data set of annotated images.

    The order is a fixed permutation, so that 'train[:90%]' and 'train[90%:]' are random parts.

    Args:
      name: the data set's name.
      categories: all that there are, those without objects included.
      splits: the images of every split.
      read: the encoded image, of a split's name and one of its images.
      fingerprint: what identifies the source; the number of images of each category comes to it.
      description: one paragraph.
      homepage: where the images come from.
      version: 'major.minor.patch'.
    """
    import tensorflow_datasets as tfds

    categories = sorted(categories)
    orders = {split: np.random.default_rng(0).permutation(len(images)) for split, images in splits.items()}

    def in_shards(split: str, images: Sequence[AnnotatedImage]) -> Split:
        def example(number: int) -> Example:
            image = images[number]
            return {
                "image": read(split, image),
                "file_name": image.file_name,
                "image_id": image.id,
                "objects": json.dumps(image.annotations, separators=(",", ":")),
            }

        return cut(example, orders[split], PER_SHARD)

    index = {
        "categories": [category._asdict() for category in categories],
        "has_masks": all(
            one["segmentation"] is not None
            for images in splits.values()
            for image in images
            for one in image.annotations
            if not one["iscrowd"]
        ),
        "splits": {split: _at_a_glance([images[i] for i in orders[split]]) for split, images in splits.items()},
    }
    return Recipe(
        name=name,
        version=version,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(),
                "file_name": tfds.features.Text(),
                "image_id": tfds.features.Scalar(dtype=np.int64),
                # As JSON: exact, and read in a tenth of the time that tfds takes for lists of lists.
                "objects": tfds.features.Text(),
            }
        ),
        splits={split: in_shards(split, images) for split, images in splits.items()},
        fingerprint={**fingerprint, "per_shard": PER_SHARD, "counts": _count_images(categories, splits)},
        description=description,
        homepage=homepage,
        files={INDEX: json.dumps(index, separators=(",", ":")).encode()},
    )


def _at_a_glance(images: Sequence[AnnotatedImage]) -> dict[str, list]:
    """Of each image its id, its size, and how many objects that are no crowd it has."""
    return {
        "image_ids": [image.id for image in images],
        "sizes": [list(image.size) for image in images],
        "counts": [sum(not one["iscrowd"] for one in image.annotations) for image in images],
    }


def _count_images(
    categories: Sequence[Category], splits: Mapping[str, Sequence[AnnotatedImage]]
) -> dict[str, dict[str, int]]:
    """How many images of each split have something of each category."""
    names = dict(categories)
    counts = {}
    for split, images in splits.items():
        count = Counter(id for image in images for id in {one["category_id"] for one in image.annotations})
        counts[split] = {names[id]: count[id] for id in sorted(count)}
    return counts
