"""All frames of a clip are augmented alike, and as images; classes that mirroring exchanges."""

import copy

import numpy as np
import pytest
from PIL import Image

from posmlp_jax.data import transforms
from posmlp_jax.data.augmentation import CROPS, Augmentation
from posmlp_jax.data.flipped_labels import flipped_labels
from posmlp_jax.data.randaugment import OPERATIONS, RandAugment
from posmlp_jax.data.source import Source
from posmlp_jax.errors import ConfigError
from posmlp_jax.training import default_config

SIZE = (24, 20)
RECIPES = (
    {},
    {"randaugment": "rand-m7-n4-mstd0.5-inc1-p1", "erasing_probability": 0.8, "erasing_count": 2},
    {"color_jitter": 0.4, "erasing_probability": 0.8, "erasing_mode": "const"},
    {"augment": "none"},
)


def augmentation(**changes) -> Augmentation:
    config = default_config().data
    config.update(changes)
    return Augmentation(config, SIZE)


def fill(augment, pixels, rng) -> tuple[np.ndarray, bool]:
    out = np.empty((*pixels.shape[:-3], *SIZE, 3), np.uint8)
    return out, augment.fill(out, pixels, rng)


@pytest.fixture(scope="module")
def frames(picture):
    """Frames of very different contents: colour operations that look at a picture do other things to each."""
    clip = np.stack([picture(40, 48, seed) for seed in range(5)])
    clip[1], clip[2, :, :24], clip[3] = 0, 255, clip[3] // 4 + 100
    return clip


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("changes", RECIPES)
def test_a_frame_is_the_image_that_the_clips_numbers_give(frames, crop, changes):
    augment = augmentation(crop=crop, **changes)
    flips = []
    for seed in range(30):
        rng = np.random.Generator(np.random.Philox(seed))
        wanted = [augment(frame, copy.deepcopy(rng)) for frame in frames]
        after = copy.deepcopy(rng)
        augment(frames[0], after)
        clip, flipped = fill(augment, frames, rng)
        np.testing.assert_array_equal(clip, wanted)
        flips.append(flipped)
        # As much is drawn for a clip as for an image, so that the next draw is another one.
        assert rng.random() == after.random()
    assert len(set(flips)) == (1 if changes.get("augment") == "none" else 2)


@pytest.mark.parametrize("changes", RECIPES)
def test_equal_frames_stay_equal(picture, changes):
    still = np.stack([picture(40, 48)] * 4)
    augment, results = augmentation(**changes), set()
    for seed in range(20):
        clip, _ = fill(augment, still, np.random.default_rng(seed))
        assert (clip == clip[0]).all()
        results.add(clip.tobytes())
    assert len(results) == (1 if changes.get("augment") == "none" else 20)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_operation_draws_by_what_it_sees(frames, operation, monkeypatch):
    monkeypatch.setattr("posmlp_jax.data.randaugment.OPERATIONS", (operation,))
    randaugment = RandAugment.from_string("rand-m7-n2-mstd0.5-inc1-p1")
    for seed in range(10):
        after = set()
        for frame in frames:
            rng = np.random.default_rng(seed)
            randaugment(frame, rng)
            after.add(rng.random())
        assert len(after) == 1


def test_an_image_is_filled_in_as_it_is_augmented(frames):
    augment = augmentation(**RECIPES[1])
    for seed in range(10):
        image, flipped = fill(augment, frames[0], np.random.default_rng(seed))
        np.testing.assert_array_equal(image, augment(frames[0], np.random.default_rng(seed)))
    plain = augmentation(crop="resize")
    for seed in range(10):
        image, flipped = fill(plain, frames[0], np.random.default_rng(seed))
        unflipped = transforms.resize(frames[0], SIZE)
        np.testing.assert_array_equal(image, unflipped[:, ::-1] if flipped else unflipped)


class Classes(Source):
    def __init__(self, names, count=None):
        self.class_names, self.num_classes, self.description = names, count or len(names), "classes"

    def __len__(self):
        return 0

    def read(self, index):
        raise AssertionError

    def example_id(self, index):
        raise AssertionError


def test_mirrored_labels():
    source = Classes(("left", "up", "right", "in", "out"))
    assert flipped_labels(source, ()).tolist() == [0, 1, 2, 3, 4]
    assert flipped_labels(source, (("left", "right"), ["out", "in"])).tolist() == [2, 1, 0, 4, 3]
    for pairs, message in (
        ((("left", "rigth"),), "no class of classes is called 'rigth'; did you mean 'right'"),
        ((("left", "right"), ("up", "left")), "has 'left' twice"),
        ((("left", "left"),), "has 'left' twice"),
        ((("left", "right", "up"),), "should hold pairs"),
        (("left", "right"), "holds 'left', and should hold pairs"),
    ):
        with pytest.raises(ConfigError, match=message):
            flipped_labels(source, pairs)
    with pytest.raises(ConfigError, match="have no names"):
        flipped_labels(Classes(None, 5), (("left", "right"),))


@pytest.mark.parametrize(("height", "width"), [(60, 90), (90, 60), (64, 64), (300, 40), (31, 47)])
@pytest.mark.parametrize("eval_crop", [1.0, 0.8])
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_three_crops_along_the_longer_side(picture, height, width, eval_crop, size):
    image = picture(height, width)
    least = [int(side / eval_crop) for side in size]
    scale = max(least[0] / height, least[1] / width)
    covering = [max(goal, int(side * scale + 1e-9)) for goal, side in zip(least, (height, width), strict=True)]
    resized = np.asarray(Image.fromarray(image).resize(covering[::-1], Image.Resampling.BICUBIC))
    rows, columns = covering[0] - size[0], covering[1] - size[1]
    if columns >= rows:
        corners = [(round(rows / 2), place) for place in (0, round(columns / 2), columns)]
    else:
        corners = [(place, round(columns / 2)) for place in (0, round(rows / 2), rows)]
    crops = transforms.uniform_crops(image, size, eval_crop, 3)
    for crop, (top, left) in zip(crops, corners, strict=True):
        np.testing.assert_array_equal(crop, resized[top : top + size[0], left : left + size[1]])
    np.testing.assert_array_equal(crops[1], transforms.center_crop(image, size, eval_crop))
