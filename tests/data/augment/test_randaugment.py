"""RandAugment: reading timm's string, what is drawn and how strong, and that applying it is safe."""

import math
import pickle
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from posmlp_jax.data.augment.randaugment import OPERATIONS, Operation, RandAugment, operation_argument
from posmlp_jax.errors import ConfigError

RECIPE = "rand-m6-n3-mstd1.0-inc1"
PHOTO = np.array(Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").resize((96, 112)))


class TestString:
    def test_released_recipe(self):
        expected = RandAugment(magnitude=6, count=3, magnitude_std=1.0, increasing=True)
        assert RandAugment.from_string(RECIPE) == expected
        assert RandAugment.from_string("rand-inc1-mstd1-n3-m6") == expected

    def test_defaults_are_timms(self):
        assert RandAugment.from_string("rand") == RandAugment(magnitude=10, count=2, probability=0.5, increasing=False)

    def test_every_key(self):
        augment = RandAugment.from_string("rand-m15-n4-mstd0.5-mmax20-inc0-p0.8", "bicubic", mean=(0.45, 0.45, 0.45))
        assert augment == RandAugment(15, 4, 0.5, 20, False, 0.8, "bicubic", (0.45, 0.45, 0.45))

    @pytest.mark.parametrize("std", ["inf", "101", "100.5"])
    def test_uniform_magnitudes(self, std):
        assert math.isinf(RandAugment.from_string(f"rand-m9-mstd{std}").magnitude_std)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("m6-n3", "must start with 'rand'"),
            ("", "must start with 'rand'"),
            ("rand-m6-x3", "cannot read 'x3'"),
            ("rand-m6.5", "cannot read 'm6.5'"),
            ("rand-m", "cannot read 'm'"),
            ("rand--m6", "cannot read ''"),
            ("rand-m6-mstd-1", "cannot read 'mstd'"),
            ("rand-m6-w0", "cannot read 'w0'"),
            ("rand-m6-inc2", "cannot read 'inc2'"),
            ("rand-m6-m7", "gives 'm' twice"),
            ("rand-n0", "count must be at least 1, not 0"),
            ("rand-mmax0", "magnitude_max must be at least 1, not 0"),
            ("rand-p1.5", r"probability must be in \[0, 1\], not 1.5"),
        ],
    )
    def test_mistakes_are_named(self, text, message):
        with pytest.raises(ConfigError, match=message) as raised:
            RandAugment.from_string(text)
        assert "\n" not in str(raised.value)
        assert "must be" in message or RECIPE in str(raised.value)

    def test_unknown_interpolation(self):
        with pytest.raises(ConfigError, match="did you mean 'bicubic'"):
            RandAugment.from_string(RECIPE, interpolation="bicubc")


def arguments(name, magnitude, increasing):
    """The distinct arguments that an operation can get, sorted."""
    rng = np.random.default_rng(0)
    return sorted({operation_argument(name, magnitude, increasing, rng) for _ in range(50)})


class TestArguments:
    """The table of timm's level functions, worked out by hand."""

    @pytest.mark.parametrize("increasing", [False, True])
    @pytest.mark.parametrize(
        ("name", "at_6"),
        [("Rotate", 18), ("ShearX", 0.18), ("ShearY", 0.18), ("TranslateXRel", 0.27), ("TranslateYRel", 0.27)],
    )
    def test_signed(self, name, at_6, increasing):
        assert arguments(name, 6, increasing) == pytest.approx([-at_6, at_6])
        assert arguments(name, 10, increasing) == pytest.approx([-at_6 / 0.6, at_6 / 0.6])

    @pytest.mark.parametrize("name", ["Color", "Contrast", "Brightness", "Sharpness"])
    def test_enhancements(self, name):
        assert arguments(name, 6, True) == pytest.approx([0.46, 1.54])
        assert arguments(name, 10, True) == pytest.approx([0.1, 1.9])
        assert arguments(name, 15, True) == pytest.approx([0.1, 2.35])
        assert arguments(name, 6, False) == pytest.approx([1.18])
        assert arguments(name, 0, False) == pytest.approx([0.1])

    @pytest.mark.parametrize(
        ("name", "increasing", "expected"),
        [
            ("Posterize", True, {0: 4, 2.4: 4, 2.5: 3, 6: 2, 9.9: 1, 10: 0, 20: 0}),
            ("Posterize", False, {0: 0, 6: 2, 10: 4, 30: 8}),
            ("Solarize", True, {0: 256, 6: 103, 10: 0, 20: 0}),
            ("Solarize", False, {0: 0, 6: 153, 10: 256, 20: 256}),
            ("SolarizeAdd", True, {0: 0, 6: 66, 10: 110, 20: 128}),
            ("SolarizeAdd", False, {0: 0, 6: 66, 10: 110, 20: 128}),
        ],
    )
    def test_whole_numbers(self, name, increasing, expected):
        for magnitude, argument in expected.items():
            assert arguments(name, magnitude, increasing) == [argument]

    @pytest.mark.parametrize("name", ["AutoContrast", "Equalize", "Invert"])
    def test_none(self, name):
        assert set(arguments(name, 6, True)) == {None}


