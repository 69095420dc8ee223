"""How the local runner shows its progress: live on a terminal, one line an event elsewhere; and its closing table."""

import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.runner.local import Job, Runner

REFRESH = 0.5
"""Seconds between two looks at the running jobs' files."""


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`: as many digits as an estimate deserves."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def state_of(job: "Job") -> str:
    """`epoch 12, round 5, 140 labels, 83.1 %` of a job that is running."""
    row = job.run.last_epoch()
    if not row:
        return "starting"
    return f"epoch {row['epoch']}, round {row['round']}, {row['labels']} labels, {row['test']['accuracy']:.1f} %"


class PlainDisplay:
    """One line for each start and end, for logs and pipes."""

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def event(self, text: str) -> None:
        print(text, flush=True)

    def update(self, runner: "Runner") -> None:
        pass


class LiveDisplay:
    """A line for each running job with where it is, under them a bar with the time left; events scroll above."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(), auto_refresh=False, transient=True)
        self._next = 0.0

    def __enter__(self) -> "LiveDisplay":
        self._live.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._live.__exit__(*exception)

    def event(self, text: str) -> None:
        self._live.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, runner: "Runner") -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + REFRESH
            self._live.update(_progress(runner), refresh=True)


def _progress(runner: "Runner") -> Any:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    jobs = Table.grid(padding=(0, 2))
    jobs.add_column(no_wrap=True, overflow="ellipsis")
    jobs.add_column(no_wrap=True, min_width=44)
    jobs.add_column(no_wrap=True, min_width=6)
    for job in runner.running:
        jobs.add_row(_short_name(job), state_of(job), duration(time.monotonic() - job.started))
    ended, total = runner.count("done", "found", "failed"), len(runner.jobs)
    bar = Table.grid(padding=(0, 2))
    bar.add_row(ProgressBar(total, ended, width=40), f"{ended} of {total} runs", remaining(runner))
    return Group(jobs, bar)


def _short_name(job: "Job") -> str:
    """The cell without its digits, and the split seed: unlike enough for what runs at one time."""
    return f"{job.run.folder.parent.name.rpartition('-')[0]} {job.run.config.split_seed}"


def remaining(runner: "Runner") -> str:
    seconds = runner.seconds_left()
    return "" if not seconds else f"about {duration(seconds)} left"


def make_display() -> PlainDisplay | LiveDisplay:
    return LiveDisplay() if sys.stdout.isatty() else PlainDisplay()


def summary(title: str, jobs: Sequence["Job"]) -> Any:
    """A table of one sweep: a line for each cell with its seeds, labels, test accuracy and seconds."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for heading in ("cell", "seeds", "failed", "labels", "test accuracy %", "seconds"):
        table.add_column(heading, justify="left" if heading == "cell" else "right", overflow="fold")
    for cell, members in _by_cell(jobs).items():
        done = [job.run.metrics() for job in members if job.run.is_complete()]
        failed = sum(job.state == "failed" for job in members)
        table.add_row(cell, f"{len(done)}/{len(members)}", str(failed or ""), *_results(done))
    return table


def _by_cell(jobs: Iterable["Job"]) -> dict[str, list["Job"]]:
    cells: dict[str, list[Job]] = {}
    for job in jobs:
        cells.setdefault(job.run.folder.parent.name, []).append(job)
    return cells


def _results(done: Sequence[dict[str, Any]]) -> tuple[str, str, str]:
    if not done:
        return "", "", ""
    accuracies = [metrics["test_metrics"]["accuracy"] for metrics in done]
    spread = f" ± {statistics.stdev(accuracies):.2f}" if len(done) > 1 else ""
    labels = statistics.mean(metrics["labels_used"] for metrics in done)
    seconds = statistics.mean(metrics["training_time_seconds"] for metrics in done)
    return f"{labels:.0f}", f"{statistics.mean(accuracies):.2f}{spread}", f"{seconds:.1f}"


def print_tables(tables: Iterable[Any]) -> None:
    """Prints tables as wide as the terminal, or wide enough for long names where there is none."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    for table in tables:
        console.print(table)
