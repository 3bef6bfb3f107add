"""Which frames make a clip, against loops over the definition in exact arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from posmlp_jax.data.decoding.frame_sampling import FrameSampling
from posmlp_jax.errors import ConfigError

LENGTHS = (1, 2, 3, 7, 8, 9, 16, 29, 100, 249)


class Draws:
    """Random numbers that are known beforehand."""

    def __init__(self, numbers=None, start=None):
        self._numbers, self._start = numbers, start

    def random(self, size: int | None = None):
        return np.array(self._numbers[:size]) if size else self._numbers[0]

    def integers(self, end: int) -> int:
        assert 0 <= self._start < end
        return self._start


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("frames", [1, 4, 8, 16])
def test_segments_by_loops(length, frames):
    sampling = FrameSampling("segment", frames)
    numbers = np.random.default_rng(length).random(frames)
    wanted = [int((i + Fraction(numbers[i])) * length / frames) for i in range(frames)]
    assert sampling.train(length, Draws(numbers)).tolist() == wanted
    assert sampling.train(length, Draws(np.full(frames, 1 - 2.0**-53)))[-1] == length - 1
    for clips in (1, 2, 3, 5):
        wanted = [
            [int((i + (k + Fraction(1, 2)) / clips) * length / frames) for i in range(frames)] for k in range(clips)
        ]
        assert sampling.test(length, clips).tolist() == wanted


def test_each_segment_gives_each_of_its_frames_equally_often_and_by_itself():
    rng = np.random.default_rng(0)
    drawn = np.stack([FrameSampling("segment", 4).train(40, rng) for _ in range(4000)])
    for segment, column in enumerate(drawn.T):
        assert set(column) == set(range(10 * segment, 10 * segment + 10))
        assert stats.chisquare(np.bincount(column - 10 * segment)).pvalue > 1e-3
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.06


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("frames", [1, 4, 8, 16, 32])
def test_rounded_segments_by_loops(length, frames):
    sampling = FrameSampling("rounded_segment", frames)
    size = (length - 1) / frames
    numbers = np.random.default_rng(length).random(frames)
    for drawn in (numbers, np.zeros(frames), np.full(frames, 1 - 2.0**-53)):
        wanted = []
        for i, number in enumerate(drawn):
            # Python's `round` is to even, too.
            choices = list(range(round(size * i), round(size * (i + 1)) + 1))
            wanted.append(choices[int(number * len(choices))])
        assert sampling.train(length, Draws(drawn)).tolist() == wanted
    for clips in (1, 2, 3, 5):
        wanted = [[round(size * i) + int(size / (clips + 1) * (k + 1)) for i in range(frames)] for k in range(clips)]
        assert sampling.test(length, clips).tolist() == wanted


def test_rounded_segments_share_their_borders():
    rng = np.random.default_rng(0)
    drawn = np.stack([FrameSampling("rounded_segment", 4).train(41, rng) for _ in range(4000)])
    for segment, column in enumerate(drawn.T):
        assert set(column) == set(range(10 * segment, 10 * segment + 11))
        assert stats.chisquare(np.bincount(column - 10 * segment)).pvalue > 1e-3


@pytest.mark.parametrize("length", [1, 30, 100, 250, 300])
@pytest.mark.parametrize("rate", [0.1, 7.5, 15, 24, 25, 29.97002983, 30, 50, 60])
@pytest.mark.parametrize("frames", [1, 16, 32])
def test_timed_clips_by_loops(length, rate, frames):
    """Of a clip of 64 (128) frames of 30 a second, 16 (32) frames, whatever the video's rate."""
    sampling = FrameSampling("dense", frames, 4, fps=30)
    size = 4 * frames / 30 * rate
    room = max(length - size, 0)

    def check(taken, start):
        end = start + size - 1
        for i, frame in enumerate(taken):
            place = min(max(start + (end - start) * i / max(frames - 1, 1), 0), length - 1)
            # Where rounding decides whether a place is a whole number, either frame will do.
            assert frame in (int(place), int(place + 1e-9), int(max(place - 1e-9, 0)))

    for number in (0.0, 0.25, 0.7321, 1 - 2.0**-53):
        check(sampling.train(length, Draws([number]), rate), number * room)
    check(sampling.test(length, 1, rate)[0], math.floor(room / 2))
    for clips in (2, 4, 10):
        for k, taken in enumerate(sampling.test(length, clips, rate)):
            check(taken, k * math.floor(room / (clips - 1)))


