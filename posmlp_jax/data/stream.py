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
    """Which places of the stream this process has in each step.

    Args:
      batch_size: places a step, over all processes.
      process_index, process_count: which of how many processes this is.
    """

    def __init__(self, batch_size: int, process_index: int, process_count: int):
        if batch_size < 1 or batch_size % process_count:
            raise ConfigError(
                f"batch size {batch_size} must be a positive multiple of the {process_count} JAX processes"
            )
        self.batch_size, self._share = batch_size, batch_size // process_count
        self._first = process_index * self._share

    def __call__(self, step: int) -> range:
        """The places of one step."""
        start = step * self.batch_size + self._first
        return range(start, start + self._share)


class TrainingOrder:
    """Which example stands at each place, and with which random numbers it is read and augmented.

    With `config.repeats` R, two examples take turns until each has had R places, a b a b …; `first` says which of an
    example's places it is read for.

    Args:
      source: the examples; with `config.balance` 'classes' a `LabelledSource`.
      config: the `data` section of a config.
      seed: of order and augmentation.
      by_canvas: the order, where each step has examples of one canvas.
    """

    def __init__(self, source: Source, config: Any, seed: int, by_canvas: "CanvasOrder | None" = None):
        self._length, self._seed, self._turns = len(source), seed, 2 * config.repeats
        if by_canvas is not None:
            self._order = by_canvas
        elif config.balance == "classes":
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

        Where classes are drawn equally often, these are only its own class, and where there are canvases its own.
        """
        turns, turn = divmod(first, self._turns)
        drawn = 2 * turns + turn
        grouped = isinstance(self._order, BalancedOrder | CanvasOrder)
        return self._order[drawn], self._order.alike(drawn) if grouped else range(self._length)

    def rng(self, place: int) -> np.random.Generator:
        """Each place has its own part of one generator's sequence, 2¹²⁸ numbers long."""
        return np.random.Generator(np.random.Philox(key=self._seed, counter=place << 128))


class StepSizes:
    """Which of several input sizes each step has: one at random, or a canvas by plan. Of one size nothing is drawn.

    Args:
      sizes: (height, width) each, or (frames, height, width).
      seed: of the choice.
      canvases: which step has which of the sizes, where these are canvases.
    """

    # No place has this part of the generator's sequence.
    _BEYOND_ALL_PLACES = 1 << 255

    def __init__(self, sizes: Sequence[InputSize], seed: int, canvases: "StepCanvases | None" = None):
        self._sizes, self._seed, self._canvases = sizes, seed, canvases

    def __call__(self, step: int) -> InputSize:
        """The size of one step."""
        if len(self._sizes) == 1:
            return self._sizes[0]
        if self._canvases is not None:
            return self._sizes[self._canvases(step)[0]]
        counter = self._BEYOND_ALL_PLACES + (step << 128)
        rng = np.random.Generator(np.random.Philox(key=self._seed, counter=counter))
        return self._sizes[rng.integers(len(self._sizes))]


class StepCanvases:
    """Which canvas each step has, so that over the steps each has its images' share.

    With K canvases that have images, the steps with one of them are at any time less than K more or fewer than its
    share of the steps so far. Of all steps the first canvas has every (N / n)-th, rounded, n being its images of all N;
    of the others the second has such a share, and so on: no step depends on those before.

    Args:
      counts: the images of each canvas.
      seed: of where these series begin.
    """

    def __init__(self, counts: Sequence[int], seed: int):
        rest = np.cumsum(counts[::-1])[::-1].tolist()  # Of each canvas and those after it.
        begin = np.random.SeedSequence(seed).generate_state(len(counts)).tolist()
        # Python's whole numbers are exact however far a run goes.
        self._shares = [
            (canvas, count, of, start % of)
            for canvas, (count, of, start) in enumerate(zip(counts, rest, begin, strict=True))
            if count
        ]

    def __call__(self, step: int) -> tuple[int, int]:
        """The canvas of a step, and how many steps before had it."""
        for canvas, count, of, start in self._shares:
            before = (step * count + start) // of
            if ((step + 1) * count + start) // of > before:
                return canvas, before
            step -= before
        raise AssertionError("the last canvas has all steps that are left")


class CanvasOrder:
    """An endless order of examples, by place, in which those of a step are of one canvas.

    Each canvas has a stream of its own images, in a new order each time that all have come, and each step with that
    canvas has the next of it: what does not fill a step begins the next, and nothing comes twice for that.

    Args:
      canvases: of each image, int [n].
      config: the `data` section of a config.
      batch_size: samples a step, of which each image has `config.repeats`.
      seed: of the orders.

    Attributes:
      steps: which step has which canvas.

    Raises:
      ConfigError: when two images that take turns would be of two steps.
    """

    def __init__(self, canvases: np.ndarray, config: Any, batch_size: int, seed: int):
        turns = 2 * config.repeats
        if config.repeats > 1 and batch_size % turns:
            raise ConfigError(f"batch size {batch_size} should be a multiple of {turns}, twice data.repeats")
        self._each = batch_size // config.repeats
        self._members = [np.flatnonzero(canvases == canvas) for canvas in range(canvases.max() + 1)]
        self._orders = _orders(self._members, seed)
        self.steps = StepCanvases([len(members) for members in self._members], seed)

    def __getitem__(self, place: int) -> int:
        """The index of the example at a place."""
        step, within = divmod(place, self._each)
        canvas, before = self.steps(step)
        return int(self._members[canvas][self._orders[canvas][before * self._each + within]])

    def alike(self, place: int) -> np.ndarray:
        """The indices of all examples of the canvas at a place, int64 [c]."""
        return self._members[self.steps(place // self._each)[0]]


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
        self._orders = _orders(self._members, seed)

    def __getitem__(self, place: int) -> int:
        """The index of the example at a place."""
        turn = place // len(self._members)
        label = self._turns[place]
        return int(self._members[label][self._orders[label][turn]])

    def alike(self, place: int) -> np.ndarray:
        """The indices of all examples of the class at a place, int64 [c]."""
        return self._members[self._turns[place]]


def _orders(groups: Sequence[np.ndarray], seed: int) -> list[grain.MapDataset]:
    """An order for each of some groups of examples; groups of one size have orders of their own too."""
    seeds = np.random.SeedSequence(seed).generate_state(len(groups))
    return [_shuffled(len(members), int(own)) for members, own in zip(groups, seeds, strict=True)]


def _shuffled(length: int, seed: int) -> grain.MapDataset:
    """The numbers below `length` in an order, then in another, and so on."""
    return grain.MapDataset.range(length).seed(seed).shuffle().repeat()
