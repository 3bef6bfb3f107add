"""Detection: where in an image objects of which classes are and, with Mask R-CNN, which pixels are theirs."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from flax import nnx
from jaxtyping import Array, Float, Key
from ml_collections import ConfigDict

from posmlp_jax.checkpoints.pretrained import Pretrained
from posmlp_jax.data import AnnotatedSource, open_annotated
from posmlp_jax.data.sources.annotated import MIN_SIDE
from posmlp_jax.errors import ConfigError
from posmlp_jax.models.backbone import BackboneConfig
from posmlp_jax.models.detectors.config import DetectorConfig, MaskRCNNConfig
from posmlp_jax.models.detectors.detector import Detector
from posmlp_jax.tasks.detection.annotations import CocoAnnotations
from posmlp_jax.tasks.detection.illustration import illustrate_targets
from posmlp_jax.tasks.detection.mask_rcnn_loss import ANCHOR_SHARE, REGION_SHARE, Samples
from posmlp_jax.tasks.detection.objective import DetectionObjective
from posmlp_jax.tasks.detection.prediction import ObjectPredictor, class_ids_of, class_names_of
from posmlp_jax.tasks.detection.report import report_detections
from posmlp_jax.tasks.detection.results import coco_results
from posmlp_jax.tasks.detection.scoring import KINDS, METRICS, Scores, format_precision, ground_truth, score
from posmlp_jax.tasks.detection.table import ObjectTable
from posmlp_jax.tasks.detection.targets import DetectionTargets
from posmlp_jax.tasks.reporting import say_left_out
from posmlp_jax.tasks.task import Batch, Evaluation, Rows, Scalars, Task


class Detection(Task):
    """RetinaNet's loss or Mask R-CNN's, whichever the model is; boxes' average precision decides.

    Raises:
      ConfigError: for a model that is no detector, or of too few classes, or a `keep_best` that it does not measure.
      DataError: when Mask R-CNN is to learn from objects without masks.
    """

    metrics = METRICS
    output, outputs = "class", "classes"

    def __init__(self, config: ConfigDict, model: BackboneConfig, source: AnnotatedSource):
        super().__init__(config, model, source)
        if not isinstance(model, DetectorConfig):
            raise ConfigError(
                f"model '{config.model.name}' is no detector, and detection takes one of list_detectors()"
            )
        if model.num_classes < source.num_classes:
            raise ConfigError(
                f"model.num_classes is {model.num_classes}, but {config.data.name} has {source.num_classes} classes"
            )
        self._with_masks = isinstance(model, MaskRCNNConfig)
        self._kinds = list(KINDS) if self._with_masks else ["box"]
        if not self._with_masks:
            self.metrics = tuple(metric for metric in self.metrics if metric.name.startswith("box"))
            if "/mask_" in config.keep_best:
                raise ConfigError(f"keep_best is {config.keep_best}, but RetinaNet has no masks; try eval/box_ap")
        self._objective = DetectionObjective(
            mean=tuple(config.data.mean),
            std=tuple(config.data.std),
            samples=Samples(**config.mask_rcnn.to_dict()) if self._with_masks else None,
        )
        self.targets(source)  # It finds out about masks that are missing, and classes that there are none of.

    @classmethod
    def fields(cls) -> dict[str, Any]:
        """How many objects an image may have, and how much of it Mask R-CNN learns from."""
        return {
            # A batch holds so many objects of each image, the largest of them.
            "max_objects": 100,
            # How much of each image Mask R-CNN learns from: `anchors` of its region proposal network, half of them with
            # an object at most; `regions` that its heads see, a quarter of them with an object at most, which the mask
            # head sees alone; and these are taken from so many `proposals`, which are left of so many `candidates` of
            # each level. Less of all is faster. RetinaNet learns from every anchor.
            "mask_rcnn": {"anchors": 256, "candidates": 2000, "proposals": 1000, "regions": 512},
        }

    @classmethod
    def check_config(cls, config: ConfigDict) -> None:
        """Checks these numbers, and that images are laid into canvases.

        Raises:
          ConfigError: for the first value that cannot be.
        """
        if config.data.crop != "fit":
            raise ConfigError(
                f"data.crop is '{config.data.crop}', and detection takes 'fit', which crops nothing: "
                "--config.data.crop=fit"
            )
        if config.data.randaugment:
            raise ConfigError(
                f"data.randaugment is '{config.data.randaugment}', which turns and shears images, and a box would not "
                "be that of its object any more: --config.data.randaugment=''"
            )
        if config.max_objects < 1:
            raise ConfigError(f"max_objects is {config.max_objects}, and should be 1 or more")
        least = {"anchors": round(1 / ANCHOR_SHARE), "regions": round(1 / REGION_SHARE)}
        for name, value in config.mask_rcnn.items():
            if value < least.get(name, 1):
                raise ConfigError(f"mask_rcnn.{name} is {value}, and should be {least.get(name, 1)} or more")

    @classmethod
    def open_source(
        cls, config: ConfigDict, split: str, kind: str, model: BackboneConfig | None = None
    ) -> AnnotatedSource:
        """Images with annotated objects (`data.open_annotated`)."""
        del model
        if kind != "image":
            raise ConfigError("detection takes images, and the model takes clips; take one of list_detectors()")
        return open_annotated(config, split)

    @classmethod
    def model_fields(cls, source: AnnotatedSource) -> dict[str, Any]:
        """Its classes."""
        return {"num_classes": source.num_classes}

    def targets(self, source: AnnotatedSource) -> DetectionTargets:
        """Boxes, classes, those of mirrored images as `data.flip_label_pairs` has them, and for Mask R-CNN masks."""
        data = self.config.data
        pairs = data.flip_label_pairs if data.flip else ()
        return DetectionTargets(source, self.config.max_objects, self._with_masks, pairs)

    def names(self, source: AnnotatedSource) -> tuple[str, ...]:
        """The classes' names."""
        return source.class_names

    def ids(self, source: AnnotatedSource) -> tuple[int, ...]:
        """The categories' numbers, which may have gaps."""
        return tuple(int(category.id) for category in source.categories)

    def describe(self, source: AnnotatedSource, *, training: bool) -> list[str]:
        """How many objects there are, and what of the data is not trained on."""
        lines = [
            f"{source.counts.sum()} objects of {source.num_classes} classes, at most {source.counts.max(initial=0)} in "
            "an image"
        ]
        if source.left_out:
            lines.append(
                f"{source.left_out} more images have no object, or a side below {MIN_SIDE} pixels, and are left out"
            )
        if training:
            lines += say_left_out(source.counts, "max_objects", self.config.max_objects, "objects", "images")
        return [f"  {line}" for line in lines]

    def draw(self, key: Key[Array, ""], batch: Batch) -> tuple[Batch, Any]:
        """`DetectionObjective.draw`."""
        return self._objective.draw(key, batch)

    def loss(self, model: Detector, batch: Batch, drawn: Any, rngs: nnx.Rngs) -> tuple[Float[Array, ""], Scalars]:
        """`DetectionObjective.loss`."""
        return self._objective.loss(model, batch, drawn, rngs)

    def evaluate(self, model: Detector, batch: Batch) -> tuple[Scalars, Rows]:
        """`DetectionObjective.evaluate`."""
        return self._objective.evaluate(model, batch)

    def score(self, means: Mapping[str, float], rows: Mapping[str, np.ndarray]) -> tuple[dict[str, float], Scores]:
        """Average precision, by COCO's own code, and what was found."""
        del means
        found, ids = [], self.ids(self.source)
        for index, (image_id, size) in enumerate(zip(self.source.image_ids, self.source.sizes, strict=True)):
            boxes, scores, classes, in_canvas = (rows[name][index] for name in ("boxes", "scores", "classes", "size"))
            found += coco_results(
                int(image_id),
                boxes,
                scores,
                classes,
                rows["masks"][index] if self._with_masks else None,
                size_in_canvas=tuple(in_canvas.tolist()),
                image_size=tuple(size.tolist()),
                categories=ids,
            )
        values, by_class = score(self._truth, found, self._kinds)
        return values, Scores(found, by_class)

    @classmethod
    def format_metrics(cls, values: Mapping[str, float], *, digits: int = 2) -> list[str]:
        """`scoring.format_precision`."""
        return format_precision(values, digits)

    @functools.cached_property
    def _truth(self) -> dict[str, Any]:
        """What every evaluation compares with, whose masks the first one decodes."""
        return ground_truth(self.source)

    def report(
        self, workdir: epath.Path | None, step: int, evaluations: Mapping[str, Evaluation], protocol: str = ""
    ) -> None:
        """Average precision of all sizes, and class by class."""
        report_detections(workdir, step, evaluations, self.source, protocol)

    @classmethod
    def predictor(
        cls, pretrained: Pretrained, data: ConfigDict, top_k: int | None = None, threshold: float | None = None
    ) -> ObjectPredictor:
        """The objects in files, all of those with a score that is worth a look unless others are asked for."""
        return ObjectPredictor(pretrained, data, top_k, threshold)

    @classmethod
    def prediction_table(cls, pretrained: Pretrained, files: Sequence[str], width: int) -> ObjectTable:
        """A row for each object."""
        return ObjectTable(files, class_names_of(pretrained), width)

    @classmethod
    def annotations(cls, pretrained: Pretrained) -> CocoAnnotations:
        """The objects as a data set in COCO's JSON."""
        return CocoAnnotations(class_names_of(pretrained), class_ids_of(pretrained))

    def illustrate(self, key: Key[Array, ""], batch: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
        """The images, small, with boxes, classes and masks of their targets; captions count the classes."""
        del key
        return illustrate_targets(batch, self.source.class_names)
