"""Targets drawn into a training batch."""

import numpy as np

from posmlp_jax.tasks.detection.illustration import illustrate_targets

NAMES = ("cat", "dog", "emu", "a_name_of_more_letters", "fox")


def batch_of(size: tuple[int, int], masks: bool) -> dict[str, np.ndarray]:
    """Two images: a dog in a quarter of the canvas, whose left half is its mask; and none."""
    height, width = size
    crop = np.zeros((112, 112), np.uint8)
    crop[:, :56] = 1
    batch = {
        "image": np.full((2, *size, 3), 100, np.uint8),
        "boxes": np.array([[[width / 2, height / 2, width, height], [0] * 4], [[0] * 4, [0] * 4]], np.float32),
        "classes": np.array([[1, -1], [-1, -1]], np.int32),
        "size": np.array([size, size], np.int32),
    }
    packed = np.stack([np.packbits(crop, axis=-1), np.zeros((112, 14), np.uint8)])
    return batch | ({"masks": np.stack([packed, np.zeros_like(packed)])} if masks else {})


def test_small_canvases_are_enlarged_and_large_ones_reduced():
    for size in ((64, 128), (800, 1600)):
        images, captions = illustrate_targets(batch_of(size, masks=True), NAMES)
        assert images.shape == (2, 128, 256, 3)
        assert captions == ["dog", "(no objects)"]
        assert (images[1] == 100).all()
        changed = (images[0] != 100).any(axis=-1)
        # The mask is in the left half of the box, which is the canvas's lower right quarter.
        assert changed[90:120, 135:188].all()
        assert not changed[90:125, 195:250].any()
        assert not changed[:40, :].any()


def test_boxes_alone():
    images, _ = illustrate_targets(batch_of((64, 128), masks=False), NAMES)
    changed = (images[0] != 100).any(axis=-1)
    assert changed[64:, 128].all()
    assert not changed[90:125, 135:250].any()


def test_captions_count():
    batch = batch_of((64, 128), masks=False)
    batch["boxes"] = np.tile(np.float32([1, 1, 5, 5]), (2, 6, 1))
    batch["classes"] = np.array([[1, 0, 1, -1, -1, -1], [3, 2, 1, 0, 4, 4]], np.int32)
    _, captions = illustrate_targets(batch, NAMES)
    assert captions == ["2 × dog, cat", "2 × fox, a_name_of_more_…, emu, 2 classes more"]
