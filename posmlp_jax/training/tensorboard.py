"""Scalars for TensorBoard, written at once and by this thread.

tensorboardX's own `SummaryWriter` leaves the writing to a thread which a full disk ends; the program then waits forever
for a queue that nobody empties.
"""

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar


class ScalarEvents:
    """A new event file.

    Args:
      folder: where it goes.
      start_step: the step that the run goes on from; TensorBoard hides what older files have beyond it.
    """

    def __init__(self, folder: Path, start_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._events = EventsWriter(str(folder / "events"))
        if start_step:
            start = SessionLog(status=SessionLog.START)
            self._events.write_event(Event(wall_time=time.time(), step=start_step + 1, session_log=start))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes values by tag."""
        for tag, value in values.items():
            self._events.write_event(Event(wall_time=time.time(), step=step, summary=scalar(tag, value)))
        self._events.flush()

    def close(self) -> None:
        """Closes the file."""
        self._events.close()
