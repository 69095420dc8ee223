"""The sections of the page: what each shows, in order.

A section is a function of the findings. A study adds its own by extending the list, see `sweeps.report.build`.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from al.config import RunConfig
from sweeps.report import figures, tables
from sweeps.report.analysis import Analysis
from sweeps.report.cells import Cell, Family, Setting
from sweeps.report.charts.registry import CHARTS
from sweeps.report.citations import bibtex
from sweeps.report.curve_figures import curve_pictures
from sweeps.report.load import Results
from sweeps.report.overlaps import wanted_table
from sweeps.report.picks import Gallery, doubt_table, galleries
from sweeps.report.picture import Picture
from sweeps.report.table import Table
from sweeps.report.zero_shot import ZeroShot, zero_shot_pictures, zero_shot_table

METHOD = Path(__file__).parent / "templates" / "method.txt"
DIFFERENCES_NOTE = (
    "A dot is a split seed, the bar the mean, the line its simultaneous 95 % interval; p is corrected for all "
    "comparisons of the setting."
)
NEEDS_NOTE = "A dot is a split seed. A hollow one ended before it reached the target, and needs more labels than that."
LONG_TABLE = 12
"""Rows from which a table of what is missing starts folded."""
PHASES_NOTE = f"Clustering is part of selection and shown apart. {tables.EMBEDDINGS_NOTE}"
CALIBRATION_NOTE = (
    "Test images of the best epoch, of all split seeds together, in bins of how sure the model is. Below the diagonal "
    "the model is too sure, above it not sure enough. A larger dot has more images."
)


@dataclass(frozen=True)
class Findings:
    """Everything computed from the runs before anything is drawn."""

    results: Results
    results_dir: Path
    families: tuple[Family, ...]
    analyses: tuple[tuple[Analysis, ...], ...]
    """By family, one a setting."""
    zero_shot: tuple[ZeroShot, ...]
    target: float | None = None
    """Accuracy in percent that the user asked for."""

    @property
    def where(self) -> list[str]:
        """The arguments that name the runs: sweep files, folder, parameters set for all."""
        given = self.results.assignments
        options = ["--results-dir", str(self.results_dir), *(["--set", *given] if given else [])]
        return [*self.results.sweeps, *options]

    @property
    def command(self) -> str:
        """Makes this report again."""
        target = [] if self.target is None else ["--target", f"{self.target:g}"]
        return shlex.join(["python", "-m", "sweeps.report", *self.where, *self.results.read_from, *target])

    @property
    def every_analysis(self) -> list[Analysis]:
        return [analysis for group in self.analyses for analysis in group]

    def best_cells(self, family: Family) -> list[Cell]:
        """The strategy that leads in each setting of a family."""
        analyses = next(group for known, group in zip(self.families, self.analyses) if known is family)
        return [analysis.best for analysis in analyses if analysis.best]

    def titled(self, table: Table, family: Family) -> Table:
        """The table under a title that names its family, where there are several."""
        return table._replace(title=f"{table.title}: {family.title}") if len(self.families) > 1 else table


class Text(NamedTuple):
    """A paragraph, or a command to copy."""

    text: str
    command: bool = False


class Image(NamedTuple):
    """A picture that is there already."""

    path: Path
    title: str
    alt: str


class Live(NamedTuple):
    """A chart that a script draws and the reader can ask; without scripts, its pictures stand for it."""

    name: str
    """In `charts.registry.CHARTS`."""
    title: str
    note: str
    pictures: Sequence[Picture | Image] = ()


Part = Text | Table | Picture | Live | Gallery


@dataclass(frozen=True)
class Section:
    """A chapter of the page; one without parts is not shown."""

    id: str
    title: str
    parts: tuple[Part, ...]


Extension = Callable[[Findings, list[Section]], list[Section]]
"""What a study makes of the sections: with its own among them where it knows the data, else unchanged."""


def sections(findings: Findings) -> list[Section]:
    """Every section that the runs of any data set have, in the page's order."""
    made = (
        ("curves", "Learning curves", _curves),
        ("needs", "Strategies compared, labels saved", _needs),
        ("zero_shot", "Zero-shot labels", lambda findings: zero_shot_parts(findings.zero_shot)),
        ("metrics", "Test metrics", _metrics),
        ("classes", "Classes", _classes),
        ("picks", "What was picked", _picks),
        ("epochs", "By epoch", _epochs),
        ("time", "Time", _time),
        ("missing", "Missing, left out, notes", _missing),
        ("method", "How it was computed", _method),
        ("runs", "All runs", _runs),
    )
    return [Section(id_, title, tuple(parts(findings))) for id_, title, parts in made]


def _live(name: str, note: str, pictures: Iterable[Picture] = ()) -> Live:
    return Live(name, CHARTS[name].title, note, tuple(pictures))


def _curves(findings: Findings) -> Iterator[Part]:
    pictures = [picture for family in findings.families for picture in curve_pictures(family)]
    if findings.every_analysis:
        note = (
            "Means over the seeds; with five or more seeds a 95 % band, with fewer a thin line for each. The baseline "
            "is the point that labels everything at once."
        )
        yield _live("curves", note, pictures)
    else:
        yield from pictures


