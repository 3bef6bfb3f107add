"""What is annotated in an image: boxes, classes and, where there are any, masks, as COCO's JSON has them.

A prepared data set of such images is one that tfds can read, whose feature 'objects' is the JSON of an image's
annotations. Beside it lies a file INDEX, which says what would otherwise only be known when all images are read: the
categories, and of each image its id, its size and how many objects are in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

INDEX = "objects.json"


class Category(NamedTuple):
    """What objects can be: the id that the JSON has for it, which may have gaps, and its name."""

    id: int
    name: str


class Objects(NamedTuple):
    """The objects of one image, of which there are n, those of crowds included.

    Attributes:
      boxes: float64 [n, 4], x1, y1, x2, y2 in pixels of the upright image; pixel i reaches from i to i + 1.
      classes: int64 [n], indices into the source's `categories`.
      crowd: bool [n], whether it is a group of objects that nobody has told apart.
      areas: float64 [n], in pixels, by which the metric tells small objects from large ones.
      ids: int64 [n], those of the JSON's annotations.
      segmentations: n of them: a list of polygons [x, y, x, y, …], whose union is the object; or RLE, {'size': [height,
        width], 'counts': str}, compressed as pycocotools has it; or None.
      size: (height, width) of the upright image.
      image_id: the JSON's.
    """

    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    ids: np.ndarray
    segmentations: tuple[list[list[float]] | dict[str, Any] | None, ...]
    size: tuple[int, int]
    image_id: int


def parse_objects(
    annotations: Sequence[Mapping[str, Any]], class_of: Mapping[int, int], size: tuple[int, int], image_id: int
) -> Objects:
    """The objects of an image from its annotations, as they are prepared (`prepare.annotated_images`).

    Args:
      annotations: of COCO's form.
      class_of: the class of each category's id.
      size: (height, width) of the image.
      image_id: its id.
    """
    boxes = np.array([one["bbox"] for one in annotations], np.float64).reshape(-1, 4)
    return Objects(
        boxes=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
        classes=np.array([class_of[one["category_id"]] for one in annotations], np.int64),
        crowd=np.array([one["iscrowd"] for one in annotations], bool),
        areas=np.array([one["area"] for one in annotations], np.float64),
        ids=np.array([one["id"] for one in annotations], np.int64),
        segmentations=tuple(one["segmentation"] for one in annotations),
        size=size,
        image_id=image_id,
    )