def test_timed_clips_last_as_long_at_any_rate():
    for rate in (15, 30, 60):
        (frames,) = FrameSampling("dense", 16, 4, fps=30).test(1000, 1, rate)
        # 64 frames of 30 a second.
        assert (frames[-1] - frames[0] + 1) / rate == pytest.approx(64 / 30, abs=1 / rate)
    sampling = FrameSampling("dense", 16, 4, fps=30)
    assert sampling.test(300, 4, 30)[:, 0].tolist() == [0, 78, 156, 234]
    assert sampling.test(300, 1, 30)[0].tolist() == [118 + 42 * i // 10 for i in range(16)]
    for unknown in (0.0, float("nan")):
        np.testing.assert_array_equal(sampling.test(300, 4, unknown), sampling.test(300, 4, 30))
    # Without `fps`, and of segments, the rate says nothing.
    for other in (FrameSampling("dense", 16, 4), FrameSampling("segment", 16, 4, fps=30)):
        assert not other.timed
        np.testing.assert_array_equal(other.test(300, 2, 15), other.test(300, 2))


def test_timed_starts_are_uniform():
    rng = np.random.default_rng(0)
    drawn = np.stack([FrameSampling("dense", 4, 3, fps=30).train(22, rng, 25) for _ in range(4000)])
    # A clip of 10 frames, from [0, 12].
    assert stats.chisquare(np.bincount(drawn[:, 0])).pvalue > 1e-3
    assert len(np.bincount(drawn[:, 0])) == 12


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("frames", "stride"), [(1, 4), (4, 1), (8, 4), (16, 4), (4, 7)])
def test_dense_clips_by_loops(length, frames, stride):
    sampling = FrameSampling("dense", frames, stride)
    starts = [s for s in range(length) if s + (frames - 1) * stride < length] or [0]

    def clip(start):
        return [min(start + i * stride, length - 1) for i in range(frames)]

    for start in starts:
        assert sampling.train(length, Draws(start=start)).tolist() == clip(start)
    with pytest.raises(AssertionError):
        sampling.train(length, Draws(start=len(starts)))
    assert sampling.test(length).tolist() == [clip(starts[(len(starts) - 1) // 2])]
    for clips in (2, 3, 4):
        wanted = [clip(int(Fraction(k * (len(starts) - 1), clips - 1))) for k in range(clips)]
        assert sampling.test(length, clips).tolist() == wanted


def test_dense_starts_are_uniform():
    rng = np.random.default_rng(0)
    drawn = np.stack([FrameSampling("dense", 4, 3).train(20, rng) for _ in range(4000)])
    assert (np.diff(drawn) == 3).all()
    counts = np.bincount(drawn[:, 0])
    assert len(counts) == 11
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_video_of_fewer_frames_than_asked():
    assert FrameSampling("segment", 8).test(3)[0].tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert FrameSampling("dense", 4, 4).test(6, 2).tolist() == [[0, 4, 5, 5]] * 2
    rng = np.random.default_rng(0)
    assert FrameSampling("segment", 5).train(1, rng).tolist() == [0] * 5
    assert FrameSampling("dense", 3, 9).train(2, rng).tolist() == [0, 1, 1]


def test_mistakes():
    with pytest.raises(ConfigError, match=r"unknown data.sampling 'segments': did you mean 'segment'"):
        FrameSampling("segments", 8)
    with pytest.raises(ConfigError, match="stride is 0, and should be 1 or more"):
        FrameSampling("dense", 8, 0)
    with pytest.raises(ConfigError, match="a clip has 0 frames"):
        FrameSampling("dense", 0)
    for fps in (-1, math.inf, math.nan):
        with pytest.raises(ConfigError, match=f"data.fps is {fps}, and should be 0"):
            FrameSampling("dense", 8, fps=fps)
