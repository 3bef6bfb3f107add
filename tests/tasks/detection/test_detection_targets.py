"""Boxes and masks of a detector's targets, against what is drawn into the images and comes out of the pipeline."""

import itertools
from contextlib import closing
from types import SimpleNamespace

import cv2
import jax
import numpy as np
import pytest
from pycocotools import mask as coco

from posmlp_jax.data import Source, eval_batches, train_batches
from posmlp_jax.data.augment.placement import Placement, cut_out, mirror
from posmlp_jax.data.sources.objects import Objects
from posmlp_jax.detection.masks import mask_targets
from posmlp_jax.detection.roi_align import roi_align
from posmlp_jax.errors import ConfigError, DataError
from posmlp_jax.tasks.detection.columns import SIDE
from posmlp_jax.tasks.detection.object_masks import crop_mask
from posmlp_jax.tasks.detection.targets import DetectionTargets
from posmlp_jax.training import default_config
from posmlp_jax.training.config import check_values

SIZES = ((60, 80), (83, 61), (40, 97))
CANVASES = ((96, 128), (128, 96))


def objects_of(polygons, size, *, boxes=None, crowd=None, as_rle=()) -> Objects:
    """Objects of one polygon each; those of `as_rle` have run lengths instead."""
    if boxes is None:
        boxes = [[*np.min(points, axis=0), *np.max(points, axis=0)] for points in polygons]
    count = len(boxes)
    segmentations = [[np.ravel(points).tolist()] for points in polygons] or [None] * count
    for number in as_rle:
        segmentations[number] = coco.merge(coco.frPyObjects(segmentations[number], *size))
    return Objects(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.arange(count),
        np.zeros(count, bool) if crowd is None else np.array(crowd),
        np.ones(count),
        np.arange(count),
        tuple(segmentations),
        size,
        7,
    )


class Triangles(Source):
    """Black images with a triangle in each channel, the second of them annotated by run lengths."""

    description, has_masks = "triangles", True

    def __init__(self, length: int = 24):
        self._length = length
        self.sizes = np.array([SIZES[index % 3] for index in range(length)])
        self.counts = np.full(length, 3)

    def __len__(self) -> int:
        return self._length

    def read(self, index: int):
        rng, size = np.random.default_rng(index), SIZES[index % 3]
        image, polygons = np.zeros((*size, 3), np.uint8), []
        for channel in range(3):
            corner = rng.uniform(1, np.array(size[::-1]) - 31)
            points = np.round(corner + rng.uniform([[0, 0], [22, 0], [0, 22]], [[8, 8], [30, 8], [8, 30]]))
            polygons.append(points)
            drawn = coco.decode(coco.merge(coco.frPyObjects([points.ravel().tolist()], *size)))
            image[..., channel] = 255 * drawn
        return image, objects_of(polygons, size, as_rle=(1,))

    def example_id(self, index: int) -> str:
        return f"triangle {index}"


def unpack(masks: np.ndarray) -> np.ndarray:
    return np.unpackbits(masks, axis=-1).astype(bool)


def check(image: np.ndarray, values: dict) -> None:
    """The ink of each channel is in its box and, within that, where the mask is."""
    height, width = values["size"]
    assert not image[height:].any()
    assert not image[:, width:].any()
    assert values["classes"].tolist() == [0, 1, 2, -1]
    assert not values["boxes"][3:].any()
    assert not values["masks"][3:].any()
    for channel, (box, mask) in enumerate(zip(values["boxes"][:3], unpack(values["masks"][:3]), strict=True)):
        ink = image[..., channel].astype(np.float64) / 255
        rows, columns = np.flatnonzero(ink.max(1) > 0.5), np.flatnonzero(ink.max(0) > 0.5)
        seen = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        # Tips are thin, and fade.
        np.testing.assert_allclose(seen, box, atol=3.2)
        (x1, y1, x2, y2), cells = box, (np.arange(SIDE) + 0.5) / SIDE
        samples = np.meshgrid(x1 + cells * (x2 - x1) - 0.5, y1 + cells * (y2 - y1) - 0.5)
        expected = cv2.remap(ink.astype(np.float32), *(grid.astype(np.float32) for grid in samples), cv2.INTER_LINEAR)
        # Half a pixel beside it would be less; of eight pixels, corners are a part.
        assert ((expected >= 0.5) & mask).sum() / ((expected >= 0.5) | mask).sum() > 0.88


@pytest.mark.parametrize(("canvases", "limits"), [(CANVASES, (0, 0)), (CANVASES, (90, 120)), (((48, 40),), (0, 0))])
def test_boxes_and_masks_are_where_the_ink_is(canvases, limits):
    """Larger and smaller than the images, mirrored or not, in training and in evaluation."""
    source = Triangles()
    config = default_config().data
    config.update(crop="fit", canvases=canvases, short_side=limits[0], long_side=limits[1], threads=0)
    targets, mirrored = DetectionTargets(source, 4, masks=True), []
    options = {"batch_size": 6, "targets": targets}
    with closing(train_batches(source, config, canvases, seed=0, **options)) as batches:
        for batch in itertools.islice(batches, 6):
            for row, index in enumerate(batch["index"]):
                values = {name: column[row] for name, column in batch.items()}
                check(values["image"], values)
                mirrored.append(_is_mirrored(values, source.read(index)[1]))
    assert 8 < sum(mirrored) < 28
    with closing(eval_batches(source, config, canvases, **options)) as batches:
        for batch in batches:
            for row in np.flatnonzero(batch["weight"]):
                values = {name: column[row] for name, column in batch.items()}
                check(values["image"], values)
                assert not _is_mirrored(values, source.read(values["index"])[1])