def magnitudes(augment, draws=20000):
    """Those of the rotations, which are linear in the magnitude."""
    rng = np.random.default_rng(0)
    drawn = [operation for _ in range(draws) for operation in augment.sample(rng)]
    degrees = np.array([operation.argument for operation in drawn if operation.name == "Rotate"])
    return degrees / 3


class TestSampling:
    def test_operations_are_drawn_uniformly_and_with_replacement(self):
        rng = np.random.default_rng(0)
        drawn = [RandAugment.from_string(RECIPE).sample(rng) for _ in range(10000)]
        counts = Counter(operation.name for operations in drawn for operation in operations)
        assert set(counts) == set(OPERATIONS)
        assert len(OPERATIONS) == 15
        # Each with probability 3 · ½ / 15 = 0.1: 1000 ± 4.5 standard deviations of 31.
        assert all(abs(count - 1000) < 140 for count in counts.values())
        lengths = Counter(len(operations) for operations in drawn)
        for length, share in enumerate((1 / 8, 3 / 8, 3 / 8, 1 / 8)):
            assert lengths[length] / 10000 == pytest.approx(share, abs=0.02)
        pairs = [operations for operations in drawn if len(operations) == 2]
        assert np.mean([a.name == b.name for a, b in pairs]) == pytest.approx(1 / 15, abs=0.02)

    def test_probability(self):
        rng = np.random.default_rng(0)
        always, never = (RandAugment.from_string(f"rand-n3-p{p}") for p in (1, 0))
        assert all(len(always.sample(rng)) == 3 for _ in range(100))
        assert not any(never.sample(rng) for _ in range(100))

    def test_magnitude_noise_is_normal(self):
        drawn = magnitudes(RandAugment.from_string(RECIPE))
        assert np.abs(drawn).mean() == pytest.approx(6, abs=0.1)
        assert np.abs(drawn).std() == pytest.approx(1, abs=0.06)
        assert (drawn < 0).mean() == pytest.approx(0.5, abs=0.05)

    def test_magnitudes_are_clipped(self):
        drawn = np.abs(magnitudes(RandAugment.from_string("rand-m9-mstd2")))
        assert drawn.max() == pytest.approx(10)
        assert (drawn == drawn.max()).mean() == pytest.approx(0.309, abs=0.04)  # P(z > ½)
        assert np.abs(magnitudes(RandAugment.from_string("rand-m15-mmax20"), 500)) == pytest.approx(15)
        assert np.abs(magnitudes(RandAugment.from_string("rand-m15"), 500)) == pytest.approx(10)

    def test_infinite_noise_is_uniform(self):
        drawn = np.abs(magnitudes(RandAugment.from_string("rand-m8-mstd101")))
        assert drawn.max() < 8
        assert np.quantile(drawn, [0.25, 0.5, 0.75]) == pytest.approx([2, 4, 6], abs=0.4)

    def test_interpolation(self):
        rng = np.random.default_rng(0)
        moved = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
        for interpolation, bicubic in (("random", 0.5), ("bicubic", 1), ("bilinear", 0)):
            augment = RandAugment.from_string(RECIPE, interpolation)
            drawn = [operation for _ in range(3000) for operation in augment.sample(rng)]
            assert all((operation.interpolation is None) == (operation.name not in moved) for operation in drawn)
            share = np.mean([op.interpolation == "bicubic" for op in drawn if op.interpolation])
            assert share == pytest.approx(bicubic, abs=0.05)


