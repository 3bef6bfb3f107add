"""Training examples with what is to be found in them, for the preview."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from posmlp_jax.detection.masks import paste
from posmlp_jax.tasks.detection.pictures import draw_objects, label_text

# Pixels of the longer side, as a grid of examples shows it: letters that are drawn at this size are readable there.
_SIDE = 256
# A caption names so many classes, in so many letters each.
_NAMED, _LETTERS = 3, 16


def illustrate_targets(
    batch: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> tuple[UInt8[np.ndarray, "batch height width 3"], list[str]]:
    """A batch's images, small, with the boxes, classes and masks of its targets; captions count the classes.

    Args:
      batch: as `targets.DetectionTargets` makes it.
      class_names: of all classes.
    """
    drawn, captions = [], []
    for number, image in enumerate(batch["image"]):
        exist = batch["classes"][number] >= 0
        boxes, classes = batch["boxes"][number][exist], batch["classes"][number][exist]
        small = shrink(image)
        height, width = small.shape[:2]
        boxes = boxes * np.tile([width / image.shape[1], height / image.shape[0]], 2)
        masks = ()
        if "masks" in batch:
            crops = np.unpackbits(batch["masks"][number][exist], axis=-1).astype(np.float32)
            masks = [paste(crop, box, height, width) for crop, box in zip(crops, boxes, strict=True)]
        labels = [label_text(class_names[index], index) for index in classes.tolist()]
        drawn.append(draw_objects(small, boxes, classes, labels, masks))
        captions.append(count_names([class_names[index] for index in classes.tolist()]))
    return np.stack(drawn), captions


def shrink(image: np.ndarray) -> np.ndarray:
    """The image with a longer side of `_SIDE`; what is enlarged shows its pixels."""
    scale = _SIDE / max(image.shape[:2])
    height, width = (max(round(scale * side), 1) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)


def count_names(names: Sequence[str], nothing: str = "(no objects)") -> str:
    """'2 × dog, cat', the commonest first; '3 classes more' where there are many."""
    counts = {name: names.count(name) for name in names}
    parts = []
    for name in sorted(counts, key=lambda name: -counts[name]):
        short = name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
        parts.append(short if counts[name] == 1 else f"{counts[name]} × {short}")
    more = len(parts) - _NAMED
    if more > 1:
        parts[_NAMED:] = [f"{more} classes more"]
    return ", ".join(parts) or nothing
