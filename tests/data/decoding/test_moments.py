"""Clips round moments: every frame carries its number in its pixels, and its time is known from that."""

import dataclasses

import numpy as np
import pytest
from inked_films import HEIGHT, WIDTH, inked, number_of, write_film
from PIL import Image

from posmlp_jax.data.decoding.frame_folders import open_frame_folder
from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.data.decoding.moments import Moment, decode_moment, open_film
from posmlp_jax.errors import BrokenExampleError, ConfigError

SAMPLING = FrameSampling("dense", 8, 4, 30.0)


def at_rate(rate: float, seconds: float = 9.0) -> np.ndarray:
    return np.arange(int(seconds * rate)) / rate


def still(seconds: float = 9.0) -> np.ndarray:
    """A film of a variable rate: pictures that stand for a while, and quick frames between."""
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.choice([1 / 60, 1 / 24, 1 / 10, 0.9], 400, p=[0.4, 0.4, 0.15, 0.05]))
    return np.round(np.concatenate([[0.0], times[times < seconds]]), 3)


BFRAMES = {"b_frames": 3, "options": {"preset": "veryfast"}}
OPEN = {"options": {"preset": "veryfast", "x264-params": "open-gop=1:bframes=3:keyint=20:min-keyint=20:scenecut=0"}}
FILMS = {
    "30 fps": ("a.mp4", at_rate(30), {}),
    "29.97 fps": ("a.mp4", at_rate(30000 / 1001), {"gop": 30}),
    "25 fps, B-frames": ("a.mp4", at_rate(25), BFRAMES),
    "60 fps": ("a.mp4", at_rate(60), {}),
    "one key frame, B-frames": ("a.mp4", at_rate(30), {"gop": 1000, **BFRAMES}),
    "begins later, B-frames": ("a.mp4", at_rate(30), {"begins": 5.0, **BFRAMES}),
    "variable rate": ("a.mp4", still(), {}),
    "variable rate, B-frames, begins later": ("a.mkv", still(), {"begins": 3.0, **BFRAMES}),
    "open groups, mkv": ("a.mkv", at_rate(30), OPEN),
    "open groups, ts": ("a.ts", at_rate(30), OPEN),
    "webm": ("a.webm", at_rate(30), {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}}),
    "avi": ("a.avi", at_rate(30), {"codec": "mpeg4", "options": {}, "ticks": 30}),
}


@pytest.fixture(scope="module", params=FILMS, ids=list(FILMS))
def film(request, tmp_path_factory):
    name, times, options = FILMS[request.param]
    return open_film(str(write_film(tmp_path_factory.mktemp("film") / name, times, **options))), times


def expected(shown: np.ndarray, time: float, reach: float) -> int:
    """Frame by frame: the last that has begun, or one that begins soon and is nearer."""
    best = 0
    for number, begins in enumerate(shown):
        if begins <= time or (begins - time <= reach and begins - time < time - shown[best] - 1e-5):
            best = number
    return best


def test_frames_are_those_of_their_times(film):
    film, shown = film
    assert film.size == (HEIGHT, WIDTH)
    assert film.seconds == pytest.approx(shown[-1], abs=1.1)
    for time in (0.0, 0.1, 1.0, 2.0, 3.0, 4.0, 5.03, 6.0, 7.0, 8.0, 8.9):
        clip, damaged = decode_moment(Moment(film, time), SAMPLING)
        assert (clip.shape, clip.dtype, damaged) == ((8, HEIGHT, WIDTH, 3), np.uint8, 0)
        times = time + np.arange(-4, 4) * 4 / 30
        found = [number_of(frame) for frame in clip]
        assert found == [expected(shown, one, 1 / 60) for one in times], time
        inside = (times >= 0) & (times <= shown[-1])
        # What the ink says: never later than half of 1/30 s, nor earlier than the frame's time on the screen.
        assert (shown[found] - times)[inside].max(initial=0) <= 1 / 60 + 1e-3


@pytest.mark.parametrize(("name", "first"), [("{:06d}", 1), ("film_{}", 1), ("{:03d}", 0)])
def test_folders_of_frames_go_by_the_files_numbers(tmp_path, name, first):
    for number in range(60):
        if number != 17:
            Image.fromarray(inked(number)).save(tmp_path / f"{name.format(number + first)}.jpg", quality=95)
    (tmp_path / "notes.txt").write_text("other files are passed over")
    folder = open_frame_folder(str(tmp_path), 10.0)
    assert (folder.size, folder.seconds) == ((HEIGHT, WIDTH), 6.0)
    sampling = FrameSampling("dense", 8, 3, 10.0)
    for second in range(7):
        clip, damaged = decode_moment(Moment(folder, float(second)), sampling)
        wanted = np.clip(10 * second + 3 * np.arange(-4, 4), 0, 59)
        assert [number_of(frame) for frame in clip] == np.where(wanted == 17, 16, wanted).tolist()
        assert damaged == np.sum(wanted == 17)
    (tmp_path / "film_007.jpg").write_bytes(b"")
    with pytest.raises(BrokenExampleError, match=r"whose names are of several kinds, as .*film_007\.jpg.*: keep th"):
        open_frame_folder(str(tmp_path), 10.0)


def test_films_that_break_off(tmp_path):
    """What was written first, the header or the frames, decides whether it is a film at all."""
    whole = write_film(tmp_path / "a.mkv", at_rate(30, 6.0))
    data = whole.read_bytes()
    film = open_film(str(whole))
    whole.write_bytes(data[: len(data) // 2])
    assert decode_moment(Moment(film, 1.0), SAMPLING)[1] == 0
    with pytest.raises(BrokenExampleError, match=r"the film breaks off after [23]\.\d\d seconds, before 5"):
        decode_moment(Moment(film, 5.0), SAMPLING)
    whole.write_bytes(b"not a film")
    with pytest.raises(BrokenExampleError, match="not a video file"):
        decode_moment(Moment(film, 1.0), SAMPLING)
    whole.unlink()
    with pytest.raises(BrokenExampleError, match=r"cannot read .*a\.mkv: No such file"):
        decode_moment(Moment(film, 1.0), SAMPLING)
    with pytest.raises(ConfigError, match=r"data\.fps is 0, and clips round key frames take frames by their times"):
        FrameSampling("dense", 8, 4).around()


def test_frames_are_upright(tmp_path, encoded_video, moving_picture):
    (tmp_path / "a.mp4").write_bytes(encoded_video(moving_picture(), rotation=(90.0,)))
    film = open_film(str(tmp_path / "a.mp4"))
    clip, _ = decode_moment(Moment(film, 1.0), SAMPLING)
    assert (film.size, clip.shape) == ((96, 64), (8, 96, 64, 3))


def test_frames_are_small_and_of_one_size(tmp_path):
    film = open_film(str(write_film(tmp_path / "a.mp4", at_rate(30, 2.0))))
    clip, _ = decode_moment(Moment(film, 1.0), SAMPLING, shorter_side=24)
    assert clip.shape == (8, 24, 40, 3)
    clip, _ = decode_moment(Moment(film, 1.0), SAMPLING, transform=lambda frame: frame[:4, :4])
    assert clip.shape == (8, 4, 4, 3)
    # A film whose size has changed since, as it may within a file.
    clip, _ = decode_moment(Moment(dataclasses.replace(film, size=(30, 50)), 1.0), SAMPLING)
    assert clip.shape == (8, 30, 50, 3)
