"""One run at a time in a working directory: the file `lock` says whose it is."""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable

from etils import epath

from posmlp_jax.errors import CheckpointError
from posmlp_jax.paths import in_bucket
from posmlp_jax.terminal import report
from posmlp_jax.writing import writing_to

# Where the system keeps no locks: how often a run writes that it is alive, and after how many seconds without that it
# is taken for dead.
_BEAT, _DEAD = 15.0, 60.0


class WorkdirLock:
    """Holds a working directory for this process, until `close` or its end, however it ends.

    On a file system the kernel holds the lock, and lets go of it with the process. In a bucket, and where the system
    does not lock files, the holder writes to the file all the time, and one that has stopped writing is taken for dead.

    Args:
      workdir: the working directory.
      beat, dead: see above, in seconds.
    """

    def __init__(self, workdir: epath.PathLike, *, beat: float = _BEAT, dead: float = _DEAD):
        self._workdir = epath.Path(workdir)
        self._file = self._workdir / "lock"
        self._beat, self._dead = beat, dead
        self._owner = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "id": uuid.uuid4().hex,
        }
        self._release: Callable[[], None] | None = None
        self._made: list[epath.Path] = []

    def acquire(self) -> None:
        """Makes the working directory, if need be, and takes the lock.

        Raises:
          CheckpointError: if another run has it (says which), or nothing can be written there.
        """
        with writing_to(self._workdir):
            if not in_bucket(self._file):
                self._made = [each for each in (self._workdir, *self._workdir.parents) if not each.exists()]
            self._workdir.mkdir(parents=True, exist_ok=True)
            if in_bucket(self._file) or not self._acquire_from_system():
                self._acquire_by_beats()

    def close(self) -> None:
        """Lets others have it; a folder that was made for it, and that nothing has been written to, goes as well."""
        if self._release is not None:
            self._release()
            self._release = None
        with contextlib.suppress(OSError):  # Something is in it.
            for folder in self._made:
                os.rmdir(folder)
        self._made = []

    def _acquire_from_system(self) -> bool:
        """Whether the system locks files there."""
        while True:
            self._workdir.mkdir(parents=True, exist_ok=True)  # Another may have taken it away since it was made.
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The holder before may have deleted the file after it was opened here: then this is no longer the lock.
                if os.path.exists(self._file) and os.path.samestat(os.fstat(descriptor), os.stat(self._file)):
                    break
            except BlockingIOError:
                os.close(descriptor)
                raise self._taken(_parse(self._text())) from None
            except OSError:
                os.close(descriptor)
                return False
            os.close(descriptor)
        self._write({})

        def release() -> None:
            self._file.unlink(missing_ok=True)
            os.close(descriptor)

        self._release = release
        return True

    def _acquire_by_beats(self) -> None:
        moment, waited = min(self._beat / 4, 1), 0.0
        text = self._text()
        owner = _parse(text)
        # Clocks of two machines differ: what counts is whether the file changes, not what time it has.
        while text is not None and self._may_live(owner) and waited < self._dead:
            if not waited:
                report(f"{self._file} is held by {_name(owner)}: looking for a sign of life for {self._dead:.0f} s")
            time.sleep(moment)
            waited += moment
            before, text = text, self._text()
            if text not in (before, None):
                raise self._taken(owner)
        ended = threading.Event()
        self._write({"beat": 0})
        # Whoever wrote last has it, if two come at once.
        time.sleep(moment)
        owner = _parse(self._text())
        if owner.get("id") != self._owner["id"]:
            raise self._taken(owner)

        def live() -> None:
            beat = 0
            while not ended.wait(self._beat):
                beat += 1
                # Storage that is away for a moment ends no run, and of buckets that is no OSError.
                with contextlib.suppress(Exception):
                    self._write({"beat": beat})

        thread = threading.Thread(target=live, daemon=True)
        thread.start()

        def release() -> None:
            ended.set()
            thread.join()
            with contextlib.suppress(Exception):
                # A machine that was asleep may have lost it to another.
                if _parse(self._text()).get("id") == self._owner["id"]:
                    self._file.unlink(missing_ok=True)

        self._release = release

    def _may_live(self, owner: dict) -> bool:
        """Not, if it was a process of this machine that is gone."""
        if owner.get("host") != self._owner["host"] or not isinstance(owner.get("pid"), int):
            return True
        try:
            os.kill(owner["pid"], 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass
        return True

    def _text(self) -> str | None:
        try:
            return self._file.read_text()
        except OSError:
            return None

    def _write(self, beat: dict) -> None:
        self._file.write_text(json.dumps(self._owner | beat) + "\n")

    def _taken(self, owner: dict) -> CheckpointError:
        return CheckpointError(
            f"{self._workdir} is in use by {_name(owner)}; wait until that has ended, or choose another --workdir"
        )


def _parse(text: str | None) -> dict:
    """Who holds it, or nothing where a kill cut the text, or it is being written."""
    try:
        owner = json.loads(text or "{}")
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _name(owner: dict) -> str:
    """Who holds it, as far as the file says."""
    if "pid" not in owner:
        return "another run"
    return f"process {owner['pid']} on {owner.get('host', 'another machine')} since {owner.get('since', 'some time')}"
