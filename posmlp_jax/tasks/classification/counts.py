"""The classes of a data set and how many examples each has, in a line."""

from collections.abc import Sequence

import numpy as np

from posmlp_jax.terminal import printable

# All classes are named where there are no more than so many, and else so many of the largest and of the smallest.
_LISTED, _ENDS = 20, 3
# How many times as many examples as the smallest class the largest has, where they are called unequal.
_UNEQUAL = 2


def describe_counts(counts: np.ndarray, class_names: Sequence[str]) -> str:
    """'bird: 40, ship: 240', in the order of the labels, or of many classes the largest and the smallest.

    Of a single class it says what that means.

    Args:
      counts: examples of each class, int [K].
      class_names: K of them.
    """
    named = [f"{printable(name)}: {count}" for name, count in zip(class_names, counts, strict=True)]
    if len(named) == 1:
        return f"{named[0]} (the only class: accuracy is 100 % whatever a model has learned, and says nothing)"
    if len(named) <= _LISTED:
        return ", ".join(named)
    order = np.argsort(-counts, kind="stable")
    largest, smallest = ([named[label] for label in part] for part in (order[:_ENDS], order[-_ENDS:]))
    return f"{len(named)} classes, from {', '.join(largest)} to {', '.join(smallest)}"


def is_unbalanced(counts: np.ndarray) -> bool:
    """Whether some class has at least twice as many examples as another that has any."""
    counts = counts[counts > 0]
    return counts.max() >= _UNEQUAL * counts.min()
