"""The order of augmentation, what each field switches on, and which values are refused."""

import pickle
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from posmlp_jax.data.augment import crops
from posmlp_jax.data.augment.augmentation import Augmentation
from posmlp_jax.data.augment.color import ColorJitter
from posmlp_jax.data.augment.erasing import RandomErasing
from posmlp_jax.data.augment.randaugment import RandAugment
from posmlp_jax.errors import ConfigError
from posmlp_jax.training import default_config
from posmlp_jax.training.config import check_values

PHOTO = np.array(Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").resize((96, 112)))
RECIPE = "rand-m6-n3-mstd1.0-inc1"
MEAN, STD = (0.45, 0.5, 0.55), (0.2, 0.25, 0.3)


@pytest.fixture
def data_config():
    def make(**changes):
        config = default_config().data
        config.update(mean=MEAN, std=STD, **changes)
        return config

    return make


def by_hand(image, size, rng, crop="random_resized", interpolation="bicubic", color=None, erasing=None):
    """Crop, flip, colours, erasing."""
    if crop == "random_resized":
        image, _ = crops.random_resized_crop(image, size, (0.08, 1.0), (3 / 4, 4 / 3), rng, interpolation)
    elif crop == "pad":
        image, _ = crops.pad_crop(crops.resize(image, size), 4, rng)
    image = image[:, ::-1].copy() if rng.random() < 0.5 else image
    if isinstance(color, RandAugment):
        image, _ = color(image, rng)
    elif color:
        image = color(image, rng)
    return erasing(image, rng) if erasing else image


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"crop": "pad"}, {"crop": "pad"}),
        ({"interpolation": "random"}, {"interpolation": "random"}),
        ({"interpolation": "bilinear"}, {"interpolation": "bilinear"}),
        ({"randaugment": RECIPE}, {"color": RandAugment.from_string(RECIPE, mean=MEAN)}),
        ({"color_jitter": 0.4}, {"color": ColorJitter(0.4)}),
        # As in the published recipe, jitter is not added to RandAugment.
        ({"randaugment": RECIPE, "color_jitter": 0.4}, {"color": RandAugment.from_string(RECIPE, mean=MEAN)}),
        (
            {"randaugment": RECIPE, "erasing_probability": 0.7, "erasing_mode": "const", "erasing_count": 3},
            {"color": RandAugment.from_string(RECIPE, mean=MEAN), "erasing": RandomErasing(0.7, MEAN, STD, "const", 3)},
        ),
        ({"crop": "pad", "erasing_probability": 1.0}, {"crop": "pad", "erasing": RandomErasing(1, MEAN, STD, "pixel")}),
    ],
)
@pytest.mark.parametrize("size", [(48, 40), (32, 32)])
def test_the_order_is_timms(data_config, changes, expected, size):
    augmentation = Augmentation(data_config(**changes), size)
    augmentation = pickle.loads(pickle.dumps(augmentation))
    results = set()
    for seed in range(25):
        image = augmentation(PHOTO, np.random.default_rng(seed))
        assert image.shape == (*size, 3)
        np.testing.assert_array_equal(image, by_hand(PHOTO, size, np.random.default_rng(seed), **expected))
        results.add(image.tobytes())
    assert len(results) > 20


@pytest.mark.parametrize("size", [(32, 32), (96, 64)])
def test_none_is_what_evaluation_sees(data_config, size):
    everything = {"randaugment": RECIPE, "color_jitter": 0.4, "erasing_probability": 1.0, "crop": "pad"}
    augmentation = Augmentation(data_config(augment="none", **everything), size)
    expected = crops.center_crop(PHOTO, size, 0.9)
    for seed in range(5):
        np.testing.assert_array_equal(augmentation(PHOTO, np.random.default_rng(seed)), expected)
    assert augmentation.min_size is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (3, 5), (8, 8)])
@pytest.mark.parametrize("augment", ["standard", "none"])
@pytest.mark.parametrize("crop", ["random_resized", "pad", "resize"])
def test_any_shape_goes_through(data_config, shape, augment, crop):
    config = data_config(augment=augment, crop=crop, randaugment=RECIPE, erasing_probability=1.0)
    augmentation = Augmentation(config, (32, 32))
    image = np.full((*shape, 3), 100, np.uint8)
    image.setflags(write=False)
    for seed in range(10):
        result = augmentation(image, np.random.default_rng(seed))
        assert (result.shape, result.dtype) == ((32, 32, 3), np.uint8)


def test_photographs_are_decoded_no_smaller_than_the_smallest_crop_needs(data_config):
    # Of 0.08 of the area and ratio 4/3, such a crop is 224 high where the whole is a square of 914.
    assert Augmentation(data_config(), (224, 224)).min_size == (915, 915)
    assert Augmentation(data_config(crop="pad"), (32, 48)).min_size == (64, 96)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment": "nothing"}, r"unknown data.augment 'nothing': (did you mean|known)"),
        ({"crop": "random"}, "unknown crop 'random': one of random_resized, pad, resize"),
        ({"crop_scale": (0.0, 1.0)}, r"crop_scale \(0.0, 1.0\) must be \(least, most\) within 0 to 1"),
        ({"crop_scale": (0.5, 0.4)}, "crop_scale"),
        ({"crop_ratio": (-1.0, 1.0)}, "crop_ratio"),
        ({"crop_padding": -1}, "crop_padding must not be negative, but is -1"),
        ({"randaugment": "randaug-m9"}, "RandAugment string 'randaug-m9' must start with 'rand'"),
        ({"randaugment": "rand-m6-x3"}, "cannot read 'x3'"),
        ({"randaugment_on": "frames"}, "unknown data.randaugment_on 'frames': one of crop, frame"),
        ({"interpolation": "cubic"}, "unknown data.interpolation 'cubic': did you mean 'bicubic'"),
        ({"randaugment_interpolation": "cubic"}, "interpolation 'cubic': did you mean 'bicubic'"),
        ({"randaugment_fill": (128,)}, r"data.randaugment_fill is \(128,\), and should be \(\) or three levels"),
        ({"randaugment_fill": (0, 0, 256)}, r"data.randaugment_fill is \(0, 0, 256\)"),
        ({"randaugment_fill": (0, "grey", 0)}, r"data.randaugment_fill is \(0, 'grey', 0\)"),
        ({"color_jitter": -0.1}, "color_jitter=-0.1: strengths must be at least 0"),
        ({"erasing_probability": 1.5}, r"the probability of random erasing must lie in \[0, 1\], not 1.5"),
        ({"erasing_mode": "pixels"}, "random erasing has no mode 'pixels': did you mean 'pixel'"),
        ({"erasing_count": 0}, "count=0"),
        ({"eval_crop": 1.5}, r"eval_crop must be a share in \(0, 1\], not 1.5"),
        ({"max_broken": -0.1}, r"max_broken must be a share in \[0, 1\], not -0.1"),
        ({"threads": -1}, r"threads \(-1\) and processes \(0\) must not be negative"),
    ],
)
# Even where what is wrong is switched off: a typo would otherwise show when it is switched on.
@pytest.mark.parametrize("augment", ["standard", "none"])
def test_bad_values_are_found_before_anything_is_opened(changes, message, augment):
    config = default_config()
    config.data.update({"augment": augment} | changes)
    with pytest.raises(ConfigError, match=message) as caught:
        check_values(config)
    assert "\n" not in str(caught.value)
