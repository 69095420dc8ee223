"""What a comparison says on the terminal: what is in the folder, what was chosen and why, what will be run."""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from al.data import DataSet, Embeddings
from data_prep.folder_report import FolderReport, findings
from data_prep.near_duplicates import COSINE, alike_by_embedding
from data_prep.placing import LeftOut, Placement
from sweeps.compare.calibrating import Plan
from sweeps.compare.choosing import Choice, Reason
from sweeps.report.build import Report
from sweeps.runner.terminal import duration

MOST_CLASSES = 24
"""Classes that the table shows; of more the largest and the smallest."""
EXAMPLES = 3


class Teller:
    """Prints lines and tables; names of files and classes are never read as markup."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

    def line(self, text: str = "") -> None:
        self.console.print(text, markup=False, emoji=False, soft_wrap=True)

    def folder(self, report: FolderReport, placement: Placement, split_file: Path | None) -> None:
        """What was found, and what became of it."""
        self._classes(report, placement)
        for text in findings(report):
            self.line(text)
        for text in placement_told(placement, split_file):
            self.line(text)

    def _classes(self, report: FolderReport, placement: Placement) -> None:
        table = Table(
            title=f"{report.images:,} images in {len(report.classes):,} classes", title_justify="left", box=box.SIMPLE
        )
        table.add_column("class", overflow="fold")
        for heading in ("training", "test", "not used"):
            table.add_column(heading, justify="right")
        counts = placement.counts
        rows = sorted(report.classes, key=lambda row: -sum(row.counts))
        for row in rows if len(rows) <= MOST_CLASSES else [*rows[: MOST_CLASSES // 2], *rows[-MOST_CLASSES // 2 :]]:
            used = counts.get(row.name, {"train": 0, "test": 0})
            unused = sum(row.counts) - sum(used.values())
            numbers = [f"{count:,}" for count in (used["train"], used["test"], unused)]
            table.add_row(escape(_plain(row.name)), *numbers[:2], numbers[2] if unused else "")
        if len(rows) > MOST_CLASSES:
            table.caption = f"the largest and the smallest of {len(rows):,} classes"
        self.console.print(table)

    def choice(self, reasons: Iterable[Reason]) -> None:
        """What was chosen, a line each, with the reason."""
        table = Table(title="chosen, and why", title_justify="left", box=box.SIMPLE, show_header=False)
        for _ in range(3):
            table.add_column(overflow="fold")
        shown = ""
        for reason in reasons:
            what = "" if reason.what == shown else reason.what
            table.add_row(what, escape(_plain(reason.chosen)), escape(_plain(reason.why)))
            shown = reason.what
        self.console.print(table)

    def answer(self, report: Report) -> None:
        """What the runs say; the sentence and the page come last."""
        for decision in report.decisions:
            for detail in decision.details:
                self.line(f"- {detail}")
        self.line()
        self.line(report.answer)
        self.line(f"page: {report.index}")

    def plan(self, plan: Plan, run_seconds: float, limit: int) -> None:
        """Strategy x labels x seeds, with the time."""
        choice, seeds = plan.choice, ", ".join(map(str, plan.seeds))
        table = Table(title="to run", title_justify="left", box=box.SIMPLE)
        for heading, justify in (("strategy", "left"), ("labels", "left"), ("seeds", "left"), ("runs", "right")):
            table.add_column(heading, justify=justify, overflow="fold")
        table.add_column("time, about", justify="right")
        for name in choice.strategies:
            seconds = len(plan.seeds) * run_seconds / limit
            table.add_row(name, _counts(choice, name), seeds, str(len(plan.seeds)), duration(seconds))
        runs = len(plan.seeds) * len(choice.strategies)
        table.add_section()
        table.add_row("all", "", "", str(runs), duration(plan.seconds))
        self.console.print(table)
        for reason in plan.reasons:
            self.line(f"{reason.what}: {reason.chosen} ({reason.why})")


def _counts(choice: Choice, strategy: str) -> str:
    labels = choice.labels[-1:] if strategy == "stratified" else choice.labels
    return ", ".join(f"{count:,}" for count in labels)


def placement_told(placement: Placement, split_file: Path | None) -> Iterator[str]:
    """What became of the images, a line each."""
    splits = Counter(image.split for image in placement.images)
    if placement.drawn:
        yield f"test set: {splits['test']:,} images, drawn from every class, with copies on one side: {split_file}"
    if placement.new:
        yield f"new since then: {placement.new:,} images, for training (copies of test images: for testing)"
    if placement.gone:
        yield f"gone since then: {placement.gone:,} images"
    yield from _left_out(placement.left_out)
    if placement.left_out and not placement.drawn:
        yield f"what is used is kept in {split_file}"


def _left_out(images: Iterable[LeftOut]) -> Iterator[str]:
    """Images that are not used, by reason."""
    by_reason: dict[str, list[str]] = {}
    for image in images:
        reason = image.reason.partition(" (")[0]
        reason = "the same pixels as a test image" if reason.startswith("the same pixels as") else reason
        by_reason.setdefault(reason, []).append(image.path)
    for reason, paths in by_reason.items():
        more = ", ..." if len(paths) > EXAMPLES else ""
        yield f"not used: {len(paths):,} images: {reason}: {', '.join(map(_plain, paths[:EXAMPLES]))}{more}"


def embedding_duplicates_told(data: DataSet, embeddings: Embeddings) -> Iterator[str]:
    """Test images whose embeddings are those of training images, in a line; nothing where there are none."""
    vectors = np.concatenate([embeddings.train, embeddings.test])
    pairs = alike_by_embedding(vectors)
    size = len(embeddings.train)
    between = pairs[(pairs[:, 0] < size) & (pairs[:, 1] >= size)]
    tested = len(np.unique(between[:, 1]))
    if tested:
        shown = [
            f"{data.test.path_of(test - size)} ~ {data.train.path_of(train)}" for train, test in between[:EXAMPLES]
        ]
        yield (
            f"by embedding: {tested:,} of {len(data.test):,} test images look like training images (cosine {COSINE} or "
            f"more): {', '.join(shown)}{', ...' if len(between) > EXAMPLES else ''}"
        )


def _plain(text: str) -> str:
    """Text that can be printed, whatever bytes the name of a file has."""
    return os.fsencode(text).decode(errors="backslashreplace")
