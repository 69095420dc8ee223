"""Seconds by phase, gathered from wherever the work is done.

`with phase("cluster"):` adds to the stopwatch that runs, and costs nothing where none does.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_RUNNING: ContextVar["Stopwatch | None"] = ContextVar("stopwatch", default=None)


class Stopwatch:
    """Phases since the last lap. A lap's `round` is all the time that it took."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    def add(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def lap(self) -> dict[str, float]:
        """Seconds by phase since the last lap; begins the next one."""
        now = time.perf_counter()
        seconds, self._seconds = self._seconds | {"round": now - self._start}, {}
        self._start = now
        return seconds


@contextmanager
def running() -> Iterator[Stopwatch]:
    """A stopwatch that the phases inside add to."""
    stopwatch = Stopwatch()
    token = _RUNNING.set(stopwatch)
    try:
        yield stopwatch
    finally:
        _RUNNING.reset(token)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Adds the seconds spent inside to `name`; phases may nest, and each counts its whole time."""
    start = time.perf_counter()
    try:
        yield
    finally:
        if (stopwatch := _RUNNING.get()) is not None:
            stopwatch.add(name, time.perf_counter() - start)
