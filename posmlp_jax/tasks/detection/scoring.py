"""Average precision as COCO has it, by its own code (pycocotools): of boxes and, with Mask R-CNN, of masks."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posmlp_jax.checkpoints.evaluations import Metric
from posmlp_jax.data import AnnotatedSource

# What is compared, as pycocotools calls it.
KINDS = {"box": "bbox", "mask": "segm"}
# The first of the numbers that pycocotools sums an evaluation up in: over IoU thresholds from 0.5 to 0.95, at two of
# them, and of objects of less than 32² pixels, of up to 96², and of more.
_SUMMARY = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_s": "AP small", "ap_m": "AP medium", "ap_l": "AP large"}
METRICS = tuple(Metric(f"{kind}_{name}", f"{kind} {label}") for kind in KINDS for name, label in _SUMMARY.items())
# In a line of a log, after the name of the first.
_SHORT = {"ap50": "AP50", "ap75": "AP75", "ap_s": "S", "ap_m": "M", "ap_l": "L"}


@dataclass(frozen=True)
class Scores:
    """What an evaluation says beyond its metrics.

    Attributes:
      detections: all that was found, in COCO's result format (`results.coco_results`).
      by_class: of each class, by the metric's name, `box_ap`, `box_ap50`, `mask_ap` and `mask_ap50`: float64 [K], NaN
        of a class that there are no objects of.
    """

    detections: list[dict[str, Any]]
    by_class: dict[str, np.ndarray]


def format_precision(values: Mapping[str, float], digits: int = 2) -> list[str]:
    """Of boxes and of masks as far as there are values: 'box AP 41.90 % (AP50 63.20, AP75 44.70, S 25.10, M 45.70)'."""
    texts = []
    for kind in KINDS:
        if f"{kind}_ap" in values:
            named = ((label, values.get(f"{kind}_{name}")) for name, label in _SHORT.items())
            others = ", ".join(f"{label} {100 * value:.{digits}f}" for label, value in named if value is not None)
            texts.append(f"{kind} AP {100 * values[f'{kind}_ap']:.{digits}f} % ({others})")
    return texts


def ground_truth(source: AnnotatedSource) -> dict[str, Any]:
    """The annotations of a source in COCO's format.

    Crowds are among them: what is found in one counts neither for nor against. Annotations are numbered anew, from 1:
    the metric takes an object of number 0 for one that was not found.
    """
    images, annotations = [], []
    for index in range(len(source)):
        objects = source.objects(index)
        height, width = map(int, objects.size)
        images.append({"id": int(objects.image_id), "width": width, "height": height})
        for row, (x1, y1, x2, y2) in enumerate(objects.boxes.tolist()):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": int(objects.image_id),
                "category_id": int(source.categories[objects.classes[row]].id),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": float(objects.areas[row]),
                "iscrowd": int(objects.crowd[row]),
            }
            segmentation = objects.segmentations[row]
            if segmentation is None and source.has_masks:  # Of a crowd alone: all of its box.
                segmentation = [[x1, y1, x2, y1, x2, y2, x1, y2]]
            annotations.append(annotation | ({} if segmentation is None else {"segmentation": segmentation}))
    categories = [{"id": int(category.id), "name": category.name} for category in source.categories]
    info = {"description": source.description}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def detections_of(detections: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """What COCO's format has for one kind, 'box' or 'mask': results of masks have no boxes.

    With both, the metric would tell small masks from large ones by their boxes' areas.
    """
    other = {"box": "segmentation", "mask": "bbox"}[kind]
    return [{name: value for name, value in each.items() if name != other} for each in detections]


def score(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], kinds: Sequence[str]
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The metrics, but for those of objects that there are none of, and `Scores.by_class`.

    Args:
      truth: by `ground_truth`. Its segmentations are replaced by what pycocotools makes of them.
      detections: with a `segmentation` where masks are scored.
      kinds: 'box', 'mask'.
    """
    # Not above: who does not evaluate does without it.
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    values, by_class = {}, {}
    with _silent_pycocotools():
        annotated = COCO()
        annotated.dataset = dict(truth)
        annotated.createIndex()
        for kind in kinds:
            of_kind = detections_of(detections, kind)
            # It looks at the first to see what they are of.
            found = annotated.loadRes(of_kind) if of_kind else COCO()
            evaluation = COCOeval(annotated, found, KINDS[kind])
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            # −1 says that there are no such objects.
            summary = zip(_SUMMARY, evaluation.stats, strict=False)
            values |= {f"{kind}_{name}": float(value) for name, value in summary if value != -1}
            # By IoU threshold, recall and class, of objects of all sizes, at most 100 an image.
            precision = evaluation.eval["precision"][:, :, :, 0, -1]
            precision = np.where(precision == -1, np.nan, precision)
            by_class |= {f"{kind}_ap": precision.mean(axis=(0, 1)), f"{kind}_ap50": precision[0].mean(axis=0)}
    return values, by_class


@contextlib.contextmanager
def _silent_pycocotools() -> Iterator[None]:
    """Keeps what pycocotools prints from the terminal, and from it alone: other threads may have something to say."""
    from pycocotools import coco, cocoeval

    modules = (coco, cocoeval)
    for module in modules:
        module.print = lambda *args, **kwargs: None
    try:
        yield
    finally:
        for module in modules:
            del module.print
