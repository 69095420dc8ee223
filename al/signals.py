"""Stopping well: signals end a run at once, but never in the middle of writing down what it did."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_PREEMPTED = 75
"""Status after SIGUSR1, EX_TEMPFAIL of sysexits.h: start the same command again to go on."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""What ends a run. SIGHUP, a terminal that is closed, is as SIGTERM, except where nohup has it ignored."""


class StopRequested(BaseException):
    """Raised in the main thread by one of `STOPPING`; not an Exception, so nothing swallows it."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def preempted(self) -> bool:
        return self.signum == signal.SIGUSR1

    @property
    def exit_code(self) -> int:
        return EXIT_PREEMPTED if self.preempted else 128 + self.signum


def leave_on_signals() -> None:
    """Have signals end this process at once, with the status and the line of a run that they stop.

    For the second in which a program imports what it needs: there is nothing to save yet, and left alone Python prints
    a traceback for Ctrl-C and dies of the others.
    """

    def leave(signum: int, frame: object) -> None:
        stop = StopRequested(signum)
        print(f"stopped by {stop}: give the same command again to go on", file=sys.stderr, flush=True)
        os._exit(stop.exit_code)

    _handle_with(leave)


def _handle_with(handler: Callable[[int, object], None]) -> None:
    for signum in STOPPING:
        if signum != signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, handler)


class StopSignals:
    """Turns the signals that end a run into `StopRequested`, and holds them back where `shielded`."""

    def __init__(self) -> None:
        self._shielded = False
        self._pending: int | None = None

    def install(self) -> "StopSignals":
        _handle_with(self._handle)
        return self

    def _handle(self, signum: int, frame: object) -> None:
        if self._shielded:
            self._pending = signum
        else:
            raise StopRequested(signum)

    @property
    def pending(self) -> bool:
        """Whether one has come that takes effect where the shield ends."""
        return self._pending is not None

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Work that is finished before a signal takes effect."""
        self._shielded = True
        try:
            yield
        finally:
            self._shielded = False
            pending, self._pending = self._pending, None
        if pending is not None:
            raise StopRequested(pending)
