"""Steps of one canvas each: which, of which examples, against a simulation step by step."""

import itertools
from contextlib import closing

import numpy as np
import pytest
from helpers import assert_same_batches

from posmlp_jax.data import Source, train_batches, training_sizes
from posmlp_jax.data.canvases import Canvases
from posmlp_jax.data.stream import StepCanvases
from posmlp_jax.data.targets import NoTargets
from posmlp_jax.errors import ConfigError

CANVASES = ((8, 12), (30, 40), (12, 8), (10, 10))  # The second is for no image.
SHAPES = ((10, 15), (24, 16), (16, 16), (9, 14))
BATCH = 12


class Pictures(Source):
    """Small pictures of noise in four shapes, as many of each as `random` says."""

    description = "pictures"

    def __init__(self, broken: int | None = None):
        self._shapes = np.random.default_rng(0).choice(4, 101, p=[0.5, 0.05, 0.15, 0.3])
        self._broken = broken
        self.sizes = np.array(SHAPES)[self._shapes]

    def __len__(self) -> int:
        return len(self._shapes)

    def read(self, index: int):
        if index == self._broken:
            return b"nothing", None
        return np.random.default_rng(index).integers(0, 256, (*self.sizes[index], 3), np.uint8), None

    def example_id(self, index: int) -> str:
        return f"picture {index}"


@pytest.fixture
def fit_config(make_config):
    return lambda **changes: make_config(**{"crop": "fit", "canvases": CANVASES, "erasing_probability": 0.5, **changes})


def take(config, steps, start_step=0, seed=5, hosts=(0, 1), source=None):
    sizes = training_sizes(config, (9, 9))
    host, count = hosts
    options = {"start_step": start_step, "process_index": host, "process_count": count, "report": lambda line: None}
    with closing(
        train_batches(source or Pictures(), config, sizes, batch_size=BATCH, seed=seed, targets=NoTargets(), **options)
    ) as batches:
        return list(itertools.islice(batches, steps))


@pytest.mark.parametrize("counts", [(5, 3), (1, 1000), (1000, 1), (7, 0, 3), (0, 4), (60, 25, 10, 5), (9,), (3,) * 6])
def test_each_canvas_has_its_share_of_any_number_of_steps(counts):
    steps, had, share = StepCanvases(counts, seed=3), np.zeros(len(counts), int), np.array(counts) / sum(counts)
    for step in range(3000):
        canvas, before = steps(step)
        assert before == had[canvas]
        had[canvas] += 1
        assert np.abs(had - (step + 1) * share).max() < np.count_nonzero(counts)
    assert had[np.array(counts) == 0].sum() == 0
    # Also far ahead, where no step before has been looked at.
    far = 10**12
    ranks = [steps(far + step) for step in range(50)]
    for canvas, rank in ranks:
        assert abs(rank - far * share[canvas]) < len(counts) + 50
    others = [StepCanvases(counts, seed=seed) for seed in range(9)]
    begin = {tuple(other(step)[0] for step in range(40)) for other in others}
    assert len(begin) > 1 or np.count_nonzero(counts) == 1 or 1 in counts


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_stream_is_a_function_of_seed_and_step(fit_config, repeats):
    config = fit_config(repeats=repeats)
    whole = take(config, 14)
    assert len({batch["image"].shape for batch in whole}) == 3
    for start in (1, 5, 13):
        assert_same_batches(take(config, 14 - start, start), whole[start:])
    for workers in ({"threads": 3}, {"processes": 1})[: 2 if repeats == 1 else 1]:
        assert_same_batches(take(fit_config(repeats=repeats, **workers), 6, 4), whole[4:10])
    for hosts in (2, 3):
        parts = [take(config, 14, hosts=(host, hosts)) for host in range(hosts)]
        joined = [
            {key: np.concatenate([part[key] for part in step]) for key in step[0]} for step in zip(*parts, strict=True)
        ]
        assert_same_batches(joined, whole)
    other = take(config, 14, seed=6)
    assert [batch["image"].shape for batch in other] != [batch["image"].shape for batch in whole]


@pytest.mark.parametrize("repeats", [1, 2])
def test_every_image_comes_once_an_epoch(fit_config, repeats):
    """Of each canvas, the images of all its steps one after the other are whole rounds of its images."""
    source, config = Pictures(), fit_config(repeats=repeats)
    belongs = Canvases(CANVASES, config)(source.sizes)
    assert np.bincount(belongs, minlength=4)[1] == 0
    drawn = {canvas: [] for canvas in range(4)}
    steps = 4 * repeats * 101 // BATCH
    for batch in take(config, steps):
        canvas = CANVASES.index(batch["image"].shape[1:3])
        assert set(belongs[batch["index"]]) == {canvas}
        index = batch["index"].reshape(-1, repeats, 2) if repeats > 1 else batch["index"]
        if repeats > 1:  # Two examples take turns: a b a b.
            assert (index == index[:, :1]).all()
            index = index[:, 0]
        drawn[canvas] += index.ravel().tolist()
    times = np.zeros(101, int)
    for canvas, indices in drawn.items():
        (members,) = np.nonzero(belongs == canvas)
        rounds = [indices[at : at + len(members)] for at in range(0, len(indices), max(len(members), 1))]
        for one in rounds[:-1]:
            assert sorted(one) == members.tolist()
        assert len(set(map(tuple, rounds[:-1]))) == len(rounds[:-1]) or len(members) < 4  # Each in an order of its own.
        np.add.at(times, indices, 1)
    # After four epochs nobody is more than a few steps' share behind.
    each = BATCH // repeats
    for canvas in np.unique(belongs):
        count = (belongs == canvas).sum()
        assert abs(times[belongs == canvas].mean() - 4) < (3 + 1) * each / count


def test_a_broken_image_is_replaced_by_one_of_its_canvas(fit_config):
    source = Pictures(broken=int(np.flatnonzero(Pictures()._shapes == 1)[0]))
    assert (source._shapes == 1).sum() > 1
    config = fit_config(max_broken=0.5)
    belongs = Canvases(CANVASES, config)(source.sizes)
    for batch in take(config, 60, source=source):
        assert {CANVASES[canvas] for canvas in belongs[batch["index"]]} == {batch["image"].shape[1:3]}
        assert source._broken not in batch["index"]


def test_one_canvas_has_the_order_of_all_other_crops(fit_config):
    alone = take(fit_config(canvases=((20, 20),)), 9)
    other = take(fit_config(canvases=(), crop="resize"), 9)
    for batch, same in zip(alone, other, strict=True):
        np.testing.assert_array_equal(batch["index"], same["index"])


def test_canvases_without_images_change_nothing(fit_config):
    config = fit_config()
    used = training_sizes(fit_config(canvases=(CANVASES[0], *CANVASES[2:])), (9, 9))
    with closing(train_batches(Pictures(), config, used, batch_size=BATCH, seed=5, targets=NoTargets())) as batches:
        assert_same_batches(list(itertools.islice(batches, 9)), take(config, 9))


def test_batches_are_whole_turns(fit_config):
    with pytest.raises(ConfigError, match=r"batch size 12 should be a multiple of 8, twice data\.repeats"):
        take(fit_config(repeats=4), 1)
