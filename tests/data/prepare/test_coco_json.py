import json

import numpy as np
import pytest
from pycocotools import mask as masks

from posmlp_jax.data.prepare.coco_json import parse_instances
from posmlp_jax.data.prepare.coco_objects import decode_counts
from posmlp_jax.errors import DataError


def of(part: str, **changes):
    """What changes the first entry of a part; a value of None takes the key out."""

    def change(content: dict) -> None:
        content[part][0].update(changes)
        for key, value in changes.items():
            if value is None:
                del content[part][0][key]

    return change


def every_box(box: list[float]):
    def change(content: dict) -> None:
        for one in content["annotations"]:
            one.update(bbox=box, segmentation=[])

    return change


def every_outline(box: list[float], left: float, top: float, right: float, bottom: float):
    """Objects whose polygons are rectangles."""

    def change(content: dict) -> None:
        for one in content["annotations"]:
            one.update(bbox=box, segmentation=[[left, top, right, top, right, bottom, left, bottom]])

    return change


def twice(part: str):
    return lambda content: content[part].append(dict(content[part][0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: '{"images": [\n}', r"train.json is no JSON: line 2: Expecting value"),
        (lambda content: "[]", r"train.json should be an object with images, annotations, categories, and is \[\]"),
        (lambda content: '{"shapes": []}', "train.json is labelme's, one file for each image: export all of them"),
        (lambda content: content.pop("images") and "", "has no list 'images', .*; it has annotations, categories"),
        (lambda content: content.pop("annotations") and None, "has no list 'annotations', which COCO's instances have"),
        (lambda content: content.pop("categories") and None, "has no list 'categories', which COCO's instances have"),
        (lambda content: content["annotations"].clear(), "has no annotations: the list is empty"),
        (twice("images"), "image 1 is there twice, as a.jpg and a.jpg"),
        (twice("annotations"), "annotation 1 is there twice"),
        (twice("categories"), r"categories\[1\] 'größe' has the id 2, as 'größe' has"),
        (of("annotations", image_id=77), "annotation 1 is of the image 77, which there is none of in 'images'"),
        (of("annotations", category_id=1), "annotation 1 is of the category 1, which there is none of in 'categories'"),
        (of("annotations", id="1"), r'annotations\[0\]: id should be a whole number, and is "1"'),
        (of("images", id=None), r"images\[0\] has no id"),
        (of("images", height=None), "image 1 has no height"),
        (of("images", height=0), "image 1 is said to be 60×0 pixels: it should be at least 1, and at most"),
        (of("images", width=10**9), "image 1 is said to be 1000000000×40 pixels: it should be at least 1"),
        (lambda content: f'{{"images": [{"1" * 5000}]}}', "train.json is no JSON: Exceeds the limit"),
        (of("images", file_name=None), "image 1 has no file_name"),
        (of("images", file_name="b.jpg"), "image 2 is b.jpg, as image 1 is: all objects of a file belong to one image"),
        (of("annotations", bbox=[1, 2, float("nan"), 4]), r"bbox should be four numbers, .*\[1, 2, NaN, 4\]"),
        (of("annotations", bbox=[1, 2, 3]), r"annotation 1: bbox should be four numbers, \[x, y, width, height\]"),
        (of("annotations", bbox=None, segmentation=None), "annotation 1: bbox should be four numbers, .* and is null"),
        (of("annotations", bbox=[9, 9, -5, 3]), r"annotation 1: bbox \[9, 9, -5, 3\] has a negative width or height"),
        (every_box([30, 20, 50, 38]), r"3 of 3 boxes reach out .*annotation 1 .*: they look like \[x1, y1, x2, y2\]"),
        (every_box([200, 20, 50, 38]), "3 of 3 boxes reach out of their images, .* in pixels of the images that"),
        (every_outline([4, 5, 12, 14], 4, 5, 12, 14), r"3 of 3 boxes are \[x1, y1, x2, y2\] by their polygons"),
        (every_box([0.2, 0.3, 0.5, 0.5]), r"the boxes are parts of their images, as \[0.2, 0.3, 0.5, 0.5\]"),
        (of("annotations", bbox=[60, 2, 1, 1], segmentation=[]), r"annotation 1: bbox \[60, 2, 1, 1\] is outside of"),
        (of("annotations", segmentation=[[1, 2, 3, 4]]), "annotation 1: a polygon has 4 numbers, and should have"),
        (of("annotations", segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "annotation 1: a polygon has 7 numbers, and should"),
        (of("annotations", segmentation=[1, 2, 3, 4, 5, 6]), r"segmentation should be a list of polygons, \[\[x, y,"),
        (of("annotations", segmentation=[[1, 2, 3, "4", 5, 6]]), "annotation 1: a polygon should be numbers"),
        (of("annotations", segmentation=[[0.1, 0.2, 0.4, 0.2, 0.2, 0.5]]), "polygons lie outside of the object's box"),
        (of("annotations", segmentation=[[1, 2, 9e5, 4, 5, 6]]), "a polygon reaches far out of its image of 60×40"),
        (
            of("annotations", segmentation={"size": [60, 40], "counts": [2400]}),
            r"annotation 1: the run lengths are of a mask of size \[60, 40\], and should be of the image's ",
        ),
        (of("annotations", segmentation={"size": [40, 60], "counts": [99]}), "they should count 2400 pixels, and"),
        (of("annotations", segmentation={"size": [40, 60], "counts": "lW2T"}), "the run lengths are broken"),
        (of("annotations", segmentation={"counts": [2400]}), "the run lengths are of a mask of size null"),
        (of("annotations", iscrowd=7), "annotation 1: iscrowd should be 0 or 1, and is 7"),
        (of("annotations", area=-3), "annotation 1: area should be a number of pixels, and is -3"),
    ],
)  # fmt: skip
def test_json_that_cannot_be_used(own_json, change, message):
    content = own_json(["a.jpg", "b.jpg", "c.jpg"])
    text = change(content) or json.dumps(content)
    with pytest.raises(DataError, match=message) as error:
        parse_instances(text.encode(), "FOLDER/train.json")
    assert str(error.value).startswith("FOLDER/train.json")


def test_run_lengths_are_pycocotools_own():
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        for size in ((1, 1), (7, 9), (300, 400)):
            mask = np.asfortranarray(rng.random(size) < share, np.uint8)
            text = masks.encode(mask)["counts"].decode()
            runs = decode_counts(text)
            # With these runs a mask of zeros and ones, down the columns.
            values = np.repeat(np.arange(len(runs)) % 2, runs)
            np.testing.assert_array_equal(values.reshape(size, order="F"), mask)
            assert runs[-1] == 0 or decode_counts(text[:-1]) != runs
    assert decode_counts("lW2T") is None
    assert decode_counts("lW 2") is None
    assert decode_counts("") == []
