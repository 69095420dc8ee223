"""`python -m sweeps.report.dashboard`: the suite's W&B report and a saved workspace view, made or brought up to date.

Both are found again by their names, so a second call changes them and never adds another. With `--dry-run` their JSON
is written to disk and nothing is sent.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from al.arguments import Parser, folder_name
from al.errors import UserError
from al.tracking import projection
from sweeps.report.build import find
from sweeps.report.cells import Cell, Family, Setting
from sweeps.report.decision import decide
from sweeps.report.from_wandb import load_wandb
from sweeps.report.load import Results, load_results
from sweeps.report.panels import OF_ONE_SETTING, Shown, logged_names, panels_of
from sweeps.report.sections import Section, sections
from sweeps.report.studies import STUDIES
from sweeps.report.table import Table, escaped

TITLE = "Active learning: strategies, labels and compute"
VIEW, VIEW_NAME = "activelearning", "Active learning"
DESCRIPTION = "Learning curves, label counts, per-class metrics and time of every configuration that was run."


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where something must be put right first."""
    options = _parser().parse_args(arguments)
    try:
        return _dashboard(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> Parser:
    parser = Parser(prog="python -m sweeps.report.dashboard", description=__doc__)
    parser.add_argument("--entity", default=os.environ.get("WANDB_ENTITY"), help="W&B user or team ($WANDB_ENTITY)")
    parser.add_argument(
        "--project", default=os.environ.get("WANDB_PROJECT", "active-learning"), help="W&B project ($WANDB_PROJECT)"
    )
    parser.add_argument(
        "--results-dir",
        type=folder_name,
        default="results",
        help="runs to make it from; where there are none, those that the project holds",
    )
    parser.add_argument("--dry-run", action="store_true", help="write the JSON to --out and send nothing")
    parser.add_argument("--out", help="folder for the JSON (default: RESULTS_DIR/report)")
    return parser


def _dashboard(options: argparse.Namespace) -> int:
    _need_package()
    if options.dry_run:
        content = content_of(_local(options.results_dir), options.results_dir)
        out = Path(options.out) if options.out else Path(options.results_dir) / "report"
        for path in write_json(out, options.entity or "entity", options.project, content):
            print(f"Written: {path}")
        return 0
    entity = options.entity or _default_entity()
    content = content_of(_found(options.results_dir, entity, options.project), options.results_dir)
    try:
        report = save_report(entity, options.project, content)
        view = save_view(entity, options.project, content)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{entity}/{options.project}: W&B did not take the report ({reason}); check key and names"
        ) from None
    print(f"Report: {report}\nView: {view}")
    return 0


def _need_package() -> None:
    try:
        import wandb_workspaces  # noqa: F401
    except ImportError:
        raise UserError("wandb-workspaces is not installed; `pip install wandb-workspaces` and try again") from None


def _default_entity() -> str:
    import wandb

    try:
        entity = wandb.Api().default_entity
    except (wandb.errors.Error, ValueError, OSError):
        entity = None
    if not entity:
        raise UserError("entity: not given and W&B names none; run `wandb login`, give --entity, or use --dry-run")
    return entity


class Chapter(NamedTuple):
    """A section of the page, as far as it goes onto W&B."""

    id: str
    title: str
    tables: tuple[str, ...]
    """As Markdown; those that the page folds stay with it."""


class Content(NamedTuple):
    """What the report shows, made from the runs that were found."""

    answers: str
    chapters: tuple[Chapter, ...]
    settings: tuple[Shown, ...]
    families: tuple[Shown, ...]
    everything: Shown


def _local(results_dir: str | Path) -> Results:
    return load_results(results_dir) if Path(results_dir).is_dir() else Results()


def _found(results_dir: str | Path, entity: str, project: str) -> Results:
    """The complete runs of the folder; where it has none, the finished ones of the project."""
    results = _local(results_dir)
    if not results.runs:
        with suppress(UserError):  # a project that does not exist yet has none
            results = load_wandb(f"{entity}/{project}")
    return results


def content_of(results: Results, results_dir: str | Path) -> Content:
    """Short answers, and the page's sections with the runs that each is about."""
    findings = find(results, results_dir)
    everything = Shown("all runs", (), projection.LABELS, "cell", logged_names(results.runs))
    if not findings.families:
        return Content("", (), (), (), everything)
    shown = sections(findings)
    for extend in STUDIES:
        shown = extend(findings, shown)
    decisions = map(decide, findings.every_analysis)
    answers = "\n".join(f"- **{escaped(d.setting)}**: {escaped(d.headline)}" for d in decisions)
    settings = tuple(_setting(setting) for family in findings.families for setting in family.settings)
    families = tuple(_family(family) for family in findings.families)
    return Content(answers, tuple(map(_chapter, shown)), settings, families, everything)


def _chapter(section: Section) -> Chapter:
    tables = [part for part in section.parts if isinstance(part, Table) and part.rows and not part.folded]
    return Chapter(section.id, section.title, tuple(table.without_empty_columns().markdown() for table in tables))


