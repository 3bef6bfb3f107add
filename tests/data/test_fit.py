"""Whole images in canvases: how large they are there, and which canvas each has."""

from contextlib import closing

import cv2
import numpy as np
import pytest

from posmlp_jax.data import Source, check_config, check_source, eval_batches, evaluation_sizes, training_sizes
from posmlp_jax.data.augment.augmentation import Augmentation
from posmlp_jax.data.augment.crops import fit, fitted_size
from posmlp_jax.data.canvases import Canvases
from posmlp_jax.data.targets import NoTargets
from posmlp_jax.errors import BrokenExampleError, ConfigError

RANDOM = np.random.default_rng(0).integers(20, 700, (200, 2))
COCO = ((800, 1088), (1088, 800), (800, 1344), (1344, 800))


class Photos(Source):
    """Grey images of given sizes."""

    description, sizes = "photos", None

    def __init__(self, sizes, known: bool = True):
        self._sizes = sizes
        if known:
            self.sizes = np.array(sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    def read(self, index: int):
        return np.full((*self._sizes[index], 3), 100 + index, np.uint8), None

    def example_id(self, index: int) -> str:
        return f"photo {index}"


def by_mmdetection(height: int, width: int, short: int, long: int) -> tuple[int, int]:
    scale = min(long / max(height, width), short / min(height, width))
    return int(height * float(scale) + 0.5), int(width * float(scale) + 0.5)


def test_sizes_are_mmdetections():
    for height, width in RANDOM.tolist():
        expected = by_mmdetection(height, width, 800, 1333)
        assert tuple(fitted_size((height, width), COCO[0], 800, 1333)) == expected
    assert fitted_size((480, 640), COCO[0], 800, 1333).tolist() == [800, 1067]
    assert fitted_size(RANDOM, COCO[0], 800, 1333)[5].tolist() == list(by_mmdetection(*RANDOM[5], 800, 1333))
    # As large as the canvas allows: one side is the canvas's, and the image keeps its shape.
    fitted = fitted_size(RANDOM, (96, 128), 0, 0)
    assert (fitted <= (96, 128)).all()
    assert (fitted == (96, 128)).any(-1).all()
    assert np.abs(fitted[:, 0] * RANDOM[:, 1] / RANDOM[:, 0] - fitted[:, 1]).max() < 18  # Half a row of a long image.
    assert fitted_size((1, 500), (96, 128), 0, 0).tolist() == [1, 128]


@pytest.mark.parametrize("limits", [(0, 0), (800, 1333), (700, 1100)])
def test_each_image_has_the_canvas_that_suits_it(make_config, limits):
    config = make_config(crop="fit", canvases=COCO, short_side=limits[0], long_side=limits[1])
    found = Canvases(COCO, config)(RANDOM)
    for (height, width), canvas in zip(RANDOM.tolist(), found, strict=True):
        worth = []
        for h, w in COCO:
            if limits[0]:
                fitted = by_mmdetection(height, width, *limits)
                worth.append(-h * w if fitted[0] <= h and fitted[1] <= w else -np.inf)
            else:
                scale = min(h / height, w / width)
                worth.append(round(height * scale) * round(width * scale) / (h * w))
        assert worth[canvas] == pytest.approx(max(worth), rel=2e-3)  # Halves are rounded up, not to even.
        assert canvas == Canvases(COCO, config).of_image((height, width))
    assert len(set(found.tolist())) > 1


def test_no_canvas_holds_it(make_config):
    config = make_config(crop="fit", canvases=COCO[:2], short_side=800, long_side=1333)
    source = Photos([(480, 640), (333, 800), (640, 480), (700, 300)])
    message = (
        r"^photo 1: no canvas holds it: of its 333×800 pixels data\.short_side and data\.long_side make 555×1333, and "
        r"there are 800×1088, 1088×800, and so it is with 1 others \(photos\)$"
    )
    with pytest.raises(ConfigError, match=message):
        check_source(source, config, (800, 800))
    with pytest.raises(BrokenExampleError, match="no canvas holds it: of its 333×800 pixels"):
        Canvases(COCO[:2], config).of_image((333, 800))
    with pytest.raises(
        ConfigError, match=r"several data\.canvases, and data\.short_side, need .* these are not: photos"
    ):
        check_source(Photos([(8, 8)], known=False), config, (800, 800))
    check_source(Photos([(8, 8)], known=False), make_config(crop="fit"), (800, 800))
    with pytest.raises(
        BrokenExampleError, match=r"no canvas holds it: of its 20×30 pixels .* make 40×60, and there are"
    ):
        fit(np.zeros((20, 30, 3), np.uint8), (40, 50), 40, 60)


def test_what_grows_and_what_shrinks():
    image = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    grown, _ = fit(image, (60, 100), 0, 0)
    np.testing.assert_array_equal(grown, cv2.resize(image, (80, 60), interpolation=cv2.INTER_LINEAR))
    shrunken, _ = fit(image, (10, 100), 0, 0)  # Means of 3 × 3 pixels, but for the last column's.
    np.testing.assert_allclose(shrunken[:, 0], image[:, :4].reshape(10, 3, 4, 3).mean(1)[:, :3].mean(1), atol=20)
    halved, _ = fit(image, (15, 20), 0, 0)
    np.testing.assert_allclose(halved, image.reshape(15, 2, 20, 2, 3).mean((1, 3)), atol=0.51)
    same, movement = fit(image, (30, 70), 0, 0)
    assert same is image
    np.testing.assert_array_equal(movement, np.eye(3))


@pytest.mark.parametrize("erasing", [0.0, 1.0])
def test_flips_are_within_the_image_and_the_rest_is_black(make_config, erasing):
    config = make_config(crop="fit", erasing_probability=erasing, erasing_mode="pixel", color_jitter=0.2)
    augment = Augmentation(config, (40, 64))
    assert augment.min_size is None
    image = np.full((60, 50, 3), 200, np.uint8)
    image[:, :25] = 60
    seen = set()
    for seed in range(20):
        out = np.full((40, 64, 3), 7, np.uint8)
        placement = augment.fill(out, image, np.random.default_rng(seed))
        assert placement.extent == (40, 33)
        assert not out[:, 33:].any()
        assert (out[:, :33].max(-1) > 0).mean() > 0.9
        if not erasing:
            assert (out[20, 2, 0] > out[20, 30, 0]) == placement.mirrored
        seen.add(placement.mirrored)
    assert seen == {False, True}
    # Evaluation and 'none' see it as it is.
    plain = Augmentation(make_config(crop="fit", augment="none"), (40, 64))
    placement = plain.fill(out, image, np.random.default_rng(0))
    (batch,) = eval_batches(Photos([(60, 50)]), config, (40, 64), batch_size=1, targets=NoTargets())
    assert (placement.extent, placement.mirrored) == ((40, 33), False)
    assert (batch["image"][0] > 0).all(-1).tolist() == (out > 0).all(-1).tolist()


def test_evaluation_goes_canvas_by_canvas(make_config):
    sizes = [(40, 60), (60, 40), (50, 50), (30, 60), (60, 20)] * 5
    canvases = ((32, 48), (48, 32), (40, 40))
    config = make_config(crop="fit", canvases=canvases, threads=2)
    own = evaluation_sizes(config, (40, 40))
    assert own == canvases == training_sizes(config, (40, 40))
    assert evaluation_sizes(make_config(crop="fit"), (40, 40)) == ((40, 40),)
    hosts = []
    for host in range(2):
        options = {"batch_size": 4, "targets": NoTargets(), "process_index": host, "process_count": 2}
        with closing(eval_batches(Photos(sizes), config, own, **options)) as batches:
            hosts.append(list(batches))
    assert [len(batches) for batches in hosts] == [8, 8]  # Of 10, 10 and 5 images 3, 3 and 2.
    shown = []
    for parts in zip(*hosts, strict=True):
        assert len({part["image"].shape for part in parts}) == 1
        index = np.concatenate([part["index"] for part in parts])
        weight = np.concatenate([part["weight"] for part in parts])
        np.testing.assert_array_equal(weight, index >= 0)
        canvas = canvases.index(parts[0]["image"].shape[1:3])
        assert {[0, 1, 2, 0, 1][number % 5] for number in index[weight > 0]} == {canvas}
        shown += index[weight > 0].tolist()
        for part in parts:
            for image, number in zip(part["image"], part["index"], strict=True):
                assert image.max() == (100 + number if number >= 0 else 0)
    assert shown == sorted(shown, key=lambda number: ([0, 1, 2, 0, 1][number % 5], number))
    assert sorted(shown) == list(range(25))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"canvases": (8, (8, 0))}, r"data\.canvases holds \(8, 0\), and should hold sides of squares or pairs"),
        ({"canvases": None}, r"data\.canvases is None, and should hold"),
        ({"short_side": 800}, r"data\.short_side is 800 and data\.long_side 0, and should be sides, the long one no "),
        ({"short_side": 9, "long_side": 8}, r"data\.short_side is 9 and data\.long_side 8, and should be sides"),
        ({"short_side": -1, "long_side": 8}, r"data\.short_side is -1"),
        (
            {"crop": "pad", "canvases": (8,)},
            r"data\.canvases is \(8,\), which only data\.crop 'fit' and 'scaled'",
        ),
        ({"crop": "resize", "short_side": 8, "long_side": 9}, r"data\.short_side is 8, which only data\.crop 'fit'"),
        ({"train_sizes": (8,)}, r"data\.train_sizes is \(8,\), and should be \(\) with data\.crop 'fit', which shows"),
        ({"test_crops": 3}, r"data\.test_crops is 3, and should be 1 with data\.crop 'fit'"),
        (
            {"canvases": (8, 9), "balance": "classes"},
            r"data\.balance is 'classes', and should be 'none' with data\.crop 'fit' and several data\.canvases",
        ),
    ],
)
def test_mistakes(make_config, changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        check_config(make_config(**{"crop": "fit"} | changes))
    assert "\n" not in str(error.value)


def test_mistakes_of_use(make_config):
    config = make_config(crop="fit")
    with pytest.raises(ConfigError, match=r"1 clips × 3 crops are asked for, and data\.crop 'fit' shows all of an"):
        eval_batches(Photos([(8, 8)]), config, (8, 8), batch_size=1, crops=3, targets=NoTargets())
    videos = Photos([(8, 8)], known=False)
    videos.kind = "video"
    check_source(videos, config, (4, 8, 8))
    with pytest.raises(ConfigError, match=r"several data\.canvases, .*, need videos whose sizes are known .*: photos"):
        check_source(videos, make_config(crop="fit", canvases=((8, 8), (8, 16))), (4, 8, 8))
