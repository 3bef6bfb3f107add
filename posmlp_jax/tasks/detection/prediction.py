"""What a trained detector says of a file: the objects in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import cv2
import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.pretrained import Pretrained
from posmlp_jax.errors import CheckpointError, ConfigError
from posmlp_jax.tasks.detection.objective import as_rows, detector_input
from posmlp_jax.tasks.detection.pictures import draw_objects, label_text
from posmlp_jax.tasks.detection.results import coco_results
from posmlp_jax.tasks.objective import Rows
from posmlp_jax.tasks.predictor import FilePrediction, Predictor

# The least score of an object that is shown, unless another is asked for.
THRESHOLD = 0.3


@dataclass(frozen=True)
class FoundObject:
    """One object of a prediction.

    Attributes:
      name: of its class; 'class 17' where there are none.
      index: of its class among the model's.
      category_id: the class's number in the data set that the model was trained on.
      score: from 0 to 1.
      bbox: x, y, width, height in the image's own pixels, upright, as COCO has boxes. Nothing is rounded.
      segmentation: COCO's run-length encoding of its mask, `{'size': [height, width], 'counts': …}`; None of a detector
        of boxes alone.
    """

    name: str
    index: int
    category_id: int
    score: float
    bbox: tuple[float, float, float, float]
    segmentation: Mapping[str, Any] | None = None

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2: its corners in the image's own pixels."""
        x, y, width, height = self.bbox
        return x, y, x + width, y + height

    @property
    def area(self) -> float:
        """In the image's pixels: of the mask, or of the box where there is none."""
        if self.segmentation is None:
            return self.bbox[2] * self.bbox[3]
        # Not above: who looks for boxes does without it.
        from pycocotools.mask import area

        return float(area(self.segmentation))

    @property
    def mask(self) -> np.ndarray | None:
        """Which of the image's pixels it is, bool [height, width]."""
        if self.segmentation is None:
            return None
        from pycocotools.mask import decode

        return decode(self.segmentation).astype(bool)

    def to_json(self) -> dict[str, Any]:
        """As a line of JSON has it: `box` by its corners, and `segmentation` where there are masks."""
        mask = {} if self.segmentation is None else {"segmentation": dict(self.segmentation)}
        return {
            "class": self.name,
            "index": self.index,
            "category_id": self.category_id,
            "score": self.score,
            "box": list(self.box),
            **mask,
        }


@dataclass(frozen=True)
class DetectionPrediction(FilePrediction):
    """What a detector says of one image file.

    Attributes:
      objects: by falling score; none for a file that cannot be read.
    """

    picture_side: ClassVar[float] = 3.2

    objects: tuple[FoundObject, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The image's size, in whose pixels the boxes are, and the objects."""
        height, width = self.size
        return {"width": width, "height": height, "objects": [each.to_json() for each in self.objects]}

    def drawn_into(self, image: np.ndarray) -> np.ndarray:
        """The image, at any size, with boxes, masks, names and scores of the objects."""
        stretch = np.array(image.shape[1::-1]) / self.size[::-1]
        boxes = np.array([each.box for each in self.objects]).reshape(-1, 4) * np.tile(stretch, 2)
        classes = np.array([each.index for each in self.objects], np.int64)
        labels = [label_text(each.name, each.index, each.score) for each in self.objects]
        masks = (_resized(each.mask, image) for each in self.objects if each.segmentation is not None)
        return draw_objects(image, boxes, classes, labels, masks)


class ObjectPredictor(Predictor):
    """Finds objects as an evaluation does.

    Args:
      pretrained: the trained detector, whose weights are read now.
      data: the `data` section of the config that it was trained with.
      top_k: how many objects a prediction has, at most: those with the highest scores. None: all.
      threshold: the least score of an object. None: `THRESHOLD`. What the detector itself leaves out
        (`DetectorConfig.score_threshold`) is in no prediction.

    Raises:
      ConfigError: for a threshold that is no score.
      CheckpointError: when the weights cannot be loaded, or are no numbers.
    """

    def __init__(self, pretrained: Pretrained, data: ConfigDict, top_k: int | None, threshold: float | None):
        self._top_k, self._threshold = top_k, THRESHOLD if threshold is None else threshold
        if not 0 <= self._threshold <= 1:
            raise ConfigError(f"threshold is {self._threshold}, and should be a score, from 0 to 1")
        self._names, self._ids = class_names_of(pretrained), class_ids_of(pretrained)
        self._number = {category: number for number, category in enumerate(self._ids)}
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pretrained.weights)):
            # Of such weights every score is no number, and nothing would be found.
            raise CheckpointError(f"its training diverged, weights are no finite numbers: {pretrained.description}")
        graph, state = nnx.split(pretrained.model().fold())
        how = {"graph": graph, "mean": tuple(data.mean), "std": tuple(data.std)}
        self._find = partial(_find, nnx.to_pure_dict(state), **how)

    def __call__(self, pixels: np.ndarray, sizes: np.ndarray) -> dict[str, jax.Array]:
        """What was found: the rows of an evaluation (`DetectionObjective.evaluate`)."""
        return self._find(pixels, sizes)

    def read(self, file: FilePrediction, row: Mapping[str, np.ndarray] | None) -> DetectionPrediction:
        """The objects, in the image's own pixels."""
        if row is None:
            return DetectionPrediction(**vars(file))
        shown = (row["scores"] >= self._threshold) & row["valid"]
        # Masks of what is not shown are not pasted: that is most of the time that an image takes here.
        kept = np.flatnonzero(shown)[: self._top_k]
        results = coco_results(
            0,
            row["boxes"][kept],
            row["scores"][kept],
            row["classes"][kept],
            row["masks"][kept] if "masks" in row else None,
            size_in_canvas=file.fitted,
            image_size=file.size,
            categories=self._ids,
        )
        return DetectionPrediction(**vars(file), objects=tuple(map(self._object, results)))

    def _object(self, result: Mapping[str, Any]) -> FoundObject:
        """An object as `coco_results` says it, with its name."""
        number = self._number[result["category_id"]]
        box, mask = tuple(result["bbox"]), result.get("segmentation")
        return FoundObject(self._names[number], number, result["category_id"], result["score"], box, mask)


@partial(jax.jit, static_argnames=("graph", "mean", "std"))
def _find(state, images, sizes, *, graph: nnx.GraphDef, mean: tuple[float, ...], std: tuple[float, ...]) -> Rows:
    # To compile a detector takes a minute: the predictors of one architecture share what was compiled.
    return as_rows(nnx.merge(graph, state)(detector_input(images, sizes, mean, std), sizes))


def class_names_of(pretrained: Pretrained) -> list[str]:
    """A name for every class: 'class 17' for those that the data set had no name for."""
    names = list(pretrained.class_names or ())
    return names + [f"class {index}" for index in range(len(names), pretrained.config.num_classes)]


def class_ids_of(pretrained: Pretrained) -> list[int]:
    """A number for every class: the data set's own or, for classes that it has none for, the next ones."""
    ids = list(pretrained.class_ids or ())
    first = max(ids, default=0) + 1
    return ids + list(range(first, first + pretrained.config.num_classes - len(ids)))


def _resized(mask: np.ndarray, image: np.ndarray) -> np.ndarray:
    if mask.shape == image.shape[:2]:
        return mask
    return cv2.resize(mask.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
