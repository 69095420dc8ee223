"""Put a report together: compute the findings, draw the figures, write the tables and the page."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from sweeps.report import tables
from sweeps.report.analysis import Analysis, analyse
from sweeps.report.cells import Setting, organise
from sweeps.report.decision import Decision, decide
from sweeps.report.first_screen import first_screen
from sweeps.report.load import Results
from sweeps.report.page import page
from sweeps.report.picture import Picture
from sweeps.report.pool_map import read_map
from sweeps.report.sections import Extension, Findings, Image, Live, Part, Section, sections
from sweeps.report.table import Table
from sweeps.report.zero_shot import own_zero_shot

TITLE = "Active learning: what the runs say"


class Report(NamedTuple):
    """What was written."""

    index: Path
    answer: str
    """In a sentence, as the page begins."""
    decisions: tuple[Decision, ...]
    facts: tuple[str, ...]


def find(results: Results, results_dir: str | Path, target: float | None = None) -> Findings:
    """Compute everything that a report says, before anything is drawn."""
    families = organise(results)
    known = {run.data.fingerprint for run in results.runs}
    maps = {fingerprint: read_map(Path(results_dir), fingerprint) for fingerprint in known}

    def analysed(setting: Setting) -> Analysis:
        return replace(analyse(setting, target), pool_map=maps[setting.everyone[0].runs[0].data.fingerprint])

    analyses = tuple(tuple(map(analysed, family.settings)) for family in families)
    zero_shot = tuple(own_zero_shot(results.folder or results_dir))
    return Findings(results, Path(results_dir), tuple(families), analyses, zero_shot, target)


def build(
    results: Results,
    results_dir: str | Path,
    out: str | Path,
    target: float | None = None,
    extensions: Sequence[Extension] = (),
) -> Report:
    """Write index.html, figures/ and tables/ under `out`; files of an earlier report there are replaced.

    Args:
        target: accuracy in percent to reach; by default what random sampling or the baseline reaches.
        extensions: what studies add to the sections, in turn.
    """
    out = Path(out)
    findings = find(results, results_dir, target)
    decisions = tuple(decide(analysis, results_dir) for analysis in findings.every_analysis) or (_nothing(results),)
    first = first_screen(results, findings.every_analysis, decisions, str(results_dir))
    made = sections(findings)
    for extend in extensions:
        made = extend(findings, made)
    with _Writer(out) as writer:
        writer.table(tables.decision_table(decisions))
        written = [writer.section(section) for section in made]
        shown = [section for section in written if section.parts]
        writer.text("index.html", page(TITLE, first, findings.every_analysis, decisions, shown))
    return Report(out / "index.html", first.answer, decisions, first.facts)


def _nothing(results: Results) -> Decision:
    if results.runs:
        return Decision("Nothing to compare yet", "only baselines are complete.", ())
    return Decision(
        "Nothing to report yet", "no complete run was found.", (*results.notes, "see below for what is missing")
    )


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

    def section(self, section: Section) -> Section:
        """Writes the tables and pictures of a section; returns it as the page shows it, empty tables left out."""
        parts = [part for part in section.parts if not isinstance(part, Table) or part.rows]
        return replace(section, parts=tuple(map(self._part, parts)))

    def _part(self, part: Part) -> Part | Image:
        if isinstance(part, Table):
            return self.table(part)
        if isinstance(part, Live):
            return part._replace(pictures=tuple(map(self._picture, part.pictures)))
        return self._picture(part) if isinstance(part, Picture) else part

    def table(self, table: Table) -> Table:
        """Writes both files; returns the table under the name that they have."""
        table = table._replace(name=self._unique(table.name))
        self.text(f"tables/{table.name}.csv", table.csv())
        self.text(f"tables/{table.name}.md", table.markdown())
        return table

    def _picture(self, picture: Picture) -> Image:
        name = self._unique(picture.name)
        paths = [self._path(f"figures/{name}{suffix}") for suffix in (".png", ".svg")]
        picture.draw(paths)
        return Image(paths[0], picture.title, picture.alt)

    def _unique(self, name: str) -> str:
        """The name, numbered where another file of this report has it."""
        number, given = 2, name
        while given in self.names:
            given, number = f"{name}_{number}", number + 1
        self.names.add(given)
        return given

    def _path(self, name: str) -> Path:
        self.files.add(name)
        return self.out / name

    def text(self, name: str, content: str) -> None:
        path = self._path(name)
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(path)


def _inside(name: str) -> bool:
    """Whether a name from the manifest is one that a report writes."""
    parts = Path(name).parts
    return name == "index.html" or (len(parts) == 2 and parts[0] in ("figures", "tables") and ".." not in parts)