def _is_mirrored(values: dict, target: Objects) -> bool:
    """Boxes are exactly those of the image resized, or their mirror images."""
    (height, width), (h, w) = values["size"], target.size
    boxes = target.boxes * np.array([width / w, height / h] * 2)
    mirror_images = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=-1)
    found = values["boxes"][:3]
    if np.abs(found - boxes).max() < 1e-4:
        return False
    np.testing.assert_allclose(found, mirror_images, atol=1e-4)
    return True


def stars(count: int, size: tuple[int, int], seed: int, least: float, most: float) -> list[np.ndarray]:
    """Polygons of twelve corners at random distances from a centre."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        reach = rng.uniform(least, most)
        centre = rng.uniform(reach, np.array(size[::-1]) - reach)
        angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        found.append(centre + rng.uniform(0.4, 1, (12, 1)) * reach * np.stack([np.cos(angles), np.sin(angles)], -1))
    return found


def test_targets_from_crops_are_those_from_full_masks():
    """Of proposals around objects from 24 to 400 pixels: mean IoU of the 28² targets at least 0.99."""
    size, rng, ious = (480, 640), np.random.default_rng(1), []

    @jax.jit
    def aligned(mask, regions):
        return roi_align(mask[..., None], regions, 28, 1.0)[..., 0] >= 0.5

    targets = jax.jit(mask_targets, static_argnums=3)
    for seed, (least, most) in enumerate([(12, 30), (30, 90), (90, 200)]):
        for number, points in enumerate(stars(20, size, seed, least, most)):
            target = objects_of([points], size, as_rle=(0,) if number % 2 else ())
            box, extent = target.boxes[0], np.tile(target.boxes[0, 2:] - target.boxes[0, :2], 2)
            regions = np.float32(np.clip(box + rng.uniform(-0.15, 0.15, (4, 4)) * extent, 0, [640, 480] * 2))
            full = coco.decode(coco.merge(coco.frPyObjects([points.ravel().tolist()], *size)))
            crop = crop_mask(target.segmentations[0], box, size)
            ours = targets(np.stack([crop] * 4), np.float32(np.stack([box] * 4)), regions, 28)
            theirs = aligned(np.float32(full), regions)
            ours, theirs = np.asarray(ours) > 0, np.asarray(theirs)
            ious += ((ours & theirs).sum((1, 2)) / (ours | theirs).sum((1, 2))).tolist()
    assert np.mean(ious) > 0.99
    assert np.percentile(ious, 1) > 0.95


def placement_of(size, fitted, mirrored=False) -> Placement:
    movement = cut_out((0, 0, *size), fitted)
    return Placement.of(size, mirror(fitted[1]) @ movement if mirrored else movement, fitted)


def test_what_is_no_target():
    """Crowds, empty boxes, what is outside of the image, and the smallest of too many."""
    source = SimpleNamespace(has_masks=False)
    boxes = [[0, 0, 9, 9], [5, 5, 5, 20], [30, 5, 60, 9], [2, 2, 8, 4], [-3, -3, 4, 60], [25, 0, 30, 1], [0, 0, 1, 1]]
    target = objects_of([], (40, 30), boxes=boxes, crowd=[True] + 6 * [False])
    values = DetectionTargets(source, 2, masks=False)(target, placement_of((40, 30), (80, 60)))
    assert set(values) == {"size", "boxes", "classes"}
    assert values["size"].tolist() == [80, 60]
    assert values["classes"].tolist() == [3, 4]
    np.testing.assert_array_equal(values["boxes"], [[4, 4, 16, 8], [0, 0, 8, 80]])
    values = DetectionTargets(source, 8, masks=False)(target, placement_of((40, 30), (80, 60), mirrored=True))
    assert values["classes"].tolist() == [3, 4, 5, 6, -1, -1, -1, -1]
    np.testing.assert_array_equal(values["boxes"][:3], [[44, 4, 56, 8], [52, 0, 60, 80], [0, 0, 10, 2]])
    empty = objects_of([], (40, 30), boxes=[])
    values = DetectionTargets(source, 3, masks=False)(empty, placement_of((40, 30), (80, 60)))
    assert values["classes"].tolist() == [-1, -1, -1]


def test_a_mirror_exchanges_classes_that_have_a_side():
    names = ("left hand", "head", "right hand")
    source = SimpleNamespace(has_masks=False, num_classes=3, class_names=names, generated=False, description="boxes")
    target = objects_of([], (40, 30), boxes=[[0, 0, 9, 9], [5, 5, 9, 20], [10, 5, 20, 9]])
    targets = DetectionTargets(source, 4, masks=False, label_pairs=(("left hand", "right hand"),))
    assert targets(target, placement_of((40, 30), (80, 60)))["classes"].tolist() == [0, 1, 2, -1]
    assert targets(target, placement_of((40, 30), (80, 60), mirrored=True))["classes"].tolist() == [2, 1, 0, -1]
    with pytest.raises(ConfigError, match="no class of boxes is called 'left'"):
        DetectionTargets(source, 4, masks=False, label_pairs=(("left", "right hand"),))


def test_no_object_is_turned():
    config = default_config("retinanet_posmlp_t", "detection")
    config.data.update(crop="fit", randaugment="rand-m6-n3")
    with pytest.raises(ConfigError, match=r"^data\.randaugment is 'rand-m6-n3', which turns and shears"):
        check_values(config)


def test_masks_are_needed():
    with pytest.raises(DataError, match="not all objects have masks, which Mask R-CNN learns from: boxes; a RetinaNet"):
        DetectionTargets(SimpleNamespace(has_masks=False, description="boxes"), 3, masks=True)
