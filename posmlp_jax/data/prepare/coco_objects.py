"""One object of COCO's JSON: its box, its area, and its mask as polygons or run lengths."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from posmlp_jax.data.prepare.annotated_images import AnnotatedImage
from posmlp_jax.errors import DataError

# COCO's own boxes reach up to a pixel out of their images, by rounding.
_TOLERANCE = 1.0
# Where more boxes than this reach out by a larger share of their image, they are no boxes of it.
_MOST_OUTSIDE = 0.1
_FAR = 0.02
_MOST = 1e9
_NOTES = {
    "zero": "numbered anew for the metric, to which an object of id 0 is one that was not found: {found}",
    "empty": "left out, as the box has no width or no height: {found}",
    "outside": "used with a box that reaches more than a pixel out of the image: {found}",
    "area": "given the area of the mask or else of the box, for want of another: {found}",
    "box": "given the box of the mask, for want of another: {found}",
    "short": "used without a polygon of fewer than three points, besides which there are others: {found}",
}

Box = tuple[float, float, float, float]
Segmentation = list[list[float]] | dict[str, Any] | None


class Noted:
    """What is odd but used, and how often.

    Attributes:
      lines: other things to say.
    """

    def __init__(self):
        self._found: dict[str, list] = {}
        self.lines: list[str] = []

    def add(self, kind: str, example: str) -> None:
        """One more of a kind, one of _NOTES."""
        self._found.setdefault(kind, [0, example])[0] += 1

    def describe(self) -> list[str]:
        """A line for each kind, and the other lines."""
        lines = []
        for kind, (count, first) in self._found.items():
            found = first if count == 1 else f"{count} objects, the first of which is {first}"
            lines.append(_NOTES[kind].format(found=found))
        return lines + self.lines


def read_box(entry: Mapping[str, Any], image: AnnotatedImage, at: str, noted: Noted) -> Box:
    """The box of an annotation, [x, y, width, height]; that of its mask where it has none."""
    box = entry.get("bbox")
    if not box and (segmentation := read_segmentation(entry, image, at, Noted())):
        from pycocotools import mask as coco

        noted.add("box", _name(at))
        return tuple(coco.toBbox(_run_lengths(segmentation, image)).tolist())
    if not isinstance(box, list) or len(box) != 4 or not _are_numbers(box):
        raise DataError(f"{at}: bbox should be four numbers, [x, y, width, height], and is {short(box)}")
    if min(box[2:]) < 0:
        raise DataError(f"{at}: bbox {_numbers(box)} has a negative width or height; it is [x, y, width, height]")
    return tuple(box)


def check_boxes(
    boxes: Sequence[Box], sizes: Sequence[tuple[int, int]], names: Sequence[str], where: str, noted: Noted
) -> None:
    """Makes sure that all boxes of a file can be of its images.

    Args:
      boxes: [x, y, width, height], each.
      sizes: (height, width) of each one's image.
      names: of the annotations.
      where: the file.
      noted: takes what is odd and used.

    Raises:
      DataError: when there are boxes outside of their images, or many that reach out of them.
    """
    x, y, width, height = np.array(boxes, np.float64).T
    image_height, image_width = np.array(sizes, np.float64).T
    empty = (width == 0) | (height == 0)
    out_x, out_y = np.maximum(-x, x + width - image_width), np.maximum(-y, y + height - image_height)
    out = (out_x > _TOLERANCE) | (out_y > _TOLERANCE)
    far = (out_x > _TOLERANCE + _FAR * image_width) | (out_y > _TOLERANCE + _FAR * image_height)
    if len(boxes) > 1 and np.max([x + width, y + height]) <= 1 and min(image_height.min(), image_width.min()) > 1:
        raise DataError(f"{where}: the boxes are parts of their images, as {_numbers(boxes[0])}; COCO's are in pixels")
    if far.mean() > _MOST_OUTSIDE:
        first = int(np.argmax(far))
        corners = (width > x) & (height > y) & (width <= image_width + 1) & (height <= image_height + 1)
        mistake = (
            "they look like [x1, y1, x2, y2], and should be [x, y, width, height]"
            if (corners | empty).all()
            else "they should be [x, y, width, height] in pixels of the images that the file gives the sizes of"
        )
        raise DataError(
            f"{where}: {int(far.sum())} of {len(boxes)} boxes reach out of their images, as {_name(names[first])} "
            f"with {_numbers(boxes[first])} in {int(image_width[first])}×{int(image_height[first])} pixels: {mistake}"
        )
    outside = ~empty & ((x >= image_width) | (y >= image_height) | (x + width <= 0) | (y + height <= 0))
    if outside.any():
        first = int(np.argmax(outside))
        raise DataError(
            f"{names[first]}: bbox {_numbers(boxes[first])} is outside of its image of {int(image_width[first])}×"
            f"{int(image_height[first])} pixels"
        )
    for kind, which in (("empty", empty), ("outside", out & ~empty)):
        for number in np.flatnonzero(which):
            noted.add(kind, _name(names[number]))


def check_corners(objects: Sequence[tuple[Mapping[str, Any], str]], where: str) -> None:
    """Makes sure that boxes are no corners, which small objects in the upper left would not show by their boxes alone.

    Args:
      objects: by `read_object`, and their annotations' names. Those with polygons say where they reach.
      where: the file.

    Raises:
      DataError: when most polygons reach from the box's first two numbers to its other two.
    """
    outlined = [(each, at) for each, at in objects if isinstance(each["segmentation"], list)]
    boxes = np.array([each["bbox"] for each, _ in outlined], np.float64).reshape(-1, 4)
    extents = np.array([_extent(each["segmentation"]) for each, _ in outlined], np.float64).reshape(-1, 4)
    ends = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    as_corners, as_sizes = (np.abs(each - extents).max(axis=1, initial=0) for each in (boxes, ends))
    wrong = (as_corners <= _TOLERANCE) & (as_sizes > 2 * _TOLERANCE)
    if len(wrong) and wrong.mean() > 0.5:
        first = int(np.argmax(wrong))
        raise DataError(
            f"{where}: {int(wrong.sum())} of {len(wrong)} boxes are [x1, y1, x2, y2] by their polygons, as "
            f"{_name(outlined[first][1])} with {_numbers(boxes[first])}; they should be [x, y, width, height]"
        )


def read_object(entry: Mapping[str, Any], box: Box, image: AnnotatedImage, at: str, noted: Noted) -> dict[str, Any]:
    """An annotation as `AnnotatedImage` has them."""
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise DataError(f"{at}: iscrowd should be 0 or 1, and is {short(crowd)}")
    segmentation = read_segmentation(entry, image, at, noted)
    if isinstance(segmentation, list) and not _meet(segmentation, box):
        raise DataError(f"{at}: the polygons lie outside of the object's box {_numbers(box)}")
    area = entry.get("area")
    if area is not None and (not _are_numbers([area]) or area < 0):
        raise DataError(f"{at}: area should be a number of pixels, and is {short(area)}")
    if not area:
        noted.add("area", _name(at))
        area = _area(segmentation, box, image)
    return {
        "id": entry["id"],
        "category_id": entry["category_id"],
        "bbox": list(box),
        "area": area,
        "iscrowd": int(crowd),
        "segmentation": segmentation,
    }


def read_segmentation(entry: Mapping[str, Any], image: AnnotatedImage, at: str, noted: Noted) -> Segmentation:
    """Polygons, or run lengths in their compressed form; None where there is nothing."""
    given = entry.get("segmentation")
    # Some write an empty polygon for what has only a box.
    if not given or given == [[]]:
        return None
    if isinstance(given, dict):
        return _compressed(given, image, at)
    if not isinstance(given, list):
        raise DataError(f"{at}: segmentation should be a list of polygons, or run lengths, and is {short(given)}")
    if _are_numbers(given):
        raise DataError(f"{at}: segmentation should be a list of polygons, [[x, y, x, y, …], …], and is one of numbers")
    for polygon in given:
        if not isinstance(polygon, list) or not _are_numbers(polygon):
            raise DataError(f"{at}: a polygon should be numbers, [x, y, x, y, …], and is {short(polygon)}")
        # Whoever draws a polygon goes along all of it, also where that is far away.
        if not -max(image.size) <= min(polygon, default=0) <= max(polygon, default=0) <= 2 * max(image.size):
            raise DataError(f"{at}: a polygon reaches far out of its image of {image.size[1]}×{image.size[0]} pixels")
    whole = [polygon for polygon in given if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if not whole:
        raise DataError(
            f"{at}: a polygon has {len(given[0])} numbers, and should have an even number of at least 6: x and y of "
            "three points"
        )
    if len(whole) < len(given):
        noted.add("short", _name(at))
    return whole


def _compressed(given: Mapping[str, Any], image: AnnotatedImage, at: str) -> dict[str, Any]:
    from pycocotools import mask as coco

    size, counts = given.get("size"), given.get("counts")
    height, width = image.size
    if size != [height, width]:
        raise DataError(
            f"{at}: the run lengths are of a mask of size {short(size)}, and should be of the image's [height, width], "
            f"[{height}, {width}]"
        )
    runs = decode_counts(counts) if isinstance(counts, str) else counts
    good = isinstance(runs, list) and all(isinstance(run, int) and run >= 0 for run in runs)
    if not good or sum(runs) != height * width:
        found = f", and sum up to {short(sum(runs))}" if good else ""
        raise DataError(f"{at}: the run lengths are broken: they should count {height * width} pixels{found}")
    if isinstance(counts, list):
        counts = coco.frPyObjects({"size": size, "counts": counts}, height, width)["counts"].decode()
    return {"size": [height, width], "counts": counts}


def decode_counts(text: str) -> list[int] | None:
    """The run lengths of compressed RLE, or None where the text breaks off or has other characters.

    Each is a number of base 32, lowest digits first, in characters from '0' on: 32 is added where another digit
    follows, and 16 in the last digit is the sign. From the fourth on they are differences to the one before the last.
    pycocotools itself reads on behind the end of a text that breaks off.
    """
    runs: list[int] = []
    value = shift = 0
    for digit in (ord(character) - 48 for character in text):
        if not 0 <= digit < 64:
            return None
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return None if shift else runs


def _extent(polygons: list[list[float]]) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2: how far polygons reach."""
    return tuple(fold(fold(polygon[axis::2]) for polygon in polygons) for fold in (min, max) for axis in (0, 1))


