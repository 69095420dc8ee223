"""What the terminal shows of a run: a live bar where there is a terminal, plain lines in a log, a table at the end."""

import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from al.records import EpochRecord, RunResult


def duration(seconds: float) -> str:
    """`12 s`, `3 min 20 s` or `2 h 5 min`."""
    seconds = max(round(seconds), 0)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 10:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class RunProgress:
    """Tells how one run gets on. Use as a context manager around the loop."""

    def __init__(self, title: str, acquisitions: int):
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.acquisitions = acquisitions
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(title, total=None, left="")
        self.say(title)

    def __enter__(self) -> "RunProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)

    def doing(self, what: str) -> None:
        self._bar.update(self._task, description=what)

    def epoch(self, record: EpochRecord, spent: float, left: float) -> None:
        """One line an epoch: where the run stands, how good it is, what is left. Times in seconds."""
        remaining = f"about {duration(left)} left" if left > 0 else "done"
        val = f"val loss {record.val['loss']:.3f}  " if record.val else ""
        self.say(
            f"{time.strftime('%H:%M:%S')}  round {record.round:>2}/{self.acquisitions}  epoch {record.epoch:>3}  "
            f"labels {record.labels:>6}  train loss {record.train['loss']:.3f}  {val}"
            f"test {record.test['accuracy']:5.2f} %  {record.seconds['round']:6.1f} s  {remaining}"
        )
        self._bar.update(self._task, completed=spent, total=spent + left, left=remaining)

    def summary(self, result: RunResult, folder: Path, url: str | None) -> None:
        """The one table at the end of a run, and where the results are."""
        self._bar.stop()
        table = Table(show_header=False)
        for name, value in _summary_rows(result):
            table.add_row(name, value)
        self.console.print(table)
        self.say(f"results: {folder}")
        if url:
            self.say(f"W&B:     {url}")


SHOWN = ("train", "evaluate", "score", "select", "checkpoint", "pictures", "tracking")
"""Phases in the table at the end of a run."""


def _summary_rows(result: RunResult) -> list[tuple[str, str]]:
    test = result.test
    labels = f"{result.labels_used:,}"
    if result.human_labels_used != result.labels_used:
        labels += f", {result.human_labels_used:,} of them by people"
    phases = ", ".join(f"{name} {duration(result.seconds[name])}" for name in SHOWN)
    rows = [
        ("labels", labels),
        ("test accuracy", f"{test['accuracy']:.2f} %  (macro F1 {test['f1-score']:.3f}, loss {test['loss']:.3f})"),
        ("best epoch", f"{result.best.epoch} of {result.total_epochs}"),
        ("time", f"{duration(result.training_time_seconds)}: {phases}"),
        ("peak memory", f"{result.peak_memory_mb:,.0f} MiB"),
    ]
    if embedding := result.seconds["embed"]:
        rows.insert(4, ("embeddings", f"{duration(embedding)}, once for all runs that use them"))
    if result.baseline:
        verdict = "beaten" if result.reached_baseline else "not beaten"
        rows.insert(2, ("baseline", f"{verdict}: {result.baseline.accuracy:.2f} %"))
    return rows
