"""All frames of a clip are augmented alike, and as images; classes that mirroring exchanges."""

import copy

import numpy as np
import pytest
from PIL import Image

from posmlp_jax.data.augment import crops
from posmlp_jax.data.augment.augmentation import CROPS, Augmentation
from posmlp_jax.data.augment.erasing import RandomErasing
from posmlp_jax.data.augment.randaugment import OPERATIONS, RandAugment
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.data.targets import flipped_labels
from posmlp_jax.errors import ConfigError
from posmlp_jax.training import default_config

SIZE = (24, 20)
RECIPES = (
    {},
    {
        "randaugment": "rand-m7-n4-mstd0.5-inc1-p1",
        "erasing_probability": 0.8,
        "erasing_count": 2,
        "erasing_mode": "const",
    },
    {"randaugment": "rand-m7-n4-mstd0.5-inc1-p1", "randaugment_on": "frame", "randaugment_fill": (128, 128, 128)},
    {"color_jitter": 0.4, "erasing_probability": 0.8, "erasing_mode": "const"},
    {"augment": "none"},
)


def augmentation(**changes) -> Augmentation:
    config = default_config().data
    config.update(changes)
    return Augmentation(config, SIZE)


def fill(augment, pixels, rng) -> tuple[np.ndarray, bool]:
    out = np.empty((*pixels.shape[:-3], *SIZE, 3), np.uint8)
    return out, augment.fill(out, pixels, rng).mirrored


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


def test_erasing_takes_the_same_box_of_all_frames_and_makes_new_noise_in_each(picture):
    """As images' boxes and noise, by what is erased of black clips."""
    mean, std = np.array(default_config().data.mean), np.array(default_config().data.std)
    augment = augmentation(crop="resize", flip=False, erasing_probability=1.0)
    black = np.zeros((6, *SIZE, 3), np.uint8)
    boxes, noise = [], []
    for seed in range(300):
        clip, _ = fill(augment, black, np.random.default_rng(seed))
        rows, columns = np.flatnonzero(clip.any((0, 2, 3))), np.flatnonzero(clip.any((0, 1, 3)))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        # The box is that of an image with the same numbers.
        image = augment(black[0], np.random.default_rng(seed))
        assert image[box].any((1, 2)).all()
        assert image[box].any((0, 2)).all()
        np.testing.assert_array_equal(clip[0], image)
        boxes.append(clip[(slice(None), *box)].shape[1:3])
        noise.append((clip[(slice(None), *box)] / 255 - mean) / std)
    # Between two frames noise has nothing in common.
    pairs = [np.concatenate([part[frame].ravel() for part in noise]) for frame in range(6)]
    assert np.abs(np.corrcoef(pairs) - np.eye(6)).max() < 0.02
    assert np.concatenate(pairs).mean() == pytest.approx(0, abs=0.02)
    assert np.concatenate(pairs).std() == pytest.approx(0.975, abs=0.015)
    assert np.prod(boxes, axis=1).mean() / np.prod(SIZE) == pytest.approx(0.1767, abs=0.02)


@pytest.mark.parametrize(("shape", "tries"), [((9, 9, 3), 10), ((4, 9, 9, 3), 100)])
def test_boxes_of_clips_are_tried_more_often(shape, tries):
    class Largest:
        """Draws the largest area and the highest shape, which no square holds."""

        drawn = 0

        def random(self) -> float:
            return 0.0

        def integers(self, low: int, high: int) -> int:
            return low

        def uniform(self, low: float, high: float) -> float:
            self.drawn += 1
            return high

    rng = Largest()
    assert not RandomErasing(1.0, (0.5,) * 3, (0.2,) * 3, "pixel")(np.zeros(shape, np.uint8), rng).any()
    assert rng.drawn == 2 * tries


@pytest.mark.parametrize("fill", [(), (128, 128, 128), (0, 255, 7)])
@pytest.mark.parametrize("interpolation", ["random", "bilinear", "bicubic"])
def test_randaugment_on_whole_frames_comes_first(frames, fill, interpolation):
    recipe = "rand-m7-n4-mstd0.5-inc1-p1"
    augment = augmentation(
        randaugment=recipe, randaugment_on="frame", randaugment_fill=fill, randaugment_interpolation=interpolation
    )
    assert augment.min_size is None
    mean = default_config().data.mean
    operations = RandAugment.from_string(recipe, interpolation, [level / 255 for level in fill] or mean)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        drawn = operations.sample(rng)
        assert {operation.interpolation for operation in drawn} <= {None, "bilinear", "bicubic"} - (
            {"bilinear", "bicubic"} - {interpolation} if interpolation != "random" else set()
        )
        state = rng.bit_generator.state
        clip = np.empty((len(frames), *SIZE, 3), np.uint8)
        augment.fill(clip, frames, np.random.default_rng(seed))
        for frame, result in zip(frames, clip, strict=True):
            rng.bit_generator.state = state
            image, _ = operations.apply(frame, drawn)
            image, _ = crops.random_resized_crop(image, SIZE, (0.08, 1.0), (3 / 4, 4 / 3), rng)
            np.testing.assert_array_equal(result, crops.random_flip(image, rng)[0])


def test_what_moved_pixels_leave_behind(frames):
    """On whole frames, a crop need not show it; here the crop is all of them."""
    config = default_config().data
    config.update(crop="resize", randaugment="rand-m10-n1-p1", randaugment_on="frame", flip=False)
    config.update(randaugment_fill=(128, 128, 128))
    white = np.full((40, 48, 3), 255, np.uint8)
    augment = Augmentation(config, white.shape[:2])
    corners = {tuple(augment(white, np.random.default_rng(seed))[0, 0]) for seed in range(200)}
    assert (128, 128, 128) in corners
    assert tuple(round(255 * mean) for mean in config.mean) not in corners


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_operation_draws_by_what_it_sees(frames, operation, monkeypatch):
    monkeypatch.setattr("posmlp_jax.data.augment.randaugment.OPERATIONS", (operation,))
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
        unflipped = crops.resize(frames[0], SIZE)
        np.testing.assert_array_equal(image, unflipped[:, ::-1] if flipped else unflipped)


class Classes(LabelledSource):
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
    three = crops.uniform_crops(image, size, eval_crop, 3)
    for crop, (top, left) in zip(three, corners, strict=True):
        np.testing.assert_array_equal(crop, resized[top : top + size[0], left : left + size[1]])
    np.testing.assert_array_equal(three[1], crops.center_crop(image, size, eval_crop))
    shrink = height / covering[0], width / covering[1]
    for count, wanted in ((3, corners), (1, corners[1:2])):
        boxes = crops.uniform_crop_boxes((height, width), size, eval_crop, count)
        expected = [np.multiply((*corner, *size), (*shrink, *shrink)) for corner in wanted]
        np.testing.assert_allclose(boxes, expected)
