"""The mask of an object, cropped to its box: of polygons or run lengths, as COCO draws them."""

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from posmlp_jax.tasks.detection.columns import SIDE

Polygons = Sequence[Sequence[float | int]]
RunLengths = Mapping[str, object]


def crop_mask(
    segmentation: Polygons | RunLengths, box: Float[np.ndarray, "4"], image_size: tuple[int, int]
) -> Bool[np.ndarray, "112 112"]:
    """Where in its box an object is, in 112 × 112 cells.

    A cell has the mean of the mask that it covers, or of a smaller one what is interpolated at its centre, and is the
    object from a half on. The nearest pixels' bits would move edges by up to half a pixel.

    Args:
      segmentation: polygons [x1, y1, x2, y2, …], or compressed run lengths {'size', 'counts'} of the whole
        image.
      box: x1, y1, x2, y2 in pixels of the image, not empty and within it.
      image_size: (height, width).
    """
    x1, y1, x2, y2 = box.tolist()
    # With the pixels around it, between which and its own is interpolated.
    top, bottom = max(math.floor(y1) - 1, 0), min(math.ceil(y2) + 1, image_size[0])
    left, right = max(math.floor(x1) - 1, 0), min(math.ceil(x2) + 1, image_size[1])
    mask = _draw(segmentation, top, bottom, left, right)
    # So many samples a cell that no pixel is passed over.
    across, down = (max(math.ceil((end - start) / SIDE), 1) for start, end in ((x1, x2), (y1, y2)))
    step_x, step_y = (x2 - x1) / (SIDE * across), (y2 - y1) / (SIDE * down)
    # cv2 counts from the middle of the first pixel.
    samples = np.array([[step_x, 0, x1 - left + step_x / 2 - 0.5], [0, step_y, y1 - top + step_y / 2 - 0.5]])
    values = cv2.warpAffine(
        mask * np.uint8(255),
        samples,
        (SIDE * across, SIDE * down),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cv2.resize(values, (SIDE, SIDE), interpolation=cv2.INTER_AREA) >= 128


def _draw(
    segmentation: Polygons | RunLengths, top: int, bottom: int, left: int, right: int
) -> UInt8[np.ndarray, "_height _width"]:
    """A part of the image's mask, 0 and 1, by COCO's own rasteriser."""
    from pycocotools import mask  # Only data with masks need it.

    if isinstance(segmentation, Mapping):
        return mask.decode(segmentation)[top:bottom, left:right]
    # Moved by whole pixels, polygons are drawn as in the whole image.
    moved = [(np.reshape(polygon, (-1, 2)) - (left, top)).ravel().tolist() for polygon in segmentation]
    return mask.decode(mask.merge(mask.frPyObjects(moved, bottom - top, right - left)))
