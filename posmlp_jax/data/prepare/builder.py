"""What a file in `datasets` gives: a `Builder`, which makes a recipe of features and of examples in shards."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from posmlp_jax.errors import BrokenExampleError

Example = dict[str, Any]
# Reads a shard's examples from the source, from the first, each time that it is called. In the place of an example
# that cannot be read there is an error, which names the file.
Shard = Callable[[], Iterable[Example | BrokenExampleError]]


@dataclasses.dataclass(frozen=True)
class Split:
    """One split: its shards in order, and how many examples they hold together, those that cannot be read included."""

    shards: Sequence[Shard]
    num_examples: int


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that `prepare` writes for one data set.

    Attributes:
      name: the data set's name, as `config.data.name` has it.
      version: 'major.minor.patch'.
      features: a `tfds.features.FeaturesDict`; the shards' examples fit it.
      splits: by name.
      fingerprint: what identifies source and sharding, so that a stopped run is only continued with the same ones, and
        a finished one only taken for what this source gives. `counts` in it (`count_by_class`) says what has changed,
        and `sizes` is only compared where both have it.
      description: one paragraph for dataset_info.json.
      homepage: where the examples come from.
      noun: what the examples are, for messages.
      files: what else belongs to it, by the file's name, which may have folders, for those who know what it is. What is
        costly to make is a function. A data set in a format of its own is files alone, without splits.
      notes: what there is to say to whoever prepares it, in lines.
    """

    name: str
    version: str
    features: Any
    splits: dict[str, Split]
    fingerprint: dict[str, Any]
    description: str
    homepage: str = ""
    noun: str = "images"
    files: Mapping[str, bytes | Callable[[], bytes]] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Builder:
    """A data set that can be prepared.

    Attributes:
      build: makes the recipe from the path given as `--source` (None when it was not given) and the name to prepare
        under; raises DataError when the source is not what it should be.
      source: what `--source` must name, as a placeholder for commands; '' when the examples ship with the project.
      official: in words, what the source is and where people get it.
    """

    build: Callable[[Path | None, str], Recipe]
    source: str
    official: str


def count_by_class(labels: Mapping[str, Iterable[int]], classes: Sequence[str] | int) -> dict[str, dict[str, int]]:
    """How many examples each class has in each split, for a recipe's `fingerprint`.

    Args:
      labels: of every example, by split.
      classes: the names of the classes, or how many there are: then their numbers are their names.
    """
    names = list(map(str, range(classes))) if isinstance(classes, int) else classes
    counts = {split: Counter(of_split) for split, of_split in labels.items()}
    return {split: {names[label]: count[label] for label in sorted(count)} for split, count in counts.items()}


def cut(read: Callable[[int], Example], order: Sequence[int], per_shard: int) -> Split:
    """The split that holds `read(i)` for every i of `order`, in shards of `per_shard` examples.

    `read` raises a BrokenExampleError, which names the file, where that cannot be read.
    """

    def read_or_say_why(index: int) -> Example | BrokenExampleError:
        try:
            return read(index)
        except BrokenExampleError as error:
            return error

    def shard(start: int) -> Shard:
        return lambda: (read_or_say_why(int(i)) for i in order[start : start + per_shard])

    return Split([shard(start) for start in range(0, len(order), per_shard)], len(order))