def apply_with_pillow(photo, operation):
    """What timm does for an operation that was drawn."""
    name, argument, interpolation = operation
    resample = getattr(Image.Resampling, (interpolation or "nearest").upper())

    def transform(*matrix):
        return photo.transform(photo.size, Image.Transform.AFFINE, matrix, resample, fillcolor=(124, 116, 104))

    return {
        "AutoContrast": lambda: ImageOps.autocontrast(photo),
        "Equalize": lambda: ImageOps.equalize(photo),
        "Invert": lambda: ImageOps.invert(photo),
        "Posterize": lambda: ImageOps.posterize(photo, argument),
        "Solarize": lambda: ImageOps.solarize(photo, argument),
        "SolarizeAdd": lambda: photo.point([min(i + argument * (i < 128), 255) for i in range(256)] * 3),
        "Color": lambda: ImageEnhance.Color(photo).enhance(argument),
        "Contrast": lambda: ImageEnhance.Contrast(photo).enhance(argument),
        "Brightness": lambda: ImageEnhance.Brightness(photo).enhance(argument),
        "Sharpness": lambda: ImageEnhance.Sharpness(photo).enhance(argument),
        "Rotate": lambda: photo.rotate(argument, resample, fillcolor=(124, 116, 104)),
        "ShearX": lambda: transform(1, argument, 0, 0, 1, 0),
        "ShearY": lambda: transform(1, 0, 0, argument, 1, 0),
        "TranslateXRel": lambda: transform(1, 0, argument * photo.width, 0, 1, 0),
        "TranslateYRel": lambda: transform(1, 0, 0, 0, 1, argument * photo.height),
    }[name]()


class TestApplying:
    @pytest.mark.parametrize("increasing", ["inc0", "inc1"])
    def test_every_operation_is_within_one_level_of_timms(self, increasing):
        augment = RandAugment.from_string(f"rand-m6-n1-p1-mstd1.0-{increasing}")
        rng = np.random.default_rng(0)
        seen = set()
        for _ in range(150):
            operations = augment.sample(rng)
            seen.add(operations[0].name)
            expected = np.asarray(apply_with_pillow(Image.fromarray(PHOTO), operations[0])).astype(int)
            difference = np.abs(augment.apply(PHOTO, operations)[0].astype(int) - expected)
            assert difference.max() <= 1, operations
            assert difference.mean() <= 0.05, operations
        assert seen == set(OPERATIONS)

    def test_depends_on_the_generator_alone(self):
        augment = RandAugment.from_string(RECIPE)
        first, again = ([augment(PHOTO, np.random.default_rng(seed))[0] for seed in range(40)] for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert len({image.tobytes() for image in first}) > 25

    def test_the_same_operations_on_two_frames(self):
        augment = RandAugment.from_string(RECIPE)
        operations = augment.sample(np.random.default_rng(5))
        assert operations
        np.testing.assert_array_equal(
            augment.apply(PHOTO[:, ::-1], operations)[0], augment.apply(PHOTO[:, ::-1].copy(), operations)[0]
        )

    def test_moved_pixels_leave_the_mean_colour(self):
        operation = [Operation("TranslateXRel", 0.25, "bilinear")]
        assert RandAugment().apply(PHOTO, operation)[0][0, -1].tolist() == [124, 116, 104]
        assert RandAugment(mean=(0.45, 0.0, 1.0)).apply(PHOTO, operation)[0][0, -1].tolist() == [115, 0, 255]

    def test_survives_pickling(self):
        augment = RandAugment.from_string(RECIPE)
        copy = pickle.loads(pickle.dumps(augment))
        assert copy == augment
        np.testing.assert_array_equal(
            copy(PHOTO, np.random.default_rng(2))[0], augment(PHOTO, np.random.default_rng(2))[0]
        )

    @pytest.mark.parametrize("kind", ["1x1", "1x7", "black", "grey", "read-only", "mirrored", "cropped"])
    @pytest.mark.parametrize("increasing", ["inc0", "inc1"])
    def test_any_uint8_image_goes_through(self, kind, increasing):
        image = {
            "1x1": PHOTO[:1, :1],
            "1x7": PHOTO[:1, :7],
            "black": np.zeros((33, 20, 3), np.uint8),
            "grey": np.repeat(PHOTO[..., :1], 3, axis=2),
            "read-only": np.frombuffer(PHOTO.tobytes(), np.uint8).reshape(PHOTO.shape),
            "mirrored": PHOTO[:, ::-1],
            "cropped": PHOTO[3:50, 5:38],
        }[kind]
        before = image.copy()
        rng = np.random.default_rng(0)
        augment = RandAugment.from_string(f"rand-m9-mstd3-mmax30-n3-p1-{increasing}")
        for _ in range(60):
            result, _ = augment(image, rng)
            assert result.shape == image.shape
            assert result.dtype == np.uint8
        np.testing.assert_array_equal(image, before)
