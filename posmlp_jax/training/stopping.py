"""Stopping a run from outside without losing it."""

import signal
from types import TracebackType


class Stopped(Exception):  # noqa: N818 (a message, not a mistake)
    """A signal ended the run after a checkpoint was written; the same command goes on from it.

    Attributes:
      exit_code: 128 + the signal's number, as shells have it: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, signum: int, step: int):
        super().__init__(
            f"stopped by {signal.Signals(signum).name} after step {step}; the same command goes on from there"
        )
        self.exit_code = 128 + signum


class StopSignals:
    """While entered, the first SIGINT or SIGTERM only sets `received`; a second one has its usual effect.

    Outside the main thread, where Python does not deliver signals, it never receives any.
    """

    def __init__(self):
        self.received: int | None = None
        self._previous = {}

    def __enter__(self) -> "StopSignals":
        for signum in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[signum] = signal.signal(signum, self._receive)
            except ValueError:  # Not the main thread.
                break
        return self

    def _receive(self, signum: int, frame) -> None:
        self.received = signum
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
