"""Puts a report together: what to compute, what to draw, which files to write."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sweeps.report import figures, page, tables
from sweeps.report.analysis import Analysis, analyse
from sweeps.report.cells import Cell, Family, organise
from sweeps.report.decision import Decision, decide
from sweeps.report.figures import Picture
from sweeps.report.load import Results
from sweeps.report.page import Image, Section
from sweeps.report.tables import Table
from sweeps.study.claims import claims
from sweeps.study.published import ZeroShot, own_zero_shot

SECTIONS = {
    "curves": "Learning curves",
    "needs": "Labels needed and saved",
    "claims": "The study's claims",
    "study": "The study's figures and tables",
    "metrics": "Test metrics and comparisons",
    "classes": "Classes",
    "picks": "What was picked",
    "epochs": "By epoch",
    "time": "Time",
    "missing": "Missing, left out, notes",
    "method": "How it was computed",
    "runs": "All runs",
}
MOST_SHEETS = 24
MOST_SHEET_BYTES = 300_000

METHOD = (
    "A value per split seed is one draw; strategies are compared by their differences on the same split seed. "
    "Intervals are 95 % by Student's t; tests are paired t-tests with Holm's correction; Wilcoxon's signed-rank test "
    "stands beside them from six seeds on.",
    "A learning curve takes, at each label count, the epoch with the lowest validation loss; the test set chooses "
    "nothing. With schedule=epoch the model trains one epoch a round, so early points have also seen fewer epochs. "
    "Labels needed are read off the never-falling (isotonic) fit of a run's curve, between two label counts on a "
    "straight line; for runs that stop at the baseline they are what the run used. Human labels count, zero-shot "
    "labels do not.",
    "Bands and error bars are 95 % intervals from three seeds on, cut off at the axis; of two seeds each is a line.",
    "Compute is the whole run: training, evaluation, scoring, selection. It is compared only between runs on the same "
    "device with as many threads.",
    "The best of several strategies is partly the luckiest; its mean is a little optimistic for that.",
)


class Report(NamedTuple):
    """What was written."""

    index: Path
    decisions: tuple[Decision, ...]
    lead: tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """Everything computed from the runs before anything is drawn."""

    families: list[Family]
    analyses: list[list[Analysis]]
    zero_shot: list[ZeroShot]

    @property
    def every_analysis(self) -> list[Analysis]:
        return [analysis for group in self.analyses for analysis in group]


def build(results: Results, results_dir: str | Path, out: str | Path, target: float | None = None) -> Report:
    """Writes index.html, figures/ and tables/ under `out`; files of an earlier report there are replaced."""
    out = Path(out)
    families = organise(results)
    analyses = [[analyse(setting, family, target) for setting in family.settings] for family in families]
    findings = Findings(families, analyses, own_zero_shot(results_dir))
    decisions = tuple(decide(analysis) for analysis in findings.every_analysis) or (_nothing(results),)
    lead = _lead(results, results_dir)
    with _Writer(out) as writer:
        sections = {key: Section(key, title) for key, title in SECTIONS.items()}
        _write_table(tables.decision_table(decisions), writer)
        _add_tables(sections, findings, writer)
        _add_figures(sections, findings, writer)
        sections["picks"].parts += _sheets(families, Path(results_dir))
        sections["missing"].parts += page.missing_parts(results)
        sections["method"].parts += [page.paragraph(text) for text in METHOD]
        writer.text("index.html", page.page("Active learning: what the runs say", lead, decisions, sections.values()))
    return Report(out / "index.html", decisions, lead)


def _nothing(results: Results) -> Decision:
    if results.runs:
        return Decision("Nothing to compare yet", "only baselines are complete.", ())
    return Decision(
        "Nothing to report yet", "no complete run was found.", (*results.notes, "see below for what is missing")
    )


def _lead(results: Results, results_dir: str | Path) -> tuple[str, ...]:
    seeds = sorted({run.seed for run in results.runs})
    cells = len({run.config.digest(split_seed=False) for run in results.runs})
    lines = [f"{len(results.runs)} complete runs of {cells} configurations in {results_dir}."]
    if seeds:
        lines[0] = lines[0][:-1] + f"; split seeds {', '.join(map(str, seeds))}."
    if results.planned:
        done = results.planned - len(results.missing)
        lines.append(f"Sweep files: {', '.join(results.sweeps)}; {done} of {results.planned} runs complete.")
    if results.left_out or results.missing:
        left = f"{len(results.missing)} runs are missing and {len(results.left_out)} were left out"
        lines.append(f"{left}: see the section on what is missing for reasons and commands.")
    return tuple(lines)


# Tables


def _add_tables(sections: dict[str, Section], findings: Findings, writer: "_Writer") -> None:
    for section, table, folded in _tables(findings):
        if table.rows:
            table = _write_table(table, writer)
            sections[section].parts.append(page.table_html(table, folded, files=True))


def _write_table(table: Table, writer: "_Writer") -> Table:
    """Writes both files; returns the table under the name that they have."""
    table = table._replace(name=writer.unique(table.name))
    writer.text(f"tables/{table.name}.csv", table.csv())
    writer.text(f"tables/{table.name}.md", table.markdown())
    return table


def _tables(findings: Findings) -> Iterator[tuple[str, Table, bool]]:
    """(section, table, whether it starts folded)."""
    families = findings.families
    several = len(families) > 1
    for family in families:
        yield "claims", _titled(tables.claims_table(claims(family, findings.zero_shot)), family, several), False
        yield "study", _titled(tables.variants_table(family), family, several), False
        yield "study", _titled(tables.results_table(family), family, several), False
        yield "metrics", _titled(tables.penalty_table(family), family, several), False
        yield "picks", _titled(tables.wanted_table(family.settings, family.classes), family, several), True
    yield "needs", tables.needs_table(findings.every_analysis), False
    if any(family.study_data for family in families):
        yield "study", tables.zero_shot_table(findings.zero_shot), True
    yield "metrics", tables.quality_table(families), False
    yield "metrics", tables.comparison_table(families), True
    yield "metrics", tables.curve_table(families), True
    for table in tables.class_tables(families):
        yield "classes", table, False
    yield "time", tables.time_table(families), True
    yield "runs", tables.runs_table(families), True


def _titled(table: Table, family: Family, several: bool) -> Table:
    return table._replace(title=f"{table.title}: {family.title}") if several else table


# Figures


def _add_figures(sections: dict[str, Section], findings: Findings, writer: "_Writer") -> None:
    for picture in _pictures(findings):
        name = writer.unique(picture.name)
        paths = [writer.path(f"figures/{name}{suffix}") for suffix in (".png", ".svg")]
        picture.draw(paths)
        sections[picture.section].parts.append(page.figure_html(Image(paths[0], picture.title, picture.alt)))


def _pictures(findings: Findings) -> Iterator[Picture]:
    for family, analyses in zip(findings.families, findings.analyses):
        best = [analysis.needs[0].cell for analysis in analyses if analysis.needs]
        yield from figures.curve_pictures(family)
        yield from figures.bar_pictures(family)
        yield from figures.confusion_pictures(family, best)
        yield from figures.epoch_pictures(family, best[:1])
        yield from figures.pick_pictures(family)
        yield from figures.time_pictures(family)
    yield from figures.zero_shot_pictures(findings.zero_shot)


def _sheets(families: Sequence[Family], results_dir: Path) -> list[str]:
    """The first and last sheet of picks of each strategy, one seed a setting, where the runs left them."""
    parts: list[str] = []
    left = MOST_SHEETS
    for setting in (setting for family in families for setting in family.settings):
        images = [image for cell in setting.cells for image in _cell_sheets(cell, results_dir)][:left]
        left -= len(images)
        if images:
            parts += [f"<h3>{page.escape('Picked images: ' + setting.title)}</h3>", page.sheets_html(images)]
    return parts


def _cell_sheets(cell: Cell, results_dir: Path) -> list[Image]:
    run = cell.runs[0]
    found = sorted((results_dir / run.source / "plots" / "picks").glob("round_*.png"))
    found = [path for path in found if path.stat().st_size <= MOST_SHEET_BYTES]
    chosen = dict.fromkeys([found[0], found[-1]]) if found else {}
    return [
        Image(
            path,
            title := f"{cell.label}, {path.stem.replace('_', ' ')}, split seed {run.seed}",
            f"Images picked: {title}",
        )
        for path in chosen
    ]


# Files


class _Writer:
    """Writes files whole, remembers them, and removes at the end what an earlier report left and this one did not."""

    MANIFEST = ".files.json"

    def __init__(self, out: Path):
        self.out = out
        self.names: set[str] = set()
        self.files: set[str] = set()

    def __enter__(self) -> "_Writer":
        for folder in ("", "figures", "tables"):
            (self.out / folder).mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            for name in self._earlier() - self.files:
                (self.out / name).unlink(missing_ok=True)
            self.text(self.MANIFEST, json.dumps(sorted(self.files)))

    def _earlier(self) -> set[str]:
        try:
            names = json.loads((self.out / self.MANIFEST).read_text())
        except (OSError, ValueError):
            return set()
        return {name for name in names if isinstance(name, str) and _inside(name)}

    def unique(self, name: str) -> str:
        """The name, numbered where another file of this report has it."""
        number, given = 2, name
        while given in self.names:
            given, number = f"{name}_{number}", number + 1
        self.names.add(given)
        return given

    def path(self, name: str) -> Path:
        self.files.add(name)
        return self.out / name

    def text(self, name: str, content: str) -> None:
        path = self.path(name)
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(path)


def _inside(name: str) -> bool:
    """Whether a name from the manifest is one that a report writes."""
    parts = Path(name).parts
    return name == "index.html" or (len(parts) == 2 and parts[0] in ("figures", "tables") and ".." not in parts)
