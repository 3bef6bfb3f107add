"""Boxes are where the ink is that they were drawn around, whatever augmentation and evaluation make of the frames."""

import io
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from posmlp_jax.data import Source, eval_batches, train_batches
from posmlp_jax.data.augment.placement import Placement, cut_out, mirror
from posmlp_jax.data.decoding.encoded_video import EncodedVideo
from posmlp_jax.data.sources.key_frames import ActionBoxes
from posmlp_jax.errors import ConfigError
from posmlp_jax.tasks.action_detection.targets import ActionTargets
from posmlp_jax.training import default_config

SIZES = [(61, 97), (97, 61), (90, 120), (201, 143)]
NAMES = ("wave left", "jump", "wave right")


def encoded(frame: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, form, **({"quality": 100} if form == "jpeg" else {}))
    return buffer.getvalue()


class Rectangles(Source):
    """Films of white rectangles on black, one each, of several sizes; beside each box one that is nowhere seen."""

    kind, generated, description = "video", False, "rectangles"
    class_names, num_classes = NAMES, 3

    def __init__(self, form: str, count: int = 48, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.sizes = np.array([SIZES[i % len(SIZES)] for i in range(count)])
        self._films, self._boxes = [], []
        for height, width in self.sizes.tolist():
            # Away from the edges, which the crop 'pad' reflects.
            top, left = rng.integers(height // 6, height // 2), rng.integers(width // 6, width // 2)
            bottom, right = rng.integers(top + 8, height - height // 6), rng.integers(left + 8, width - width // 6)
            frame = np.zeros((height, width, 3), np.uint8)
            frame[top:bottom, left:right] = 255
            self._films.append((encoded(frame, form),) * 2)
            self._boxes.append(np.array([left / width, top / height, right / width, bottom / height]))

    def __len__(self) -> int:
        return len(self._films)

    def read(self, index: int):
        outside = np.array([1.2, 0.1, 1.4, 0.5])
        boxes = ActionBoxes(
            np.stack([outside, self._boxes[index]]), np.array([[0, 1, 0], [1, 1, 0]], bool), np.array([0.9, 1.0])
        )
        return EncodedVideo(self._films[index], 2, 30.0, str(index)), boxes

    def example_id(self, index: int) -> str:
        return f"rectangle {index}"


def ink(frame: np.ndarray) -> np.ndarray:
    """What a frame shows of its rectangle: x1, y1, x2, y2; NaN where nothing is seen of it."""
    bright = (frame > 127).all(-1)
    if not bright.any():
        return np.full(4, np.nan)
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def compare(batch) -> int:
    """How many boxes were seen; fails when one is not round its ink."""
    count = 0
    for row in range(len(batch["image"])):
        (height, width), boxes = batch["size"][row], batch["boxes"][row]
        assert not batch["image"][row][:, height:].any()
        assert not batch["image"][row][:, :, width:].any()
        assert batch["valid"][row].tolist() in ([0, 1, 0], [0, 0, 0])
        assert (boxes >= 0).all()
        assert (boxes[:, [0, 2]] <= width).all()
        assert (boxes[:, [1, 3]] <= height).all()
        for frame in batch["image"][row]:
            found = ink(frame)
            if batch["valid"][row, 1] and (boxes[1, 2:] - boxes[1, :2]).min() > 1:
                np.testing.assert_allclose(boxes[1], found, atol=1.0)
                count += 1
            elif not np.isnan(found).any():
                assert (found[2:] - found[:2]).min() <= 1
    return count


@pytest.mark.parametrize("form", ["png", "jpeg"])
@pytest.mark.parametrize(
    "changes",
    [
        {"crop": "scaled"},
        {"crop": "scaled", "flip": False, "augment": "none"},
        {"crop": "pad", "crop_padding": 5},
        {"crop": "random_resized", "crop_scale": (0.3, 1.0)},
        {"crop": "resize"},
        {"crop": "fit", "canvases": ((50, 70), (70, 50)), "short_side": 0},
    ],
)
def test_boxes_in_training_are_round_their_ink(form, changes):
    source, config = Rectangles(form), default_config("posmlp_video_s").data
    config.update(scale_sides=(45, 64), threads=0, flip_label_pairs=(("wave left", "wave right"),), **changes)
    sizes = [(2, *size) for size in config.canvases] or [(2, 44, 39)]
    targets, mirrored = ActionTargets(source, 3, config.flip_label_pairs), set()
    with closing(train_batches(source, config, sizes, batch_size=48, seed=1, targets=targets)) as batches:
        for _ in range(2):
            batch = next(batches)
            assert compare(batch) > 60
            assert batch["labels"][:, 0].tolist() == [[0, 1, 0]] * 48
            mirrored |= set(map(tuple, batch["labels"][:, 1].tolist()))
    unmirrored = config.augment == "none" or not config.flip
    assert mirrored == {(1, 1, 0)} if unmirrored else {(1, 1, 0), (0, 1, 1)}


@pytest.mark.parametrize("limits", [(0, 0), (40, 70)])
def test_boxes_in_evaluation_are_round_their_ink(limits):
    source, config = Rectangles("png"), default_config("posmlp_video_s").data
    config.update(crop="scaled", threads=0, canvases=((48, 72), (72, 48)), short_side=limits[0], long_side=limits[1])
    sizes, seen, shapes = [(2, *size) for size in config.canvases], [], set()
    with closing(eval_batches(source, config, sizes, batch_size=10, targets=ActionTargets(source, 3))) as batches:
        for batch in batches:
            there = batch["weight"] > 0
            seen += batch["index"][there].tolist()
            shapes.add(batch["image"].shape[2:4])
            assert compare({name: values[there] for name, values in batch.items()}) == 2 * there.sum()
    assert sorted(seen) == list(range(48))
    assert shapes == {(48, 72), (72, 48)}


def test_of_too_many_boxes_those_are_left_out_that_are_not_seen_and_then_the_smallest():
    source = Rectangles("png", count=1)
    boxes = np.array([[0.5, 0.5, 0.6, 0.6], [1.5, 0, 2, 1], [0.1, 0.1, 0.9, 0.9], [0.2, 0.2, 0.5, 0.5]])
    target = ActionBoxes(boxes, np.eye(4, 3, dtype=bool), np.ones(4))
    movement = cut_out((0, 0, 50, 100), (50, 100))
    placement = Placement.of((50, 100), movement, (50, 100))
    values = ActionTargets(source, 3)(target, placement)
    np.testing.assert_allclose(values["boxes"], boxes[[0, 2, 3]] * [100, 50, 100, 50], rtol=1e-6)
    assert values["valid"].tolist() == [1, 1, 1]
    np.testing.assert_allclose(ActionTargets(source, 2)(target, placement)["boxes"], values["boxes"][1:], rtol=1e-6)
    whole = ActionTargets(source, 5)(target, placement)
    assert whole["valid"].tolist() == [1, 0, 1, 1, 0]
    assert whole["labels"][:4].tolist() == np.eye(4, 3).tolist()
    turned = ActionTargets(source, 5)(target, Placement.of((50, 100), mirror(100) @ movement, (50, 100)))
    np.testing.assert_allclose(turned["boxes"][0], [40, 25, 50, 30], rtol=1e-6)
    with pytest.raises(ConfigError, match=r"no class of rectangles is called 'wave'; did you mean 'wave left'\?"):
        ActionTargets(source, 3, (("wave", "jump"),))