def _meet(polygons: list[list[float]], box: Box) -> bool:
    """Whether polygons are where a box is, but for rounding: otherwise they are in other units or of another object."""
    extent = _extent(polygons)
    return all(
        extent[axis] <= box[axis] + box[axis + 2] + _TOLERANCE and extent[axis + 2] >= box[axis] - _TOLERANCE
        for axis in (0, 1)
    )


def _area(segmentation: Segmentation, box: Box, image: AnnotatedImage) -> float:
    from pycocotools import mask as coco

    masked = int(coco.area(_run_lengths(segmentation, image))) if segmentation else 0
    return masked or box[2] * box[3]


def _run_lengths(segmentation: Segmentation, image: AnnotatedImage) -> dict[str, Any]:
    from pycocotools import mask as coco

    return segmentation if isinstance(segmentation, dict) else coco.merge(coco.frPyObjects(segmentation, *image.size))


def _are_numbers(values: list) -> bool:
    """Of a size that has a meaning in pixels: neither NaN nor infinite."""
    if not set(map(type, values)) <= {int, float}:
        return False
    if not (min(values, default=0) > -_MOST and max(values, default=0) < _MOST):
        return False
    total = sum(values)
    return total == total  # NaN, which is no number's equal, hides from the others.


def short(value: Any) -> str:
    """What a JSON has in the place of something else, for a message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _numbers(box: Box) -> str:
    return f"[{', '.join(f'{value:g}' for value in box)}]"


def _name(at: str) -> str:
    """The annotation without the file: "annotation 918"."""
    return at.rpartition(": ")[2]
