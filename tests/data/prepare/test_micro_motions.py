import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from posmlp_jax.data.decoding.images import decode
from posmlp_jax.data.prepare.datasets import micro_motions
from posmlp_jax.data.prepare.datasets.micro_motions import (
    CLIPS,
    EMOTIONS,
    FALL,
    PARTS,
    RISE,
    SUBJECTS,
    draw_path,
    encode,
    make_clip,
    render,
    write_casme2,
)
from posmlp_jax.data.prepare.prepare import prepare
from posmlp_jax.data.sources.subjects import SubjectSource

ROOT = Path(__file__).parents[3]
REGIONS = {"mouth": slice(38, 54), "brow": slice(11, 27)}


@pytest.mark.parametrize("part", PARTS)
def test_a_clip_backwards_is_one_of_the_opposite_emotion(part):
    """Up to the apex the two have the same frames, equally often, whatever JPEG makes of them."""
    for number in range(5):
        up, down = (encode(make_clip(3, emotion, number)) for emotion in PARTS[part])
        assert up[:RISE] == down[:RISE][::-1]
        assert len(set(up[:RISE])) == RISE
        assert up[-1] == up[0]
        assert down[-1] == down[0]


def test_paths():
    ways = []
    for seed in range(200):
        path = draw_path(np.random.default_rng(seed))
        assert len(path) == RISE + FALL
        np.testing.assert_allclose(path[:RISE], -path[:RISE][::-1], rtol=0, atol=1e-15)
        assert (np.diff(path[:RISE]) > 0).all()
        assert (np.diff(path[RISE - 1 :]) < 0).all()
        ways.append(path[RISE - 1] - path[0])
    assert 1.5 <= min(ways) < 1.55
    assert 1.95 < max(ways) <= 2


@pytest.mark.parametrize("part", PARTS)
def test_the_skin_moves_as_the_path_says(part):
    """A dot of the texture at the part's middle, found again by its centre of mass, moves by the path."""
    original = micro_motions.face
    row = round(micro_motions._ROWS[part])
    y, x = np.mgrid[: micro_motions.SIZE + 16, : micro_motions.SIZE + 16].astype(np.float32)
    dot = 100 * np.exp(-((y - 8 - row) ** 2 + (x - 8 - 31.5) ** 2) / 8).astype(np.float32) + 20
    try:
        micro_motions.face = lambda subject: dot
        frames = render(1, part, np.array([0.0, 1.0, -1.0]), np.random.default_rng(0)).astype(float)
    finally:
        micro_motions.face = original
    ink = frames - frames.min((1, 2), keepdims=True)
    rows = (ink.sum(2) @ np.arange(micro_motions.SIZE)) / ink.sum((1, 2))
    # The skin beside it moves less.
    assert 0.8 < rows[0] - rows[1] < 1
    assert 0.8 < rows[2] - rows[0] < 1


def flow(clip: np.ndarray, region: slice) -> float:
    """How far a region has gone down from onset to apex, by least squares over its gradient."""
    first, last = (cv2.GaussianBlur(clip[place].astype(float), (0, 0), 1.5) for place in (0, RISE - 1))
    down = np.gradient((first + last) / 2, axis=0)[region, 16:48]
    return float(-(down * (last - first)[region, 16:48]).sum() / (down**2).sum())


def test_a_flow_finds_part_and_sign():
    """The information is there, after JPEG too, and says the same for all subjects."""
    right = 0
    for subject in range(1, SUBJECTS + 1):
        for emotion in EMOTIONS:
            clip = np.stack([decode(image)[..., 0] for image in encode(make_clip(subject, emotion, 7))])
            moved = {part: flow(clip, region) for part, region in REGIONS.items()}
            part = max(moved, key=lambda each: abs(moved[each]))
            right += PARTS[part][int(moved[part] > 0)] == emotion
    assert right == SUBJECTS * len(EMOTIONS)


def test_prepared(tmp_path):
    folder = prepare("micro_motions", data_dir=str(tmp_path))
    source = SubjectSource(folder)
    assert len(source) == SUBJECTS * len(EMOTIONS) * CLIPS
    assert set(source.subjects) == {f"micro_motions/sub{number:02d}" for number in range(1, SUBJECTS + 1)}
    assert source.class_names == ("negative", "positive", "surprise")
    assert np.bincount(source.read_labels()).tolist() == [200, 100, 100]
    for index in (0, 123, 399):
        video, label = source[index]
        assert video.num_frames == len(video.data) == RISE
        assert source.class_names[label] == EMOTIONS[source.clips[index].emotion]
    whole = SubjectSource(folder, clip_end="offset")
    assert whole[5][0].num_frames == RISE + FALL


def test_as_casme2_is_given_away(tmp_path, monkeypatch):
    """Through table, folders and unpadded names come the same clips."""
    monkeypatch.setattr(micro_motions, "SUBJECTS", 2)
    monkeypatch.setattr(micro_motions, "CLIPS", 1)
    write_casme2(tmp_path / "source", subjects=2, clips=1)
    made = SubjectSource(prepare("micro_motions", data_dir=str(tmp_path)))
    read = SubjectSource(prepare("casme2", str(tmp_path / "source"), str(tmp_path)))
    assert [clip._replace(id="", subject="") for clip in read.clips] == [
        clip._replace(id="", subject="") for clip in made.clips
    ]
    for index in range(len(made)):
        assert read[index][0].data == made[index][0].data
    assert read.subjects == tuple(subject.replace("micro_motions", "casme2") for subject in made.subjects)


@pytest.mark.heavy
def test_another_process_makes_the_same_clips():
    code = (
        "import hashlib; from posmlp_jax.data.prepare.datasets.micro_motions import encode, make_clip\n"
        "print(hashlib.sha256(b''.join(encode(make_clip(9, 'disgust', 11)))).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == hashlib.sha256(b"".join(encode(make_clip(9, "disgust", 11)))).hexdigest()
