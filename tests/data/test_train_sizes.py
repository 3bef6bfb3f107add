"""Steps of several input sizes: the stream stays a function of (seed, step)."""

import itertools
from collections import Counter
from contextlib import closing

import numpy as np
import pytest
from helpers import assert_same_batches

from posmlp_jax.data import LabelledSource, check_config, train_batches, training_sizes
from posmlp_jax.errors import ConfigError

SIZES = ((8, 8), (12, 10), (6, 16))


class Pictures(LabelledSource):
    """Small pictures of noise."""

    num_classes, class_names, description = 4, None, "pictures"

    def __len__(self) -> int:
        return 50

    def read(self, index: int):
        return np.random.default_rng(index).integers(0, 256, (14, 18, 3), np.uint8), index % 4

    def example_id(self, index: int) -> str:
        return f"picture {index}"


@pytest.fixture
def take(make_config):
    def take(sizes, steps, start_step=0, seed=5, hosts=(0, 1), **changes):
        config = make_config(**{"crop": "random_resized", "randaugment": "rand-m5-n2", **changes})
        host, count = hosts
        options = {"start_step": start_step, "process_index": host, "process_count": count}
        with closing(train_batches(Pictures(), config, sizes, batch_size=12, seed=seed, **options)) as batches:
            return list(itertools.islice(batches, steps))

    return take


def sizes_of(batches) -> list[tuple[int, int]]:
    return [batch["image"].shape[1:3] for batch in batches]


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_stream_is_a_function_of_seed_and_step(take, repeats):
    whole = take(SIZES, 12, repeats=repeats)
    assert_same_batches(take(SIZES, 12, repeats=repeats), whole)
    for start in (1, 5, 11):
        assert_same_batches(take(SIZES, 12 - start, start_step=start, repeats=repeats), whole[start:])
    for workers in ({"threads": 3}, {"processes": 2}):
        assert_same_batches(take(SIZES, 6, start_step=4, repeats=repeats, **workers), whole[4:10])
    for hosts in (2, 3):
        parts = [take(SIZES, 12, repeats=repeats, hosts=(host, hosts)) for host in range(hosts)]
        joined = [
            {key: np.concatenate([part[key] for part in step]) for key in step[0]} for step in zip(*parts, strict=True)
        ]
        assert_same_batches(joined, whole)


def test_sizes_vary_by_seed_and_step_and_examples_do_not(take):
    batches = take(SIZES, 90, randaugment="", crop="resize")
    counts = Counter(sizes_of(batches))
    assert set(counts) == set(SIZES)
    assert min(counts.values()) > 18  # 30 ± 4.5
    assert sizes_of(take(SIZES, 90, seed=6, crop="resize")) != sizes_of(batches)
    # Which examples a step has does not depend on its size.
    one = take(SIZES[0], 90, randaugment="", crop="resize")
    for batch, same in zip(batches, one, strict=True):
        np.testing.assert_array_equal(batch["index"], same["index"])
        np.testing.assert_array_equal(batch["label"], same["label"])
    alike = [step for step, size in enumerate(sizes_of(batches)) if size == SIZES[0]]
    assert_same_batches([batches[step] for step in alike], [one[step] for step in alike])


def test_one_size_draws_nothing(take):
    assert_same_batches(take([SIZES[1]], 5), take(SIZES[1], 5))


def test_a_configs_sizes(make_config):
    assert training_sizes(make_config(), (8, 10)) == ((8, 10),)
    config = make_config(train_sizes=(192, (160, 224)))
    check_config(config)
    assert training_sizes(config, (8, 8)) == ((192, 192), (160, 224))
    assert training_sizes(config, (16, 8, 8)) == ((16, 192, 192), (16, 160, 224))


@pytest.mark.parametrize("size", [0, -8, 7.5, True, "64", (8,), (8, 8, 8), (8, 0)])
def test_mistakes(make_config, size):
    with pytest.raises(
        ConfigError, match=r"data.train_sizes holds .*, and should hold sides of squares or pairs"
    ) as error:
        check_config(make_config(train_sizes=(64, size)))
    assert "\n" not in str(error.value)


def test_they_are_several(make_config):
    with pytest.raises(ConfigError, match=r"data.train_sizes is None, and should hold sides of squares or pairs"):
        check_config(make_config(train_sizes=None))
