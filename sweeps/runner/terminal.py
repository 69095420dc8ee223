"""What the local runner shows: a line for each event, on a terminal a live view under them, and a closing table."""

import os
import statistics
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

if TYPE_CHECKING:
    from sweeps.runner.local import Job, Runner

LOOKS_A_SECOND = 2
"""How often the live view reads the running jobs' files."""


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`: as many digits as an estimate deserves."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Display:
    """Prints events; `following` adds the live view where there is a terminal."""

    def __init__(self) -> None:
        self.console = Console()
        self.unread = False
        """Whether the terminal or the program that read what is printed has gone."""

    def event(self, text: str) -> None:
        try:
            self.console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)
        except (OSError, SystemExit):  # rich itself would exit where a pipe is closed, and leave the runs alone
            self.unread = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)

    @contextmanager
    def following(self, runner: "Runner") -> Iterator[None]:
        terminal = self.console.is_terminal
        with Live(
            get_renderable=lambda: progress(runner),
            console=self.console,
            auto_refresh=terminal,
            refresh_per_second=LOOKS_A_SECOND,
            transient=True,
        ):
            yield


def progress(runner: "Runner") -> Group:
    """A line for each running job with how far it is; under them a bar with the time left."""
    jobs = Table.grid(padding=(0, 2))
    jobs.add_column(no_wrap=True, overflow="ellipsis")
    jobs.add_column(no_wrap=True, min_width=44)
    jobs.add_column(no_wrap=True, min_width=6)
    for job in list(runner.running):
        cell = job.run.folder.parent.name.rpartition("-")[0]  # without its digits
        jobs.add_row(
            f"{cell} {job.run.config.split_seed}",
            str(job.run.last_epoch() or "starting"),
            duration(time.monotonic() - job.started),
        )
    ended, total = runner.count("done", "found", "failed"), len(runner.jobs)
    bar = Table.grid(padding=(0, 2))
    bar.add_row(ProgressBar(total, ended, width=40), f"{ended} of {total} runs", remaining(runner))
    return Group(jobs, bar)


def remaining(runner: "Runner") -> str:
    seconds = runner.seconds_left()
    return f"about {duration(seconds)} left" if seconds else ""


def print_summaries(of_file: Iterable[tuple[str, Sequence["Job"]]]) -> None:
    """Prints a table for each sweep file: a line for each cell with its seeds, labels, test accuracy and seconds."""
    console = Console(width=None if sys.stdout.isatty() else 160)  # wide enough for long names in a log
    for title, jobs in of_file:
        cells: dict[str, list[Job]] = {}
        for job in jobs:
            cells.setdefault(job.run.folder.parent.name, []).append(job)
        shared = _shared_start(cells)
        failed = {cell: sum(job.state == "failed" for job in members) for cell, members in cells.items()}
        table = Table(title=title, title_justify="left", box=box.SIMPLE)
        table.add_column(f"{shared}…" if shared else "cell", overflow="fold")
        for heading in ("seeds", "labels", "test accuracy %", "seconds", *(["failed"] if any(failed.values()) else [])):
            table.add_column(heading, justify="right", overflow="fold")
        for cell, members in cells.items():
            count = [str(failed[cell] or "")] if any(failed.values()) else []
            table.add_row(cell.removeprefix(shared), *_results(members), *count)
        console.print(table)


def _shared_start(cells: Collection[str]) -> str:
    """What the names of all cells begin with, up to a hyphen: said once, the names fit on a narrow terminal."""
    if len(cells) < 2:
        return ""
    parts = zip(*(cell.split("-") for cell in cells))
    return "".join(f"{same[0]}-" for same in takewhile(lambda part: len(set(part)) == 1, parts))


def _results(members: Sequence["Job"]) -> tuple[str, ...]:
    """The columns of one cell after its name, but for the failed runs."""
    done = [result for job in members if job.run.is_complete() and (result := job.run.result())]
    if not done:
        return f"0/{len(members)}", "", "", ""
    accuracies = [result.test["accuracy"] for result in done]
    spread = f" ± {statistics.stdev(accuracies):.2f}" if len(done) > 1 else ""
    labels = statistics.mean(result.labels_used for result in done)
    seconds = statistics.mean(result.training_time_seconds for result in done)
    return (
        f"{len(done)}/{len(members)}",
        f"{labels:.0f}",
        f"{statistics.mean(accuracies):.2f}{spread}",
        f"{seconds:.1f}",
    )
