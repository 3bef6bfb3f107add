"""Drawing classes equally often: how often everything comes, and that the stream keeps its promises."""

import itertools

import numpy as np
import pytest
from helpers import assert_same_batches

from posmlp_jax.data import train_batches
from posmlp_jax.data.sources.labelled import LabelledSource
from posmlp_jax.data.sources.subset import stratified_subset
from posmlp_jax.data.stream import BalancedOrder
from posmlp_jax.errors import ConfigError

SIZES = {0: 21, 1: 3, 3: 8, 4: 1}  # Class 2 has no example.
LABELS = np.random.default_rng(0).permutation(np.repeat(list(SIZES), list(SIZES.values())))
BATCH = 12


class Pictures(LabelledSource):
    """Images whose pixels all hold their index."""

    num_classes, class_names, description = 5, None, "pictures"

    def __len__(self) -> int:
        return len(LABELS)

    def read(self, index: int):
        return np.full((8, 8, 3), index, np.uint8), int(LABELS[index])

    def example_id(self, index: int) -> str:
        return f"picture {index}"


def take(config, steps: int, **options) -> list[dict]:
    batches = train_batches(Pictures(), config, (8, 8), **{"batch_size": BATCH, "seed": 3, **options})
    try:
        return list(itertools.islice(batches, steps))
    finally:
        batches.close()


def test_every_turn_has_each_class_once_and_every_round_of_a_class_each_of_its_examples():
    order = BalancedOrder(LABELS, seed=5)
    drawn = np.array([order[place] for place in range(4 * 21 * 8)])
    turns = np.sort(LABELS[drawn].reshape(-1, 4), axis=1)
    np.testing.assert_array_equal(turns, np.tile([0, 1, 3, 4], (len(turns), 1)))
    assert len(np.unique(LABELS[drawn].reshape(-1, 4), axis=0)) == 24  # All orders of four classes.
    for label, size in SIZES.items():
        rounds = drawn[LABELS[drawn] == label].reshape(-1, size)
        (members,) = np.nonzero(label == LABELS)
        np.testing.assert_array_equal(np.sort(rounds, axis=1), np.tile(members, (len(rounds), 1)))
        assert size < 8 or len(np.unique(rounds, axis=0)) == len(rounds)  # Each in an order of its own.
    other = BalancedOrder(LABELS, seed=6)
    assert np.mean([order[place] == other[place] for place in range(100)]) < 0.3


def test_classes_of_one_size_have_orders_of_their_own():
    order = BalancedOrder(np.repeat([0, 1], 50), seed=0)
    drawn = np.array([order[place] for place in range(100)])
    first, second = drawn[drawn < 50], drawn[drawn >= 50] - 50
    assert (first == second).mean() < 0.2


@pytest.mark.parametrize("repeats", [1, 3])
def test_batches_are_of_the_balanced_order(make_config, repeats):
    config = make_config(balance="classes", repeats=repeats, flip=False, crop="resize")
    batches = take(config, 2 * repeats)
    order = BalancedOrder(LABELS, seed=3)
    drawn = [order[place] for place in range(2 * BATCH)]
    # Two examples take turns: a b a b a b of three repeats.
    wanted = np.repeat(np.reshape(drawn, (-1, 1, 2)), repeats, axis=1).ravel()
    np.testing.assert_array_equal(np.concatenate([batch["index"] for batch in batches]), wanted)
    for batch in batches:
        np.testing.assert_array_equal(batch["label"], LABELS[batch["index"]])
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["index"])
        assert np.bincount(batch["label"]).tolist() == [3, 3, 0, 3, 3] or repeats > 1


def test_the_stream_resumes_and_depends_on_no_workers_or_hosts(make_config):
    whole = take(make_config(balance="classes"), 9)
    for workers in ({"threads": 1}, {"threads": 3}, {"processes": 1}):
        config = make_config(balance="classes", **workers)
        assert_same_batches(take(config, 4, start_step=5), whole[5:])
    for host in range(2):
        part = take(make_config(balance="classes"), 9, process_index=host, process_count=2)
        assert_same_batches(part, [{key: np.split(x, 2)[host] for key, x in batch.items()} for batch in whole])


def test_a_part_of_each_class_is_balanced_without_reading_its_images(make_config, monkeypatch):
    subset = stratified_subset(Pictures(), 0.5)
    monkeypatch.setattr(Pictures, "_read_labels", lambda self, indices: LABELS[indices])
    monkeypatch.setattr(type(subset), "read", None)
    labels = subset.read_labels()
    assert np.bincount(labels).tolist() == [10, 2, 0, 4, 1]  # 21 / 2 and 3 / 2, rounded.


def test_mistakes(make_config):
    with pytest.raises(ConfigError, match=r"data\.balance is 'class', and should be 'none' or 'classes'"):
        take(make_config(balance="class"), 1)
