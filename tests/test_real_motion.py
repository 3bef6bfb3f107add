"""`benchmarks.real_motion`: which frames its clips have, and what it counts."""

import av
import numpy as np
import pytest

from benchmarks import real_motion
from benchmarks.video_pipeline import encode
from posmlp_jax.errors import DataError


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A film of 100 frames that become lighter, frame by frame."""
    frames = np.repeat(np.arange(20, 220, 2, dtype=np.uint8), 96 * 64 * 3).reshape(100, 64, 96, 3)
    path = tmp_path_factory.mktemp("films") / "light.mp4"
    path.write_bytes(encode(frames, "mp4", "mpeg4", 1, {"qmin": "2", "qmax": "2"}))
    return path


def test_no_frame_is_in_both_parts(film):
    """And every clip has its reverse, with the same frames."""
    parts = real_motion.parts(100)
    frames = {
        part: {int(n) for middle in middles for step in (-4, -2, 2, 4) for n in real_motion.clip_frames(middle, step)}
        for part, middles in parts.items()
    }
    assert all(parts.values())
    assert max(frames["train"]) < 70 <= min(frames["val"])
    assert min(frames["train"]) == 0
    assert max(frames["val"]) <= 99
    np.testing.assert_array_equal(real_motion.clip_frames(14, 4), [0, 4, 8, 12, 16, 20, 24, 28])
    np.testing.assert_array_equal(real_motion.clip_frames(14, 2), [7, 9, 11, 13, 15, 17, 19, 21])
    np.testing.assert_array_equal(real_motion.clip_frames(14, -4), real_motion.clip_frames(14, 4)[::-1])


def test_the_clips_play_as_their_class_says(film, tmp_path):
    read = real_motion.read_film(film)
    assert read.shape == (100, 48, 72, 3)
    real_motion.write_clips(read, "light", tmp_path)
    assert {path.name for path in (tmp_path / "train").iterdir()} == set(real_motion.CLASSES)
    for label, step in real_motion.CLASSES.items():
        with av.open(str(tmp_path / "val" / label / "light_00085.mp4")) as container:
            values = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]
        # The encoder rounds every frame's grey a little.
        np.testing.assert_allclose(values[-1] - values[0], 7 * 2 * step, atol=4)
        assert np.all(np.sign(np.diff(values)) == np.sign(step))
        np.testing.assert_allclose(np.mean(values), 20 + 2 * 85, atol=2)


def test_scores():
    pairs = [
        ("forward_x1", "forward_x1"),
        ("forward_x1", "backward_x1"),
        ("forward_x2", "backward_x1"),
        ("backward_x2", "backward_x1"),
    ]
    assert real_motion.scores(pairs) == (0.25, 0.5, 0.5)


def test_mistakes(film, tmp_path):
    with pytest.raises(DataError, match="cannot read the film"):
        real_motion.main([str(tmp_path / "none.mp4")])
    (tmp_path / "text.mp4").write_text("no film")
    with pytest.raises(DataError, match="cannot read the film"):
        real_motion.main([str(tmp_path / "text.mp4")])
    with pytest.raises(DataError, match="is there already; choose another --workdir"):
        real_motion.main([str(film), f"--workdir={tmp_path}"])
    short = np.zeros((60, 32, 32, 3), np.uint8)
    (tmp_path / "short.mp4").write_bytes(encode(short, "mp4", "mpeg4", 1, {}))
    with pytest.raises(DataError, match="has 60 frames, too few for clips to train and to test on"):
        real_motion.main([str(tmp_path / "short.mp4")])
