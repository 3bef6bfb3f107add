"""What a detector found in an image, as COCO's result format has it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from posmlp_jax.detection.masks import paste


def coco_results(
    image_id: int,
    boxes: Float[np.ndarray, "n 4"],
    scores: Float[np.ndarray, "n"],
    classes: Int[np.ndarray, "n"],
    masks: Float[np.ndarray, "n side side"] | None,
    *,
    size_in_canvas: tuple[int, int],
    image_size: tuple[int, int],
    categories: Sequence[int],
) -> list[dict[str, Any]]:
    """One image's detections, in its own pixels, as JSON takes them. Nothing is rounded: that would change AP.

    Args:
      image_id: the data set's number for it.
      boxes: x1, y1, x2, y2 in pixels of the canvas that the detector saw.
      scores: from 0 to 1.
      classes: −1 where there is none; what is not in `categories`, which only a model can have that tells more classes
        apart than its data have, is left out, too.
      masks: of each box what cells of it are probably the object's, or None.
      size_in_canvas: (height, width) that the image has in the canvas, from the upper left.
      image_size: its own (height, width).
      categories: the data set's number of each class.

    Returns:
      For each detection `image_id`, `category_id`, `bbox` (x, y, width, height), `score` and, where there are masks,
      `segmentation`: a run-length encoding of the image's size.
    """
    height, width = image_size
    stretch_y, stretch_x = height / size_in_canvas[0], width / size_in_canvas[1]
    scale = np.array([stretch_x, stretch_y, stretch_x, stretch_y])
    # The canvas' pixels are float32: a box at the image's border may end up a little outside of it.
    placed = np.clip(boxes.astype(np.float64) * scale, 0, np.array([width, height, width, height]))
    results = []
    for index in np.flatnonzero((classes >= 0) & (classes < len(categories))):
        x1, y1, x2, y2 = placed[index].tolist()
        result = {
            "image_id": image_id,
            "category_id": int(categories[classes[index]]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(scores[index]),
        }
        if masks is not None:
            result["segmentation"] = _encode(paste(masks[index].astype(np.float32), placed[index], height, width))
        results.append(result)
    return results


def _encode(mask: np.ndarray) -> dict[str, Any]:
    """A mask's run-length encoding, as JSON takes it."""
    # Not above: who only trains RetinaNet does without it.
    from pycocotools.mask import encode

    encoded = encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}
