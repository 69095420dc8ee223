"""Stopping well: signals end a run at once, but never in the middle of writing down what it did."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_PREEMPTED = 75
"""Status after SIGUSR1, EX_TEMPFAIL of sysexits.h: start the same command again to go on."""


class StopRequested(BaseException):
    """Raised in the main thread by SIGINT, SIGTERM or SIGUSR1; not an Exception, so nothing swallows it."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def preempted(self) -> bool:
        return self.signum == signal.SIGUSR1

    @property
    def exit_code(self) -> int:
        return EXIT_PREEMPTED if self.preempted else 128 + self.signum


class StopSignals:
    """Turns the signals that end a run into `StopRequested`, and holds them back where `shielded`."""

    def __init__(self) -> None:
        self._shielded = False
        self._pending: int | None = None

    def install(self) -> "StopSignals":
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(signum, self._handle)
        return self

    def _handle(self, signum: int, frame: object) -> None:
        if self._shielded:
            self._pending = signum
        else:
            raise StopRequested(signum)

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
