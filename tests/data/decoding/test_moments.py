"""Clips round moments: every frame carries its number in its pixels, and its time is known from that."""

from fractions import Fraction

import av
import numpy as np
import pytest

from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.data.decoding.moments import Moment, decode_moment, open_film

HEIGHT, WIDTH, BITS = 48, 80, 10
X264 = {"preset": "ultrafast", "tune": "fastdecode"}
SAMPLING = FrameSampling("dense", 8, 4, 30.0)


def inked(number: int) -> np.ndarray:
    """A frame that has its number in squares of 16 pixels, a bit each."""
    frame = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    for bit in range(BITS):
        row, column = 16 * (bit // 5), 16 * (bit % 5)
        frame[row : row + 16, column : column + 16] = 255 if number >> bit & 1 else 0
    return frame


def number_of(frame: np.ndarray) -> int:
    squares = [frame[16 * (bit // 5) + 8, 16 * (bit % 5) + 8].mean() for bit in range(BITS)]
    return sum(int(level > 127) << bit for bit, level in enumerate(squares))


def write_film(path, times, *, begins=0.0, codec="libx264", gop=12, b_frames=0, options=X264, ticks=90_000):
    """Frames that are shown at these times, in seconds after the film begins, which is at another time in the file."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.gop_size, stream.max_b_frames, stream.thread_count = gop, b_frames, 1
        stream.codec_context.time_base = Fraction(1, ticks)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(inked(number), format="rgb24")
            frame.pts, frame.time_base = round((begins + time) * ticks), Fraction(1, ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


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
