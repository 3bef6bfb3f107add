"""What cannot be written, because of what is there or of a full, read-only or failing disk, as a user's mistake."""

import contextlib
import errno
import os
from collections.abc import Iterator

from etils import epath

from posmlp_jax.errors import CheckpointError
from posmlp_jax.paths import in_bucket, refusal

# TensorStore, which writes checkpoints, puts the system's error into a text.
_REASONS = tuple(
    os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
)


def check_output(path: epath.Path) -> None:
    """Raises a CheckpointError unless nothing is at `path` yet, and the folder that it is to be made in is there."""
    if path.exists():
        raise CheckpointError(f"{path} is there already; choose another --output, or delete it")
    # A bucket's folders are there when something is in them.
    if not in_bucket(path) and not path.absolute().parent.is_dir():
        raise CheckpointError(f"there is no folder {path.parent} to write {path.name} to; make it first")


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
