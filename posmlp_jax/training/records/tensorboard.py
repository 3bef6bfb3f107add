"""Scalars for TensorBoard, written at once and by this thread.

tensorboardX's own `SummaryWriter` leaves the writing to a thread which a full disk ends; the program then waits forever
for a queue that nobody empties.
"""

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

from etils import epath

from posmlp_jax.paths import in_bucket
from posmlp_jax.writing import Pace, upload


class ScalarEvents:
    """A new event file; one for a bucket grows on this machine, and is put there from time to time.

    Args:
      folder: where it goes.
      start_step: the step that the run goes on from; TensorBoard hides what older files have beyond it.
    """

    def __init__(self, folder: epath.Path, start_step: int):
        self._messages = _messages()
        self._folder, self._pace = folder, Pace()
        self._local = tempfile.TemporaryDirectory() if in_bucket(folder) else None
        folder.mkdir(parents=True, exist_ok=True)
        self._events = self._messages.EventsWriter(str(Path(self._local.name if self._local else folder) / "events"))
        if start_step:
            start = self._messages.SessionLog(status=self._messages.SessionLog.START)
            self._write(step=start_step + 1, session_log=start)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes values by tag."""
        for tag, value in values.items():
            self._write(step=step, summary=self._messages.scalar(tag, value))
        self._events.flush()
        if self._local and self._pace.due():
            self._upload()

    def close(self) -> None:
        """Closes the file."""
        self._events.close()
        if self._local:
            self._upload()
            self._local.cleanup()

    def _write(self, **fields) -> None:
        self._events.write_event(self._messages.Event(wall_time=time.time(), **fields))

    def _upload(self) -> None:
        (file,) = Path(self._local.name).iterdir()
        upload(file, self._folder / file.name)


def _messages() -> SimpleNamespace:
    """What tensorboardX has for writing events, without PyTorch.

    Where that is installed, tensorboardX imports it, which takes longer than all the rest of a program's start; scalars
    need nothing of it.
    """
    hidden = {} if "torch" in sys.modules else {"torch": None}  # None makes an ImportError of `import torch`.
    sys.modules.update(hidden)
    try:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar
    finally:
        for name in hidden:
            del sys.modules[name]
    return SimpleNamespace(EventsWriter=EventsWriter, Event=Event, SessionLog=SessionLog, scalar=scalar)
