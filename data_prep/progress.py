"""Progress on stderr: a bar on a terminal, a few plain lines in a log."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Progress = Callable[[Iterable[int], int, str], Iterable[int]]
"""Passes on numbers of finished things, and shows how their sum nears a total: (counts, total, description)."""

SECONDS_BETWEEN_LINES = 10.0
LINES_TO_JUDGE_BY = 12
"""Of which the speed is taken."""


def show_progress(counts: Iterable[int], total: int, description: str) -> Iterator[int]:
    """Pass `counts` on, and show on stderr what share of `total` is done."""
    show = _bar if sys.stderr.isatty() else _lines
    yield from show(counts, total, description)


def _bar(counts: Iterable[int], total: int, description: str) -> Iterator[int]:
    """A bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)
        for count in counts:
            bar.advance(task, count)
            yield count


def _lines(counts: Iterable[int], total: int, description: str) -> Iterator[int]:
    """A line every ten seconds, for a log, where a bar would be one long line of control characters.

    How long the rest takes is told by the last lines: an interrupted job that goes on begins with a leap.
    """
    start = last = time.monotonic()
    done = 0
    seen: deque[tuple[float, int]] = deque(maxlen=LINES_TO_JUDGE_BY)
    for count in counts:
        done += count
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            seen.append((now, done))
            share = f"{done:,} of {total:,} ({100 * done // total} %)"
            print(f"{description}: {share}{_left(seen, total)}", file=sys.stderr, flush=True)
        yield count
    seconds = time.monotonic() - start
    print(f"{description}: {done:,} done in {seconds:.1f} s", file=sys.stderr, flush=True)


def _left(seen: Sequence[tuple[float, int]], total: int) -> str:
    """How long the rest takes, from (seconds, things done) at several times; empty where they do not tell."""
    (first, before), (last, done) = seen[0], seen[-1]
    if done <= before:
        return ""
    seconds = (total - done) * (last - first) / (done - before)
    if seconds < 90:
        return f", {seconds:.0f} s left"
    return f", {seconds / 60:.0f} min left" if seconds < 5400 else f", {seconds / 3600:.1f} h left"
