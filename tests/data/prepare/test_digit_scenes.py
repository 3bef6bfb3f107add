import numpy as np
import pytest
from pycocotools import mask as coco

from posmlp_jax.data import open_annotated
from posmlp_jax.data.decoding.images import decode
from posmlp_jax.data.prepare.datasets import digit_scenes, digits
from posmlp_jax.data.prepare.datasets.digit_scenes import SIZE, Thing, place_things, render, visible_masks
from posmlp_jax.data.prepare.outlines import bounding_box, outlines, run_lengths


def rasterised(segmentation: list | dict, height: int, width: int) -> np.ndarray:
    """What pycocotools makes of a segmentation of COCO's JSON."""
    if isinstance(segmentation, list):
        segmentation = coco.merge(coco.frPyObjects(segmentation, height, width))
    return coco.decode(segmentation).astype(bool)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_outlines_are_exactly_the_mask(share):
    """Of noise, which has holes in holes, and parts that touch at corners alone."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random(rng.integers(1, 14, 2)) < share
        polygons = outlines(mask)
        if not mask.any():
            assert polygons == []
            continue
        assert all(len(polygon) >= 8 and len(polygon) % 2 == 0 for polygon in polygons)
        np.testing.assert_array_equal(rasterised(polygons, *mask.shape), mask)
        np.testing.assert_array_equal(rasterised(run_lengths(mask), *mask.shape), mask)
        assert bounding_box(mask) == coco.toBbox(coco.encode(np.asfortranarray(mask, np.uint8))).tolist()


def test_outlines_of_a_ring():
    ring = np.ones((5, 6), bool)
    ring[2, 2:4] = False
    left, right = outlines(ring)
    assert left == [0, 0, 3, 0, 3, 2, 2, 2, 2, 3, 3, 3, 3, 5, 0, 5]
    assert right == [3, 0, 6, 0, 6, 5, 3, 5, 3, 3, 4, 3, 4, 2, 3, 2]


def test_what_is_drawn_later_covers_what_was_there():
    def thing(rows: slice, columns: slice) -> Thing:
        ink = np.zeros((SIZE, SIZE), np.float32)
        ink[rows, columns] = 1
        return Thing(0, ink, crowd=False)

    below, above = thing(slice(0, 20), slice(0, 20)), thing(slice(10, 30), slice(15, 40))
    first, second = visible_masks([below, above])
    assert first.sum() == 20 * 20 - 10 * 5
    assert second.sum() == 20 * 25
    picture = render(np.random.default_rng(0), [below, above]).astype(float)
    # Each has one colour, but for what the texture adds.
    assert picture[first].std(0).max() < 15
    assert picture[second].std(0).max() < 15
    assert picture[first].max(-1).min() > picture[~(first | second)].max(-1).mean()


def test_most_of_every_digit_is_visible():
    pixels, labels = digits.load()
    counts = []
    for seed in range(100):
        things = place_things(np.random.default_rng(seed), pixels, labels)
        for thing, visible in zip(things, visible_masks(things), strict=True):
            assert visible.sum() >= 0.7 * thing.mask.sum() > 0
        counts.append(sum(not thing.crowd for thing in things))
    assert sorted(set(counts)) == [0, 1, 2, 3, 4, 5]


def test_prepared_on_first_use(tmp_path, make_config, monkeypatch):
    monkeypatch.setattr(digit_scenes, "SCENES", {"train": 60, "validation": 40})
    config = make_config(name="digit_scenes", data_dir=str(tmp_path), eval_split="validation")
    train, validation = open_annotated(config, "train"), open_annotated(config, "eval")
    assert (len(validation), len(train) + train.left_out, validation.left_out) == (40, 60, 0)
    assert validation.class_names == tuple("0123456789")
    ids = [category.id for category in validation.categories]
    assert ids == sorted(ids) != list(range(1, 11))
    assert train.has_masks
    seen, crowds = [], 0
    for source in (train, validation):
        for index in range(len(source)):
            encoded, found = source[index]
            assert decode(encoded).shape == (SIZE, SIZE, 3)
            crowds += found.crowd.sum()
            seen += found.ids.tolist()
            for row, id in enumerate(found.ids):
                segmentation = found.segmentations[row]
                assert isinstance(segmentation, dict) == (found.crowd[row] or id % 3 == 0)
                mask = rasterised(segmentation, SIZE, SIZE)
                assert mask.sum() == found.areas[row]
                x1, y1, x2, y2 = found.boxes[row]
                assert bounding_box(mask) == [x1, y1, x2 - x1, y2 - y1]
    assert crowds > 3
    assert len(seen) == len(set(seen))
    assert min(seen) > 0


def test_scenes_of_validation_show_other_digits(monkeypatch):
    shown = {split: set() for split in digit_scenes.SCENES}
    ink = digit_scenes._ink
    for split, digits_of_it in shown.items():
        monkeypatch.setattr(
            digit_scenes,
            "_ink",
            lambda digit, *place, seen=digits_of_it: seen.add(digit.tobytes()) or ink(digit, *place),
        )
        for number in range(30):
            digit_scenes._scene(split, number)
    pixels, _ = digits.load()
    for split, part in (("train", "train"), ("validation", "test")):
        assert shown[split] <= {pixels[number].tobytes() for number in digits.split_indices()[part]}
        assert len(shown[split]) > 50


def test_the_scenes_are_always_the_same(monkeypatch):
    monkeypatch.setattr(digit_scenes, "SCENES", {"train": 4, "validation": 4})
    first, again = (
        [example for split in recipe.splits.values() for shard in split.shards for example in shard()]
        for recipe in (digit_scenes.build(None, "digit_scenes"), digit_scenes.build(None, "digit_scenes"))
    )
    assert first == again
    assert len({example["image"] for example in first}) == len({example["image_id"] for example in first}) == 8
