"""The picture of a training batch: what is in it, and the program."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from posmlp_jax import preview
from posmlp_jax.data import open_annotated, open_source, train_batches
from posmlp_jax.data.prepare.datasets import digit_scenes
from posmlp_jax.tasks.classification.pictures import caption
from posmlp_jax.tasks.detection.targets import DetectionTargets
from posmlp_jax.training import default_config

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config(digits_dir):
    config = default_config("posmlp_t")
    config.model.update(image_size=32, widths=(8, 16), depths=(1, 1), expansions=(2, 2), windows=(4, 2), groups=(2, 4))
    config.data.update(name="digits", data_dir=str(digits_dir), eval_split="test", crop="pad", threads=0)
    return config


def drawn(figure):
    return [(axis.images[0].get_array(), axis.get_title()) for axis in figure.axes]


def test_the_first_images_of_the_stream_with_their_names(config):
    config.data.randaugment = "rand-m6-n3"
    pairs = drawn(preview.preview(config))
    source = open_source(config.data, "train")
    batch = next(train_batches(source, config.data, (32, 32), batch_size=64, seed=0))
    assert len(pairs) == 32
    for (image, title), expected, label in zip(pairs, batch["image"], batch["label"], strict=False):
        np.testing.assert_array_equal(image, expected)
        assert title == source.class_names[label]


def test_mixed_images_have_the_shares_of_their_labels(config):
    plain = drawn(preview.preview(config))
    config.mixing.mixup = 1.0
    mixed = drawn(preview.preview(config))
    shares = set()
    for index, (image, title) in enumerate(mixed):
        own, partner = plain[index], plain[index ^ 1]
        if own[1] == partner[1]:
            continue
        lines = dict(line.split(" ", 1) for line in title.split("\n"))
        share = float(lines[own[1]].rstrip(" %")) / 100
        np.testing.assert_allclose(image, share * own[0] + (1 - share) * partner[0], atol=0.5 + 255 * 0.005)
        assert sum(float(value.rstrip(" %")) for value in lines.values()) == pytest.approx(100, abs=1)
        shares.add((index // 8, share))
    assert len(shares) == 4  # One a row.


def test_a_detectors_images_have_boxes_and_count_their_objects(tmp_path, monkeypatch):
    monkeypatch.setattr(digit_scenes, "SCENES", {"train": 8, "validation": 1})
    config = default_config("mask_rcnn_posmlp_t", "detection")
    config.model.image_size = 128
    config.data.update(name="digit_scenes", data_dir=str(tmp_path), crop="fit", threads=0)
    pairs = drawn(preview.preview(config))
    source = open_annotated(config.data, "train")
    targets = DetectionTargets(source, 100, masks=True)
    batch = next(train_batches(source, config.data, (128, 128), targets=targets, batch_size=32, seed=0))
    for (image, title), pixels, boxes, classes in zip(
        pairs, *(batch[name] for name in ("image", "boxes", "classes")), strict=True
    ):
        names = [str(digit) for digit in classes[classes >= 0]]
        expected = {f"{names.count(name)} × {name}" if names.count(name) > 1 else name for name in names}
        assert set(title.split(", ")) <= expected | {f"{len(expected) - 3} classes more"}
        # As large again, and drawn on where the boxes are.
        changed = (image != pixels.repeat(2, axis=0).repeat(2, axis=1)).any(axis=-1)
        assert changed.any() == bool(names)
        for left, top, right, _ in 2 * boxes[classes >= 0]:
            assert changed[round(top), round(left) : round(right)].mean() > 0.9


def test_titles():
    assert caption(np.array([0.0, 1.0]), None) == "class 1"
    assert caption(np.array([0.3, 0.7]), ("cat", "dog")) == "dog 70 %\ncat 30 %"
    assert caption(np.array([1.0, 0.0]), ("a very long name of a class", "dog")) == "a very long name o…"


def test_the_program(digits_dir, tmp_path):
    command = [sys.executable, "-m", "posmlp_jax.preview", "--config=configs/digits.py"]
    options = [
        f"--config.data.data_dir={digits_dir}",
        "--config.mixing.cutmix=1.0",
        f"--output={tmp_path}/new/grid.png",
    ]
    result = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, f"wrote {tmp_path}/new/grid.png\n"), result.stderr
    picture = np.asarray(Image.open(tmp_path / "new/grid.png"))
    assert picture.shape[1] == 1200
    assert 500 < picture.shape[0] < 1000
    result = subprocess.run([*command, "--config.data.augmnt=x"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "error: unknown config field 'data.augmnt' in 'data'; did you mean 'augment'?\n"


def test_a_picture_among_the_examples(tmp_path):
    photo = tmp_path / "cats" / "1.png"
    photo.parent.mkdir()
    photo.write_bytes(b"a photo")
    command = [sys.executable, "-m", "posmlp_jax.preview", "--config=configs/own_images.py"]
    for output in (photo, tmp_path / "cats" / "grid.png"):
        options = [f"--config.data.data_dir={tmp_path}", f"--output={output}"]
        result = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
        assert result.returncode == 2
        assert result.stderr == (
            f"error: cannot write {output} in a folder of the data in {tmp_path}; choose another --output\n"
        )
    assert [path.read_bytes() for path in photo.parent.iterdir()] == [b"a photo"]


def test_of_clips_each_row_is_one(tmp_path, monkeypatch):
    from configs import moving_digits as clips_config
    from posmlp_jax.data.prepare.datasets import moving_digits

    monkeypatch.setattr(moving_digits, "CLIPS", {"train": 40, "test": 16})
    config = clips_config.get_config()
    config.data.data_dir = str(tmp_path)
    config.data.repeats = 2
    config.mixing.mixup = 0.5
    batch = next(train_batches(open_source(config.data, "train"), config.data, (8, 32, 32), batch_size=4, seed=0))
    figure = preview.preview(config)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert len(titles) == 32
    assert not any(axis.get_title() for axis in figure.axes)
    names = moving_digits.CLASSES
    for row in range(4):
        first, *others = titles[8 * row : 8 * row + 8]
        assert names[batch["label"][row]] in first.replace("…", "")
        assert set(others) == {""}