def _needs(findings: Findings) -> Iterator[Part]:
    if findings.every_analysis:
        yield _live("differences", DIFFERENCES_NOTE)
        yield _live("needs", NEEDS_NOTE)
    yield tables.verdict_table(findings.every_analysis)
    yield tables.needs_table(findings.every_analysis)
    yield tables.comparison_table(findings.every_analysis)


def zero_shot_parts(own: Sequence[ZeroShot]) -> Iterator[Part]:
    """What is said of sets of zero-shot labels, their truth being known."""
    yield zero_shot_table([(f"set {number}", labels) for number, labels in enumerate(own, 1)])
    yield from zero_shot_pictures(own)


def _metrics(findings: Findings) -> Iterator[Part]:
    pictures = [picture for family in findings.families for picture in figures.calibration_pictures(family)]
    if findings.every_analysis and pictures:
        yield _live("calibration", CALIBRATION_NOTE, pictures)
    for family in findings.families:
        yield findings.titled(tables.penalty_table(family), family)
    yield tables.quality_table(findings.families)
    yield tables.curve_table(findings.families)


def _classes(findings: Findings) -> Iterator[Part]:
    if findings.every_analysis:
        yield _live("classes", "Means over the split seeds, of the best epoch.")
    yield from tables.class_tables(findings.families)
    for family in findings.families:
        yield from figures.confusion_pictures(family, findings.best_cells(family))


def _picks(findings: Findings) -> Iterator[Part]:
    settings = [analysis.setting for analysis in findings.every_analysis]
    if any(analysis.pool_map for analysis in findings.every_analysis):
        yield _live("places", "Click one to follow it through all charts.")
    elif settings:
        yield Text("A map of the pool, with the picks on it, is added by")
        yield Text(_map_command(settings[0], findings.results_dir), command=True)
    yield from galleries(findings.every_analysis, findings.results_dir)
    yield doubt_table(settings)
    for family in findings.families:
        yield findings.titled(wanted_table(family.settings, family.classes), family)
    for family in findings.families:
        yield from figures.pick_pictures(family)


def _map_command(setting: Setting, results_dir: Path) -> str:
    config = setting.config.model_copy(update={"results_dir": str(results_dir)})
    fields = ("dataset", "data_dir", "split_file", "image_size", "features", "features_size", "results_dir")
    given = {name: getattr(config, name) for name in fields if name in RunConfig.model_fields}
    changed = {name: value for name, value in given.items() if value != RunConfig.model_fields[name].default}
    return shlex.join(["python", "-m", "data_prep", "map", *(f"--{name}={value}" for name, value in changed.items())])


def _epochs(findings: Findings) -> Iterator[Part]:
    for family in findings.families:
        yield from figures.epoch_pictures(family, findings.best_cells(family)[:1])


def _time(findings: Findings) -> Iterator[Part]:
    pictures = [picture for family in findings.families for picture in figures.time_pictures(family)]
    if findings.every_analysis:
        yield _live("phases", PHASES_NOTE, pictures)
    else:
        yield from pictures
    yield tables.cost_table(findings.every_analysis)
    yield tables.time_table(findings.families)


def _missing(findings: Findings) -> Iterator[Part]:
    """What a reader must know about what is not on the page, with the commands that would put it there."""
    results = findings.results
    yield from map(Text, results.notes)
    if results.missing:
        yield Text(f"{len(results.missing)} runs of the sweep files are missing or unfinished. All of them:")
        yield Text(results.command, command=True)
        rows = [(item.config.cell, item.config.split_seed, item.sweep, item.command) for item in results.missing]
        columns = ("configuration", "split seed", "sweep file", "command")
        yield Table("missing", "Missing runs", columns, rows, folded=len(rows) > LONG_TABLE)
    rows = [(item.source, item.reason, item.command) for item in results.left_out]
    yield Table("left_out", "Found and left out", ("run", "why", "command"), rows, folded=len(rows) > LONG_TABLE)


def _method(findings: Findings) -> Iterator[Part]:
    paragraphs = METHOD.read_text(encoding="utf-8").strip().split("\n\n")
    yield from (Text(" ".join(paragraph.split())) for paragraph in paragraphs)
    yield Text("This page is made again by")
    yield Text(findings.command, command=True)
    if findings.results.sweeps:
        yield Text("and its runs, what is complete being passed over, by")
        yield Text(shlex.join(["python", "-m", "sweeps.local", *findings.where]), command=True)
    yield tables.conditions_table(findings.results.runs)
    if told := tables.repeatability(findings.results.runs):
        yield Text(told)
    cited = bibtex(run.config.strategy for run in findings.results.runs)
    if cited:
        yield Text("The strategies are those of (BibTeX)")
        yield Text(cited, command=True)


def _runs(findings: Findings) -> Iterator[Part]:
    yield tables.runs_table(findings.families)
