"""Batches of what a task makes of targets, of a source that knows no labels: where a point lies, say."""

import itertools
from contextlib import closing
from typing import ClassVar

import numpy as np
import pytest
from helpers import assert_same_batches

from posmlp_jax.data import Source, check_source, eval_batches, train_batches
from posmlp_jax.data.fingerprint import changes, fingerprint
from posmlp_jax.errors import ConfigError, DataError

SIZE = (40, 48)


class Dots(Source):
    """Black pictures with a bright dot each; the target is where it is, as shares of width and height."""

    description = "dots"

    def __init__(self, length: int = 30):
        self._length = length

    def __len__(self) -> int:
        return self._length

    def read(self, index: int):
        rng = np.random.default_rng(index)
        height, width = (50, 64) if index % 2 else (64, 50)
        point = rng.uniform(0.3, 0.7, 2)
        x, y = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
        dot = 255 * np.exp(-((x - point[0] * width) ** 2 + (y - point[1] * height) ** 2) / 18)
        return np.repeat(np.rint(dot).astype(np.uint8)[:, :, None], 3, axis=2), point

    def example_id(self, index: int) -> str:
        return f"dot {index}"


class Points:
    """In pixels of the result, and whether that is mirrored."""

    columns: ClassVar = {"point": ((2,), np.float32), "mirrored": ((), bool)}

    def __call__(self, target, placement):
        return {"point": placement.matrix @ (*target, 1), "mirrored": placement.mirrored}


def brightest(image: np.ndarray) -> np.ndarray:
    """(x, y) of the middle of the dot."""
    weight = image[..., 0].astype(np.float64)
    return np.array([weight.sum(0) @ (np.arange(image.shape[1]) + 0.5), weight.sum(1) @ (np.arange(len(image)) + 0.5)])[
        :2
    ] / max(weight.sum(), 1)


def take(config, steps=4, size=SIZE, **options):
    with closing(train_batches(Dots(), config, size, batch_size=12, seed=1, targets=Points(), **options)) as batches:
        return list(itertools.islice(batches, steps))


@pytest.mark.parametrize("workers", [{}, {"threads": 2}, {"processes": 1}])
def test_targets_go_with_the_pixels(make_config, workers):
    changes = {"crop": "random_resized", "crop_scale": (0.6, 1.0), "repeats": 2}
    batches, close = take(make_config(**changes, **workers)), 0
    for batch in batches:
        assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
            "image": ((12, *SIZE, 3), np.uint8),
            "index": ((12,), np.int64),
            "point": ((12, 2), np.float32),
            "mirrored": ((12,), bool),
        }
        for image, point in zip(batch["image"], batch["point"], strict=True):
            if (point > 10).all() and (point < (38, 30)).all():  # All of the dot is to be seen.
                assert np.abs(brightest(image) - point).max() < 0.6
                close += 1
    assert close > 20
    assert {value for batch in batches for value in batch["mirrored"]} == {False, True}
    assert_same_batches(take(make_config(**changes), 2, start_step=2), batches[2:])


@pytest.mark.parametrize("crops", [1, 3])
def test_evaluation_places_the_centre_crop(make_config, crops):
    config = make_config(eval_crop=0.9)
    close = 0
    with closing(eval_batches(Dots(), config, SIZE, batch_size=8, crops=crops, targets=Points())) as batches:
        for batch in batches:
            centre = batch["image"] if crops == 1 else batch["image"][:, 1]
            for image, point, weight in zip(centre, batch["point"], batch["weight"], strict=True):
                if weight and (point > 10).all() and (point < (38, 30)).all():
                    assert np.abs(brightest(image) - point).max() < 0.6
                    close += 1
            for column in ("image", "point", "mirrored"):  # Those of fillers are zeros.
                assert not batch[column][batch["weight"] == 0].any()
            assert (batch["index"][batch["weight"] == 0] == -1).all()
    assert close > 15


def test_without_labels_there_is_nothing_of_labels(make_config):
    config = make_config()
    check_source(Dots(), config, SIZE)
    for make, options in ((train_batches, {"seed": 0}), (eval_batches, {})):
        with pytest.raises(DataError, match="the images have no labels, which classification needs: dots"):
            make(Dots(), config, SIZE, batch_size=4, **options)
    config.balance = "classes"
    with pytest.raises(ConfigError, match=r"data.balance is 'classes', but these images have none: dots"):
        train_batches(Dots(), config, SIZE, batch_size=4, seed=0, targets=Points())
    known = fingerprint(Dots())
    assert known == {"examples": 30, "classes": [], "counts": None, "files": known["files"]}
    assert list(changes(known, known | {"examples": 31})) == ["30 examples -> 31"]
    assert list(changes(known, known | {"files": "other"})) == [
        "as many examples, but other files, by their names or sizes"
    ]
