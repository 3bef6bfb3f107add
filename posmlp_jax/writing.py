"""Files are written whole or not at all, on disks and in buckets, and what refuses them is a user's mistake.

A bucket has a file whole from the start, but cannot add to one.
"""

import contextlib
import errno
import math
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator

import fsspec
from etils import epath

from posmlp_jax.errors import CheckpointError, ConfigError, refusal
from posmlp_jax.paths import as_path, in_bucket

# The end of the name of a file that is being written.
PARTIAL = ".partial"
# TensorStore, which writes checkpoints, puts the system's error into a text.
_REASONS = tuple(
    os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
)


def atomic_write(path: epath.Path, content: str | bytes) -> None:
    """Writes a file so that nobody ever finds a part of it, or none where there was one."""
    data = content.encode() if isinstance(content, str) else content
    if in_bucket(path):
        path.write_bytes(data)
        return
    with atomic_file(path) as partial:
        partial.write_bytes(data)


@contextlib.contextmanager
def atomic_file(path: epath.Path) -> Iterator[epath.Path]:
    """Gives another file, on this machine's disks, to write to: at the end it becomes `path`, or goes if that failed.

    What a kill leaves of it lies beside `path`, under a name that ends on PARTIAL.
    """
    if in_bucket(path):
        with tempfile.TemporaryDirectory() as folder:
            yield (local := epath.Path(folder) / path.name)
            upload(local, path)
        return
    # Other processes and hosts may write the same file.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_folder(path: epath.Path) -> Iterator[epath.Path]:
    """Gives a new folder to write to: at the end it becomes `path`, or goes if that failed. In a bucket it is `path`.

    Raises:
      CheckpointError: if the disk refuses it.
    """
    partial = path
    if not in_bucket(path):
        with writing_to(path):
            # Its own, whatever else is there: what it becomes is only seen when it is whole.
            partial = epath.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield partial
        if partial != path:
            os.chmod(partial, 0o755)
            partial.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.rmtree()
        raise


def upload(file: os.PathLike, path: epath.Path) -> None:
    """Puts a file of this machine into a bucket, whole or, when it is interrupted, not at all."""
    filesystem, name = fsspec.core.url_to_fs(os.fspath(path))
    filesystem.put_file(os.fspath(file), name)


class LineWriter:
    """Adds lines to a text file: on disks at once; in a bucket, which can only be given it anew, not all the time.

    Args:
      path: the file; what it holds is kept.
    """

    def __init__(self, path: epath.Path):
        self._path, self._pace = path, Pace()
        self._lines = [path.read_text()] if in_bucket(path) and path.exists() else []
        self._file = None if in_bucket(path) else path.open("a")

    def write(self, line: str, flush: bool = False) -> None:
        """Adds a line; `flush`: in a bucket, too, at once."""
        if self._file is not None:
            self._file.write(f"{line}\n")
            self._file.flush()
            return
        self._lines.append(f"{line}\n")
        if flush or self._pace.due():
            atomic_write(self._path, "".join(self._lines))

    def close(self) -> None:
        """Writes what is not yet written."""
        if self._file is not None:
            self._file.close()
        elif self._lines:
            atomic_write(self._path, "".join(self._lines))


class Pace:
    """Says when a file in a bucket may be given anew: storage takes about one a second, and each costs.

    Args:
      seconds: between two times.
    """

    def __init__(self, seconds: float = 15.0):
        self._seconds, self._last = seconds, -math.inf

    def due(self) -> bool:
        """Whether the last time that this was so is long enough ago."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


def check_output(path: epath.Path, option: str = "--output") -> None:
    """Raises a CheckpointError unless nothing is at `path` yet, and the folder that it is to be made in is there.

    `option`: what names it on the command line.
    """
    if path.exists():
        raise CheckpointError(f"{path} is there already; choose another {option}, or delete it")
    # A bucket's folders are there when something is in them.
    if not in_bucket(path) and not path.absolute().parent.is_dir():
        raise CheckpointError(f"there is no folder {path.parent} to write {path.name} to; make it first")


def write_result(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes what a program was asked for, a picture or a page, with the folders that it lies in, over what is there.

    A link stays one, and the file that it leads to is written.

    Raises:
      ConfigError: for what cannot be written.
    """
    check_result(path)
    file = as_path(path)
    if not in_bucket(file):
        file = epath.Path(os.path.realpath(file))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, content)
    except Exception as error:
        if (reason := refusal(error)) is None:
            raise
        raise ConfigError(f"cannot write {path}: {reason}") from error


def check_result(path: str | os.PathLike, read: Iterable[str | os.PathLike] = ()) -> None:
    """Raises the ConfigError that `write_result` would raise, as far as that can be told before there is anything.

    Args:
      path: what is to be written.
      read: files that it is made from, none of which it may replace.
    """
    file = as_path(path)
    if in_bucket(file):
        return
    if file.is_dir():
        raise ConfigError(f"cannot write {path}: it is a folder")
    # To epath all that is no folder is a file. What a file is renamed to is replaced, for all programs.
    if file.exists() and not os.path.isfile(file):
        raise ConfigError(f"cannot write {path}: it is a device or a pipe, no file")
    if any(_is_same(file, as_path(each)) for each in read):
        raise ConfigError(f"cannot write {path}: it is read for this, and would be lost")
    there = next(parent for parent in file.parents if parent.exists())
    if not there.is_dir():
        raise ConfigError(f"cannot write {path}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"cannot write {path}: {there} is not to be written to")


def _is_same(file: epath.Path, other: epath.Path) -> bool:
    try:
        return os.path.samefile(file, other)
    except OSError:  # One of them is not there, or in a bucket.
        return False


@contextlib.contextmanager
def writing_to(directory: epath.Path) -> Iterator[None]:
    """Turns what the disk or the bucket refuses inside into a CheckpointError that says why."""
    try:
        yield
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise CheckpointError(f"cannot write to the working directory {directory}: {reason}") from error


def _reason(error: BaseException | None) -> str | None:
    """The system's words for what the disk refused, from the error or what led to it."""
    while error is not None:
        if reason := refusal(error):
            return reason
        for reason in _REASONS:
            if reason in str(error):
                return reason
        for part in getattr(error, "exceptions", ()):
            if reason := _reason(part):
                return reason
        error = error.__cause__
    return None
