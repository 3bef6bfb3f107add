"""What comes where in the training stream: functions of the seed and of the place, or the step, alone.

The stream is an endless row of places, of which each step has the next `batch_size`. Whatever is asked of a place can
be answered at once, which is why a run enters the stream at any step, and why threads, processes and hosts, which share
the places among them, do not change it.
"""

from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

from posmlp_jax.data.decoding.examples import InputSize
from posmlp_jax.data.sources.source import Source
from posmlp_jax.errors import ConfigError


class Places:
    """Which places of the stream this process has in each step."""

    def __init__(self, batch_size: int, process_index: int, process_count: int):
        if batch_size < 1 or batch_size % process_count:
            raise ConfigError(
                f"batch size {batch_size} must be a positive multiple of the {process_count} JAX processes"
            )
        self._batch_size, self._share = batch_size, batch_size // process_count
        self._first = process_index * self._share

    def __call__(self, step: int) -> range:
        """The places of one step."""
        start = step * self._batch_size + self._first
        return range(start, start + self._share)


class TrainingOrder:
    """Which example stands at each place, and with which random numbers it is read and augmented.

    With `config.repeats` R, two examples take turns until each has had R places, a b a b …; `first` says which of an
    example's places it is read for.

    Args:
      source: the examples; with `config.balance` 'classes' a `LabelledSource`.
      config: the `data` section of a config.
      seed: of order and augmentation.
    """

    def __init__(self, source: Source, config: Any, seed: int):
        self._length, self._seed, self._turns = len(source), seed, 2 * config.repeats
        if config.balance == "classes":
            self._order = BalancedOrder(source.read_labels(), seed)
        else:
            self._order = _shuffled(self._length, seed)

    def first(self, place: int) -> int:
        """The first place of the example at a place, in this turn of it."""
        turn = place % self._turns
        return place - turn + turn % 2

    def starts_turns(self, place: int) -> bool:
        """Whether two other examples than before take turns from here on."""
        return place % self._turns == 0

    def example(self, first: int) -> tuple[int, Sequence[int]]:
        """The index of the example at its first place, and of those that may replace it if it is broken.

        Where classes are drawn equally often, these are only its own class.
        """
        turns, turn = divmod(first, self._turns)
        drawn = 2 * turns + turn
        balanced = isinstance(self._order, BalancedOrder)
        return self._order[drawn], self._order.alike(drawn) if balanced else range(self._length)

    def rng(self, place: int) -> np.random.Generator:
        """Each place has its own part of one generator's sequence, 2¹²⁸ numbers long."""
        return np.random.Generator(np.random.Philox(key=self._seed, counter=place << 128))


class StepSizes:
    """Which of several input sizes each step has: one at random. Of one size nothing is drawn.

    Args:
      sizes: (height, width) each, or (frames, height, width).
      seed: of the choice.
    """

    # No place has this part of the generator's sequence.
    _BEYOND_ALL_PLACES = 1 << 255

    def __init__(self, sizes: Sequence[InputSize], seed: int):
        self._sizes, self._seed = sizes, seed

    def __call__(self, step: int) -> InputSize:
        """The size of one step."""
        if len(self._sizes) == 1:
            return self._sizes[0]
        counter = self._BEYOND_ALL_PLACES + (step << 128)
        rng = np.random.Generator(np.random.Philox(key=self._seed, counter=counter))
        return self._sizes[rng.integers(len(self._sizes))]


def training_sizes(config: Any, input_size: InputSize) -> tuple[InputSize, ...]:
    """The input sizes that steps of training have: those of `config.train_sizes`, or else the model's own.

    Args:
      config: the `data` section of a config.
      input_size: the model's, (height, width) or (frames, height, width); clips keep their frames.
    """
    sides = [(side, side) if isinstance(side, int) else tuple(side) for side in config.train_sizes]
    return tuple((*input_size[:-2], *size) for size in sides) or (tuple(input_size),)


class BalancedOrder:
    """An endless order of examples, by place: the K classes that have examples take turns, each turn in a new order.

    Of any K places from a multiple of K on each class has exactly one, and of any c from a multiple of c on, of a
    class's own places, each of its c examples. So the examples of a small class come more often than those of a large
    one, and what comes at a place is a function of the seed and the place alone.

    Args:
      labels: of all examples, int [n].
      seed: of the order.
    """

    def __init__(self, labels: np.ndarray, seed: int):
        self._members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self._turns = _shuffled(len(self._members), seed)
        # Classes of one size have orders of their own too.
        seeds = np.random.SeedSequence(seed).generate_state(len(self._members))
        self._orders = [_shuffled(len(members), int(own)) for members, own in zip(self._members, seeds, strict=True)]

    def __getitem__(self, place: int) -> int:
        """The index of the example at a place."""
        turn = place // len(self._members)
        label = self._turns[place]
        return int(self._members[label][self._orders[label][turn]])

    def alike(self, place: int) -> np.ndarray:
        """The indices of all examples of the class at a place, int64 [c]."""
        return self._members[self._turns[place]]


def _shuffled(length: int, seed: int) -> grain.MapDataset:
    """The numbers below `length` in an order, then in another, and so on."""
    return grain.MapDataset.range(length).seed(seed).shuffle().repeat()
