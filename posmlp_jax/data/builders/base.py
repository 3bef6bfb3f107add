"""What a builder hands to `prepare`: the features, and the examples of every split cut into shards."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Example = dict[str, Any]
# Reads a shard's examples from the source, from the first, each time that it is called.
Shard = Callable[[], Iterable[Example]]


@dataclasses.dataclass(frozen=True)
class Split:
    """One split: its shards in order, and how many images they hold together (for the progress bar)."""

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
      fingerprint: what identifies source and sharding, so that a stopped run is only continued with the same ones.
      description: one paragraph for dataset_info.json.
      homepage: where the images come from.
    """

    name: str
    version: str
    features: Any
    splits: dict[str, Split]
    fingerprint: dict[str, Any]
    description: str
    homepage: str = ""


@dataclasses.dataclass(frozen=True)
class Builder:
    """A data set that can be prepared.

    Attributes:
      build: makes the recipe from the path given as `--source` (None when it was not given) and the name to prepare
        under; raises DataError when the source is not what it should be.
      source: what `--source` must name, as a placeholder for commands; '' when the images ship with the project.
      official: in words, what the source is and where people get it.
    """

    build: Callable[[Path | None, str], Recipe]
    source: str
    official: str


def cut(read: Callable[[int], Example], order: Sequence[int], per_shard: int) -> Split:
    """The split that holds `read(i)` for every i of `order`, in shards of `per_shard` examples."""

    def shard(start: int) -> Shard:
        return lambda: (read(int(i)) for i in order[start : start + per_shard])

    return Split([shard(start) for start in range(0, len(order), per_shard)], len(order))
