"""The examples that a data set lacks because they cannot be read: listed, counted, and no more than a set share."""

from collections.abc import Iterator

from etils import epath
from tqdm import tqdm

from posmlp_jax.data.prepare.builder import Example, Recipe, Shard
from posmlp_jax.errors import BrokenExampleError, DataError
from posmlp_jax.writing import atomic_write

LIST = "unreadable.txt"
# A list for every shard that lacks an example, until all shards are written.
_FOLDER = "unreadable"


class LeftOut:
    """What could not be read so far, kept on the disk shard by shard, so that a continued run knows it too.

    Args:
      recipe: the data set.
      staging: the folder in which it is written.
      max_share: the share of its examples, in [0, 1], that may be unreadable.
    """

    def __init__(self, recipe: Recipe, staging: epath.Path, max_share: float):
        self._recipe, self._staging, self._max_share = recipe, staging, max_share
        self._total = sum(split.num_examples for split in recipe.splits.values())
        self._reasons: dict[str, list[str]] = {}

    def resume(self, shard_name: str) -> int:
        """Reads the list of a shard that an earlier run wrote; returns how many examples it lacks."""
        file = self._file(shard_name)
        self._reasons[shard_name] = file.read_text().splitlines() if file.exists() else []
        return len(self._reasons[shard_name])

    def leave_out(self, shard_name: str, shard: Shard, bar: tqdm) -> Iterator[Example]:
        """The examples that can be read. The list of the others is on the disk when the last one has been taken.

        Raises:
          DataError: when more than the set share of all examples cannot be read.
        """
        reasons = self._reasons[shard_name] = []
        for example in shard():
            if not isinstance(example, BrokenExampleError):
                yield example
                continue
            reasons.append(" ".join(str(example).split()))
            bar.update()
            count = sum(map(len, self._reasons.values()))
            if count > self._max_share * self._total:
                raise DataError(
                    f"{count} of the {self._total} {self._recipe.noun} of {self._recipe.name} cannot be read, more "
                    f"than the share of {self._max_share:g} that --max_broken allows, the last: {reasons[-1]}; mend "
                    f"them and delete {self._staging}, or set --max_broken higher"
                )
        file = self._file(shard_name)
        if reasons:
            file.parent.mkdir(exist_ok=True)
            atomic_write(file, "".join(f"{reason}\n" for reason in reasons))
        else:
            file.unlink(missing_ok=True)

    def number_in(self, shard_name: str) -> int:
        """How many examples a shard lacks."""
        return len(self._reasons[shard_name])

    def write_list(self) -> None:
        """One file for all shards, when there is something to list."""
        lines = [f"{reason}\n" for reasons in self._reasons.values() for reason in reasons]
        if lines:
            atomic_write(self._staging / LIST, "".join(lines))

    def _file(self, shard_name: str) -> epath.Path:
        return self._staging / _FOLDER / f"{shard_name}.txt"


def remove_lists(folder: epath.Path) -> None:
    """Deletes the lists of the single shards, from a data set that is complete."""
    (folder / _FOLDER).rmtree(missing_ok=True)


def count_left_out(folder: epath.Path) -> int:
    """How many examples a prepared data set lacks because they could not be read."""
    file = folder / LIST
    return len(file.read_text().splitlines()) if file.exists() else 0
