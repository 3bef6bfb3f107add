"""Which frames make a clip, against loops over the definition in exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from posmlp_jax.data.video.sampling import FrameSampling
from posmlp_jax.errors import ConfigError

LENGTHS = (1, 2, 3, 7, 8, 9, 16, 29, 100, 249)


class Draws:
    """Random numbers that are known beforehand."""

    def __init__(self, numbers=None, start=None):
        self._numbers, self._start = numbers, start

    def random(self, size: int) -> np.ndarray:
        return np.array(self._numbers[:size])

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
