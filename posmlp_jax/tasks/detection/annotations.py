"""What was found in files as a data set in COCO's JSON, which programs for annotating and scoring images read."""

from collections.abc import Sequence
from typing import Any

from posmlp_jax.tasks.detection.prediction import DetectionPrediction
from posmlp_jax.tasks.predictor import Annotations


class CocoAnnotations(Annotations):
    """COCO's `images`, `annotations` and `categories`, whose annotations have a `score` as well.

    Images' ids are the numbers that the files are called by, as COCO's own are (000000397133.jpg), where all are called
    by a number and no two by the same; else 1, 2, 3, … in the order of the files.

    Args:
      class_names: of every class.
      class_ids: the data set's own number of every class.
    """

    def __init__(self, class_names: Sequence[str], class_ids: Sequence[int]):
        self._categories = [{"id": number, "name": name} for number, name in zip(class_ids, class_names, strict=True)]
        self._found: list[tuple[str, DetectionPrediction]] = []

    def add(self, prediction: DetectionPrediction, name: str) -> None:
        """Takes the objects of a file, whose `file_name` is to be `name`."""
        self._found.append((name, prediction))

    def to_json(self) -> dict[str, Any]:
        """The data set: its annotations are numbered from 1, as 0 is no match to COCO's metric."""
        names = [name for name, _ in self._found]
        images, annotations = [], []
        for number, (name, prediction) in zip(image_ids(names), self._found, strict=True):
            height, width = prediction.size
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            for each in prediction.objects:
                mask = {} if each.segmentation is None else {"segmentation": dict(each.segmentation)}
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": each.category_id,
                        "bbox": list(each.bbox),
                        "area": each.area,
                        "iscrowd": 0,
                        "score": each.score,
                        **mask,
                    }
                )
        return {"images": images, "annotations": annotations, "categories": self._categories}


def image_ids(names: Sequence[str]) -> list[int]:
    """A number for each file: its own, where it and all others are called by one."""
    stems = [name.rpartition("/")[2].partition(".")[0] for name in names]
    if all(stem.isascii() and stem.isdecimal() for stem in stems):
        # Of more digits no other program reads the number.
        numbers = [int(stem) for stem in stems if len(stem) < 16]
        if len(set(numbers)) == len(names):
            return numbers
    return list(range(1, len(names) + 1))
