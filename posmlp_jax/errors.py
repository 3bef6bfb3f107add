"""What the library raises when the user, not the program, is wrong.

`main.py` and the package's other commands print such an error as one line and exit with code 2. Everything else is a
bug of ours and keeps its traceback.
"""

import contextlib
import difflib
import sys
import traceback
from collections.abc import Iterable, Iterator

# What speaks with buckets for `etils.epath`.
_BUCKETS = ("aiohttp", "fsspec", "gcsfs", "google")


class PosMLPError(ValueError):
    """A mistake that the message tells the user how to mend: one line, what was wrong and what would be right."""


class ConfigError(PosMLPError):
    """A field, a model name or a combination of values that cannot be used."""


class DataError(PosMLPError):
    """A data set that is missing, empty, or not what the config says."""


class BrokenExampleError(DataError):
    """An image or video that cannot be decoded, while the rest of its data set may be as it should.

    Args:
      reason: why, in one line.
      example: its name, for the message of who knows it.
      source: what the data set is.
    """

    def __init__(self, reason: str, example: str = "", source: str = ""):
        super().__init__(f"{example}: {reason} ({source})" if example else reason)
        self.reason = reason


class CheckpointError(PosMLPError):
    """A checkpoint or a working directory that does not fit the run."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose files are not what was written: `damage` says which and how, the message what to do, too."""

    def __init__(self, damage: str, advice: str):
        super().__init__(f"{damage}; {advice}")
        self.damage = damage


def nearest(name: str, choices: Iterable[str]) -> str:
    """A hint that ends an error message: the nearest of `choices`, or all of them when none is near."""
    if not (choices := sorted(choices)):
        return "none is there"
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(choices)}"


@contextlib.contextmanager
def exit_on_mistake() -> Iterator[None]:
    """For a program's outermost call: a `PosMLPError` becomes one line on stderr and exit code 2.

    So does a bucket that cannot be reached or refuses to be read, wherever that shows.
    """
    try:
        yield
    except PosMLPError as error:
        line = " ".join(str(error).split())
    except Exception as error:
        if not is_of_bucket(error):
            raise
        line = f"cannot read from or write to a bucket: {' '.join(str(error).split())[:200] or type(error).__name__}"
    else:
        return
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


def is_of_bucket(error: BaseException) -> bool:
    """Whether an error was raised by the libraries that read and write buckets."""
    frames = list(traceback.walk_tb(error.__traceback__))
    raised_in = frames[-1][0].f_globals.get("__name__", "") if frames else ""
    return any(name.split(".")[0] in _BUCKETS for name in (type(error).__module__, raised_in))


def refusal(error: BaseException) -> str | None:
    """In the system's or the bucket's words, what was refused; None for errors of another kind."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, OSError) or is_of_bucket(error):
        return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return None
