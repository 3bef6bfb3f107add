"""COCO's instances JSON, read and checked: its images, categories and objects.

What makes no sense is a DataError, which names the file and the entry. What COCO's own files have, or does no harm, is
used, and `Instances.notes` has a line of it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from posmlp_jax.data.decoding.images import MAX_PIXELS
from posmlp_jax.data.prepare.annotated_images import AnnotatedImage
from posmlp_jax.data.prepare.coco_objects import Noted, check_boxes, check_corners, read_box, read_object, short
from posmlp_jax.data.sources.objects import Category
from posmlp_jax.errors import DataError

_PARTS = ("images", "annotations", "categories")


@dataclasses.dataclass(frozen=True)
class Instances:
    """What a file says.

    Attributes:
      where: its name, for messages.
      categories: all, in the file's order.
      images: all, in the file's order, with their objects.
      notes: lines about what is odd in it, and what was made of that.
      digest: of the file's bytes.
    """

    where: str
    categories: tuple[Category, ...]
    images: tuple[AnnotatedImage, ...]
    notes: tuple[str, ...]
    digest: str


def parse_instances(data: bytes, where: str) -> Instances:
    """Reads and checks the bytes of a file.

    Raises:
      DataError: for bytes that are no such JSON, and for the first entry that cannot be used.
    """
    content = _load(data, where)
    categories = _categories(content["categories"], where)
    images = _images(content["images"], where)
    objects, notes = _objects(content["annotations"], images, categories, where)
    return Instances(
        where=where,
        categories=tuple(Category(id, name) for id, name in categories.items()),
        images=tuple(dataclasses.replace(image, annotations=objects.get(id, ())) for id, image in images.items()),
        notes=notes,
        digest=hashlib.sha256(data).hexdigest(),
    )


def _load(data: bytes, where: str) -> dict[str, list[dict]]:
    try:
        content = json.loads(data)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is no JSON: line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # No text, a number of thousands of digits, or lists in lists.
        raise DataError(f"{where} is no JSON: {error}") from error
    if isinstance(content, dict) and "shapes" in content:
        raise DataError(f"{where} is labelme's, one file for each image: export all of them as one COCO JSON")
    if not isinstance(content, dict):
        raise DataError(f"{where} should be an object with {', '.join(_PARTS)}, and is {short(content)}")
    for part in _PARTS:
        if not isinstance(content.get(part), list):
            raise DataError(
                f"{where} has no list '{part}', which COCO's instances have besides "
                f"{' and '.join(other for other in _PARTS if other != part)}; it has {', '.join(content) or 'nothing'}"
            )
        if not content[part]:
            raise DataError(f"{where} has no {part}: the list is empty")
        for number, entry in enumerate(content[part]):
            if not isinstance(entry, dict):
                raise DataError(f"{where}: {part}[{number}] should be an object, and is {short(entry)}")
    return content


def _categories(entries: Sequence[dict], where: str) -> dict[int, str]:
    """Names by id."""
    categories: dict[int, str] = {}
    for number, entry in enumerate(entries):
        at = f"{where}: categories[{number}]"
        id = whole(entry, "id", at)
        if not isinstance(entry.get("name"), str) or not entry["name"].strip():
            raise DataError(f"{at} has no name")
        if id in categories:
            raise DataError(f"{at} '{entry['name']}' has the id {id}, as '{categories[id]}' has")
        categories[id] = entry["name"]
    return categories


def _images(entries: Sequence[dict], where: str) -> dict[int, AnnotatedImage]:
    """Images, without their objects, by id."""
    images: dict[int, AnnotatedImage] = {}
    names: dict[str, int] = {}
    for number, entry in enumerate(entries):
        id = whole(entry, "id", f"{where}: images[{number}]")
        at = f"{where}: image {id}"
        if id in images:
            raise DataError(f"{at} is there twice, as {images[id].file_name} and {entry.get('file_name')}")
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            raise DataError(f"{at} has no file_name")
        if name in names:
            raise DataError(f"{at} is {name}, as image {names[name]} is: all objects of a file belong to one image id")
        height, width = (whole(entry, side, at) for side in ("height", "width"))
        if min(height, width) < 1 or height * width > MAX_PIXELS:
            raise DataError(
                f"{at} is said to be {width}×{height} pixels: it should be at least 1, and at most {MAX_PIXELS:,}"
            )
        images[id], names[name] = AnnotatedImage(id, name, (height, width), ()), id
    return images


def _objects(
    entries: Sequence[dict], images: Mapping[int, AnnotatedImage], categories: Mapping[int, str], where: str
) -> tuple[dict[int, list[dict[str, Any]]], tuple[str, ...]]:
    """The objects by their image's id, and what there is to say of them."""
    noted = Noted()
    ids: set[int] = set()
    located = []
    for number, entry in enumerate(entries):
        id = whole(entry, "id", f"{where}: annotations[{number}]")
        at = f"{where}: annotation {id}"
        if id in ids:
            raise DataError(f"{at} is there twice")
        ids.add(id)
        image_id, category_id = (whole(entry, key, at) for key in ("image_id", "category_id"))
        if image_id not in images:
            raise DataError(f"{at} is of the image {image_id}, which there is none of in 'images'")
        if category_id not in categories:
            raise DataError(f"{at} is of the category {category_id}, which there is none of in 'categories'")
        located.append((entry | {"id": id, "category_id": category_id}, images[image_id], at))
    boxes = [read_box(*each, noted) for each in located]
    check_boxes(boxes, [image.size for _, image, _ in located], [at for *_, at in located], where, noted)
    objects: dict[int, list[dict[str, Any]]] = {}
    named, without_mask = [], 0
    checked = tqdm(located, desc="checking annotations", unit_scale=True, delay=1, leave=False)
    for (entry, image, at), box in zip(checked, boxes, strict=True):
        if min(box[2:]) == 0:
            continue
        found = read_object(entry, box, image, at, noted)
        objects.setdefault(image.id, []).append(found)
        named.append((found, at))
        without_mask += found["segmentation"] is None and not found["iscrowd"]
    check_corners(named, where)
    if not objects:
        raise DataError(f"{where}: no annotation has a box of any width and height")
    if 0 in ids:
        noted.add("zero", "annotation 0")
    total = sum(not one["iscrowd"] for listed in objects.values() for one in listed)
    if without_mask:
        count = "no object has" if without_mask == total else f"{without_mask} of {total} objects have no"
        noted.lines.append(f"{count} segmentation: there are boxes to learn, and no masks")
    return objects, tuple(f"{where}: {line}" for line in noted.describe())


def whole(entry: Mapping[str, Any], key: str, at: str) -> int:
    """A whole number of an entry; `1.0` is one, too. Raises a DataError that begins with `at` where it is none."""
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    if key not in entry:
        raise DataError(f"{at} has no {key}")
    raise DataError(f"{at}: {key} should be a whole number, and is {short(value)}")
