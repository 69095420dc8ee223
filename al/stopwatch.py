"""Seconds by phase, gathered from wherever the work is done.

`with phase("cluster"):` adds to the stopwatch of the surrounding `measuring()`, and costs nothing outside one.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SECONDS: ContextVar[dict[str, float] | None] = ContextVar("seconds", default=None)


@contextmanager
def measuring() -> Iterator[dict[str, float]]:
    """Yields the dict that phases inside it add their seconds to."""
    seconds: dict[str, float] = {}
    token = _SECONDS.set(seconds)
    try:
        yield seconds
    finally:
        _SECONDS.reset(token)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Adds the seconds spent inside to `name`; phases may nest, and each counts its whole time."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds = _SECONDS.get()
        if seconds is not None:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
