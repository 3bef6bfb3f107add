"""What a batch holds of an image's objects: their boxes, classes and masks where augmentation has put them."""

from collections.abc import Mapping, Sequence

import numpy as np

from posmlp_jax.data.augment.placement import Placement
from posmlp_jax.data.sources.annotated import AnnotatedSource
from posmlp_jax.data.sources.objects import Objects
from posmlp_jax.data.targets import flipped_labels
from posmlp_jax.errors import DataError
from posmlp_jax.tasks.detection.columns import target_columns
from posmlp_jax.tasks.detection.object_masks import crop_mask


class DetectionTargets:
    """The objects of each image, for the crop 'fit'.

    `size` is the image's (height, width) in its canvas; `boxes` are x1, y1, x2, y2 in pixels of the canvas, `classes`
    −1 where there is no object, and `masks` are the bits of each object's own box (`object_masks.crop_mask`), eight in
    a byte as `np.packbits` puts them. Crowds are no targets: as mmdetection has it, where they are is background. Nor
    are objects whose box is empty.

    Args:
      source: the images.
      max_objects: of an image with more objects, the smallest are left out.
      masks: whether there are masks.
      label_pairs: of names of classes that a mirror exchanges (`flipped_labels`).

    Raises:
      ConfigError: as `flipped_labels`.
      DataError: when there are masks to be, and objects without one.
    """

    def __init__(
        self, source: AnnotatedSource, max_objects: int, masks: bool, label_pairs: Sequence[Sequence[str]] = ()
    ):
        if masks and not source.has_masks:
            raise DataError(
                f"not all objects have masks, which Mask R-CNN learns from: {source.description}; a RetinaNet does "
                "without, as --config.model.name=retinanet_posmlp_t"
            )
        self._most, self._masks = max_objects, masks
        self._mirrored = flipped_labels(source, label_pairs) if label_pairs else None
        self.columns = target_columns(max_objects, masks)

    def __call__(self, target: Objects, placement: Placement) -> Mapping[str, np.ndarray]:
        """One image's values, by column."""
        size = placement.extent
        boxes, whole = _place(target, placement, size), _within(target.boxes, target.size)
        there = ~target.crowd & _nonempty(boxes) & _nonempty(whole)
        (chosen,) = np.nonzero(there)
        if len(chosen) > self._most:
            extents = boxes[chosen, 2:] - boxes[chosen, :2]
            largest = np.argsort(-extents.prod(-1), kind="stable")[: self._most]
            chosen = np.sort(chosen[largest])
        values = {name: np.zeros(shape, kind) for name, (shape, kind) in self.columns.items()}
        values["size"][:] = size
        values["boxes"][: len(chosen)] = boxes[chosen]
        values["classes"][:] = -1
        classes = target.classes[chosen]
        if placement.mirrored and self._mirrored is not None:
            classes = self._mirrored[classes]
        values["classes"][: len(chosen)] = classes
        if self._masks:
            for row, number in enumerate(chosen.tolist()):
                bits = crop_mask(target.segmentations[number], whole[number], target.size)
                values["masks"][row] = np.packbits(bits[:, ::-1] if placement.mirrored else bits, axis=-1)
        return values


def _place(target: Objects, placement: Placement, size: tuple[int, int]) -> np.ndarray:
    """The objects' boxes in the canvas, no more of them than of the image, float32 [n, 4]."""
    (across, _, left), (_, down, top) = placement.matrix.tolist()
    height, width = target.size
    xs, ys = target.boxes[:, ::2] / width * across + left, target.boxes[:, 1::2] / height * down + top
    # In a mirror the first side is the last.
    placed = np.stack([xs.min(-1), ys[:, 0], xs.max(-1), ys[:, 1]], axis=-1)
    return _within(placed, size).astype(np.float32)


def _within(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.clip(boxes, 0, [size[1], size[0]] * 2)


def _nonempty(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] > boxes[:, :2]).all(-1)
