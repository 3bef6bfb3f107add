"""In which order examples are drawn so that every class comes as often as any other."""

import grain
import numpy as np


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
