"""Ends of a run that are neither success nor a mistake, and stopping it from outside without losing it."""

import signal
from types import TracebackType


class RunEnded(Exception):  # noqa: N818 (a message, not a mistake)
    """The run ended early, and nothing is lost.

    Attributes:
      exit_code: the program's.
    """

    exit_code: int


class Stopped(RunEnded):
    """A signal ended the run after a checkpoint was written; the same command goes on from it.

    `exit_code` is 128 + the signal's number, as shells have it: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, signum: int, step: int):
        super().__init__(
            f"stopped by {signal.Signals(signum).name} after step {step}; the same command goes on from there"
        )
        self.exit_code = 128 + signum


class Interrupted(Exception):  # noqa: N818 (a message, not a mistake)
    """A signal came while something was computed that may be dropped, such as an evaluation.

    Attributes:
      signum: the signal's number.
    """

    def __init__(self, signum: int):
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum


class StopSignals:
    """While entered, the first SIGINT or SIGTERM only sets `received`; a second one ends the process at once.

    Outside the main thread, where Python does not deliver signals, it never receives any.

    Attributes:
      received: the signal's number, or 0.
    """

    def __init__(self):
        self.received = 0
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
        # Python's own KeyboardInterrupt would still wait for the checkpoint.
        for each in self._previous:
            signal.signal(each, signal.SIG_DFL)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for signum, handler in self._previous.items():
            # None: a handler that was not installed from Python cannot be put back.
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        self._previous = {}
