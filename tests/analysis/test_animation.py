"""Clips that move: each frame of the file shows that frame of each clip, under its caption."""

import io

import numpy as np
import pytest
from PIL import Image

from posmlp_jax.analysis import animate_clips
from posmlp_jax.errors import ConfigError


def test_each_frame_shows_that_frame_of_each_clip():
    """A colour for each frame of each clip: where in the picture it is, and in which frames."""
    colours = np.array([[[200, 0, 0], [0, 200, 0], [0, 0, 200]], [[90, 90, 0], [0, 90, 90], [90, 0, 90]]], np.uint8)
    clips = np.broadcast_to(colours[:, :, None, None], (2, 3, 4, 4, 3))
    picture = Image.open(io.BytesIO(animate_clips(clips, ["left", "$5"], frames_per_second=5)))
    assert picture.format == "PNG"
    assert picture.n_frames == 3
    assert picture.info["loop"] == 0
    for number in range(3):
        picture.seek(number)
        assert picture.info["duration"] == (600 if number == 2 else 200)
        pixels = np.asarray(picture.convert("RGB"))
        places = [np.argwhere((pixels == colour).all(-1)) for colour in colours[:, number]]
        assert min(map(len, places)) > 2000
        # The first is to the left of the second, and captions are above both.
        assert places[0][:, 1].max() < places[1][:, 1].min()
        assert places[0][:, 0].min() > 10
        others = np.delete(colours, number, axis=1).reshape(-1, 3)
        assert not any((pixels == colour).all(-1).any() for colour in others)


def test_rows():
    one = np.zeros((1, 2, 4, 8, 3), np.uint8)
    size = Image.open(io.BytesIO(animate_clips(one, [""]))).size
    many = Image.open(io.BytesIO(animate_clips(np.repeat(one, 5, axis=0), [""] * 5, columns=2))).size
    assert np.allclose(many, (2 * size[0], 3 * size[1]), atol=3)


def test_what_is_no_clip():
    clip = np.zeros((1, 2, 4, 4, 3), np.uint8)
    for wrong, line in [(clip[0], r"not uint8 \(2, 4, 4, 3\)"), (clip / 255, "not float64"), (clip[:0], "uint8")]:
        with pytest.raises(ConfigError, match=f"clips should be uint8.*{line}"):
            animate_clips(wrong, ["a"])
    with pytest.raises(ConfigError, match="1 clips need as many captions, not 2"):
        animate_clips(clip, ["a", "b"])
    for options in ({"columns": 0}, {"frames_per_second": 0}):
        with pytest.raises(ConfigError, match=r"columns and frames_per_second should be above 0, not"):
            animate_clips(clip, ["a"], **options)
