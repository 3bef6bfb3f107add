"""What was found, as JSON has it, in the image's own pixels."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from posmlp_jax.detection.masks import paste
from posmlp_jax.tasks.detection.results import coco_results

# An image of 40×80 that was laid into a canvas at half its size.
SIZES = {"size_in_canvas": (20, 40), "image_size": (40, 80), "categories": (3, 17)}


def found(boxes, classes, masks=None, scores=None):
    scores = np.linspace(0.9, 0.5, len(boxes)) if scores is None else scores
    return coco_results(
        7, np.array(boxes, np.float32), np.array(scores, np.float32), np.array(classes, np.int32), masks, **SIZES
    )


def test_boxes_in_the_images_pixels_and_categories_of_the_data():
    results = found([[1, 2, 5, 10], [0, 0, 40.001, 20], [0, 0, 0, 0], [1, 1, 2, 2]], [1, 0, -1, 2])
    assert json.loads(json.dumps(results)) == results
    assert [(each["image_id"], each["category_id"]) for each in results] == [(7, 17), (7, 3)]
    assert results[0].keys() == {"image_id", "category_id", "bbox", "score"}
    assert results[0]["bbox"] == [2, 4, 8, 16]
    assert results[1]["bbox"] == [0, 0, 80, 40]  # Not a hair beyond the border.
    assert results[0]["score"] == float(np.float32(0.9))


def test_sides_are_stretched_each_by_its_own_factor():
    (result,) = coco_results(
        1,
        np.array([[3, 3, 9, 9]], np.float32),
        np.ones(1, np.float32),
        np.zeros(1, np.int32),
        None,
        size_in_canvas=(30, 50),
        image_size=(60, 99),
        categories=(1,),
    )
    assert result["bbox"] == pytest.approx([3 * 99 / 50, 6, 6 * 99 / 50, 12])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_mask_is_pasted_at_the_images_resolution(dtype):
    """Its left half is the object's, at twice the canvas' pixels."""
    mask = np.zeros((1, 4, 4), dtype)
    mask[:, :, :2] = 1
    (result,) = found([[10, 5, 20, 15]], [0], mask)
    assert result["segmentation"]["size"] == [40, 80]
    assert isinstance(result["segmentation"]["counts"], str)
    pixels = coco_mask.decode(result["segmentation"])
    np.testing.assert_array_equal(pixels, paste(mask[0].astype(np.float32), np.float64([20, 10, 40, 30]), 40, 80))
    ys, xs = np.nonzero(pixels)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (20, 29, 10, 29)


def test_nothing_found():
    assert found(np.zeros((0, 4)), np.zeros(0)) == []
