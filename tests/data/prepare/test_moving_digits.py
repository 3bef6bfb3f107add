import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from posmlp_jax.data import open_source
from posmlp_jax.data.decoding.encoded_video import EncodedVideo
from posmlp_jax.data.decoding.frames import decode_frames, probe
from posmlp_jax.data.prepare.datasets import digits, moving_digits
from posmlp_jax.data.prepare.datasets.moving_digits import CLASSES, NUM_FRAMES, SIZE, Path2D, draw_path, encode, render

ROOT = Path(__file__).parents[3]
OPPOSITES = tuple(zip(CLASSES[::2], CLASSES[1::2], strict=True))


def decoded(clip: np.ndarray) -> np.ndarray:
    """What is left of grey frames after they were a video file."""
    return decode_frames(EncodedVideo(encode(clip), NUM_FRAMES, 8.0, "clip"), range(NUM_FRAMES))[0]


def middle(clip: np.ndarray) -> np.ndarray:
    """The centre of mass of each frame, x and y in pixels from the corner, [frames, 2]."""
    mass = clip.astype(float)
    places = np.arange(SIZE) + 0.5
    x, y = (mass.sum(1) @ places, mass.sum(2) @ places) / mass.sum((1, 2))
    return np.stack([x, y], 1)


def test_the_pairs():
    assert OPPOSITES == (("left", "right"), ("up", "down"), ("clockwise", "counterclockwise"), ("growing", "shrinking"))


@pytest.mark.parametrize(("motion", "opposite"), OPPOSITES)
def test_a_clip_backwards_is_one_of_the_opposite_class(motion, opposite):
    """So the two classes have the same frames, and the same unordered sets of frames, equally often."""
    pixels, _ = digits.load()
    for seed in range(20):
        forwards = render(pixels[seed], draw_path(motion, np.random.default_rng(seed)))
        backwards = render(pixels[seed], draw_path(opposite, np.random.default_rng(seed)))
        np.testing.assert_array_equal(forwards[::-1], backwards)
        assert (forwards != backwards).any()
        if seed < 4:
            # The encoder leaves no trace of the direction either.
            np.testing.assert_array_equal(decoded(forwards)[::-1], decoded(backwards))


def test_what_is_drawn_does_not_depend_on_the_class():
    """All but the motion itself has one distribution: it says nothing about the class."""
    for seed in range(5):
        paths = [draw_path(motion, np.random.default_rng(seed)) for motion in CLASSES]
        assert len({(path.center, path.side, path.angle) for path in paths}) == 1


def test_digits_move_as_their_path_says():
    dot = np.zeros((8, 8), int)
    dot[3:5, 3:5] = 16
    clip = render(dot, Path2D((30.3, 34.7), 24, 20, shift=(-1.25, 0.5)))
    times = np.arange(NUM_FRAMES)[:, None] - 7.5
    np.testing.assert_allclose(middle(clip), np.array([30.3, 34.7]) + times * [-1.25, 0.5], atol=0.03)
    # A dot to the right of the middle: on a picture, whose y points down, clockwise means a growing angle.
    dot = np.zeros((8, 8), int)
    dot[3:5, 6:8] = 16
    clip = render(dot, Path2D((32, 32), 24, 0, turn=7.0))
    x, y = (middle(clip) - 32).T
    np.testing.assert_allclose(np.degrees(np.arctan2(y, x)), times[:, 0] * 7, atol=0.5)
    np.testing.assert_allclose(np.hypot(x, y), 3 * 24 / 8, atol=0.05)
    clip = render(dot, Path2D((32, 32), 24, 0, growth=0.05))
    np.testing.assert_allclose(middle(clip)[:, 0] - 32, 9 * np.exp(0.05 * times[:, 0]), atol=0.1)


@pytest.mark.parametrize(("motion", "sign"), [("left", (-1, 0)), ("right", (1, 0)), ("up", (0, -1)), ("down", (0, 1))])
def test_directions(motion, sign):
    for seed in range(5):
        clip = render(digits.load()[0][seed], draw_path(motion, np.random.default_rng(seed)))
        moved = middle(clip)[-1] - middle(clip)[0]
        assert np.dot(moved, sign) > 10
        assert abs(np.dot(moved, sign[::-1])) < 1.5


def test_turning_and_growing():
    path = {motion: draw_path(motion, np.random.default_rng(0)) for motion in CLASSES}
    assert path["clockwise"].turn > 4
    assert path["counterclockwise"].turn < -4
    clip = render(digits.load()[0][3], path["growing"]).astype(float).sum((1, 2))
    assert (np.diff(clip) > 0).all()
    assert clip[-1] > 2 * clip[0]


def test_files_are_real_videos_and_nearly_lossless():
    clip = render(digits.load()[0][0], draw_path("left", np.random.default_rng(0)))
    data = encode(clip)
    assert data[4:8] == b"ftyp"
    info = probe(data)
    assert (info.num_frames, info.fps) == (NUM_FRAMES, 8.0)
    difference = np.abs(decoded(clip).astype(int) - clip[..., None])
    assert difference.mean() < 0.5
    assert difference.max() < 25


def test_files_are_the_same_in_every_process():
    program = (
        "import hashlib, numpy as np; from posmlp_jax.data.prepare.datasets import digits; "
        "from posmlp_jax.data.prepare.datasets.moving_digits import *; "
        "read = BUILDER.build(None, 'moving_digits').splits['test'].shards[0]; "
        "print(hashlib.sha256(b''.join(one['video'] for one, _ in zip(read(), range(5)))).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    examples = moving_digits.build(None, "moving_digits").splits["test"].shards[0]()
    here = hashlib.sha256(b"".join(example["video"] for example, _ in zip(examples, range(5), strict=False)))
    assert run.stdout.strip() == here.hexdigest()


def test_prepared_on_first_use(tmp_path, make_config, monkeypatch):
    monkeypatch.setattr(moving_digits, "CLIPS", {"train": 40, "test": 16})
    config = make_config(name="moving_digits", data_dir=str(tmp_path))
    used = {}
    for split, count in (("train", 40), ("eval", 16)):
        source = open_source(config, split, num_classes=8)
        assert (source.kind, len(source), source.class_names) == ("video", count, CLASSES)
        assert np.bincount(source.read_labels()).tolist() == [count // 8] * 8
        videos = [source[index] for index in range(count)]
        used[split] = {video.data for video, _ in videos}
        for video, label in videos:
            assert video.num_frames == NUM_FRAMES
            assert video.id.endswith(f"_{CLASSES[label]}")
    assert not used["train"] & used["eval"]


def test_test_clips_show_other_digits():
    indices = digits.split_indices()
    assert not set(indices["train"]) & set(indices["test"])
    assert sum(map(len, indices.values())) == 1797
    assert (indices["test"] % 5 == 0).all()