def _setting(setting: Setting) -> Shown:
    strategies = {cell.strategy for cell in setting.everyone}
    by = "strategy" if len(strategies) == len(setting.everyone) else "cell"
    return _shown(
        setting.title, setting.everyone, projection.HUMAN_LABELS if setting.has_free_labels else projection.LABELS, by
    )


def _family(family: Family) -> Shown:
    return _shown(family.title, family.everyone, projection.LABELS, "cell")


def _shown(title: str, cells: Sequence[Cell], x: str, by: str) -> Shown:
    names = logged_names(run for cell in cells for run in cell.runs)
    return Shown(title, tuple(cell.name for cell in cells), x, by, names)


# The report


def build_report(entity: str, project: str, content: Content, *, online: bool = True):
    """The report as an object of wandb-workspaces; with `online=False` no server is asked for anything."""
    import wandb_workspaces.reports.v2 as wr

    where = {"entity": entity, "project": project} if online else {}
    blocks: list = [wr.TableOfContents()]
    if content.answers:
        blocks += [wr.H1("In short"), wr.MarkdownBlock(content.answers)]
    if not content.chapters:
        blocks += [wr.P("No run is complete yet; run a sweep, then make this report again.")]
    for chapter in content.chapters:
        blocks += _chapter_blocks(chapter, content, where)
    return wr.Report(entity=entity, project=project, title=TITLE, description=DESCRIPTION, blocks=blocks, width="fluid")


def _chapter_blocks(chapter: Chapter, content: Content, where: dict[str, str]) -> list:
    """Its panels, of every setting or of every family, and its tables; nothing where there are none."""
    import wandb_workspaces.reports.v2 as wr

    blocks: list = []
    for shown in content.settings if chapter.id in OF_ONE_SETTING else content.families:
        if panels := panels_of(chapter.id, shown):
            runs = wr.Runset(name=shown.title, filters=_only(shown.cells), **where)
            blocks += [wr.H2(shown.title), wr.PanelGrid(runsets=[runs], panels=panels)]
    blocks += [wr.MarkdownBlock(table) for table in chapter.tables]
    return [wr.H1(chapter.title), *blocks] if blocks else []


def _only(cells: Sequence[str]) -> str:
    return f"Config('cell') in {list(cells)}"


def save_report(entity: str, project: str, content: Content, api: Any = None) -> str:
    """Creates the report, or replaces the content of the one with its title; returns its address."""
    import wandb
    import wandb_workspaces.reports.v2 as wr

    report = build_report(entity, project, content)
    found = _existing_report(api or wandb.Api(), entity, project)
    if found is not None:
        known = wr.Report.from_url(found.url)
        known.blocks, known.description, known.width = report.blocks, report.description, report.width
        report = known
    report.save()
    return report.url


def _existing_report(api: Any, entity: str, project: str) -> Any:
    """The report of ours in the project, if there is one; a project that does not exist yet has none."""
    import wandb

    try:
        return next((report for report in api.reports(f"{entity}/{project}") if report.display_name == TITLE), None)
    except (ValueError, wandb.errors.CommError):
        return None


# The workspace view


def build_view(entity: str, project: str, content: Content):
    """A saved workspace view for the day's work: the page's sections, of the runs in progress too."""
    import wandb_workspaces.workspaces as ws

    found = [(chapter.title, panels_of(chapter.id, content.everything)) for chapter in content.chapters]
    shown = [
        ws.Section(name=title, panels=panels, is_open=number == 0)
        for number, (title, panels) in enumerate((title, panels) for title, panels in found if panels)
    ]
    return ws.Workspace(entity=entity, project=project, name=VIEW_NAME, sections=shown)


def save_view(entity: str, project: str, content: Content) -> str:
    """Creates the view, or replaces the one of the same name; returns its address."""
    import wandb_workspaces.workspaces as ws

    view = build_view(entity, project, content)
    view._internal_name = f"nw-{VIEW}-v"
    with suppress(ValueError):  # there is none yet
        view._internal_id = ws.Workspace.from_url(f"https://wandb.ai/{entity}/{project}?nw={VIEW}")._internal_id
    view.save()
    return view.url


def write_json(out: Path, entity: str, project: str, content: Content) -> list[Path]:
    """Writes the report's and the view's JSON, as they would be sent, under `out`."""
    out.mkdir(parents=True, exist_ok=True)
    report = build_report(entity, project, content, online=False)._to_model().spec
    view = build_view(entity, project, content)._to_model().spec
    written = []
    for name, model in (("dashboard.json", report), ("workspace.json", view)):
        sent = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
        path = out / name
        temporary = path.with_name(f".{name}.part")
        temporary.write_text(json.dumps(sent, indent=1))
        temporary.replace(path)
        written.append(path)
    return written


if __name__ == "__main__":
    sys.exit(main())
