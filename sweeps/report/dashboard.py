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

from al.errors import UserError

TITLE = "Active learning: strategies, labels and compute"
VIEW, VIEW_NAME = "activelearning", "Active learning"
IMBALANCED = ("imbalanced_50_1", "imbalanced_10_1", "imbalanced_3_1")
WEIGHTS = (("without class weights", False), ("with class weights", True))


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 where something must be put right first."""
    options = _parser().parse_args(arguments)
    try:
        return _dashboard(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sweeps.report.dashboard", description=__doc__)
    parser.add_argument("--entity", default=os.environ.get("WANDB_ENTITY"), help="W&B user or team ($WANDB_ENTITY)")
    parser.add_argument(
        "--project", default=os.environ.get("WANDB_PROJECT", "active-learning"), help="W&B project ($WANDB_PROJECT)"
    )
    parser.add_argument(
        "--results-dir", default="results", help="runs whose tables go into the report, if there are any"
    )
    parser.add_argument("--dry-run", action="store_true", help="write the JSON to --out and send nothing")
    parser.add_argument("--out", help="folder for the JSON (default: RESULTS_DIR/report)")
    return parser


def _dashboard(options: argparse.Namespace) -> int:
    _need_package()
    local = local_results(options.results_dir)
    if options.dry_run:
        out = Path(options.out) if options.out else Path(options.results_dir) / "report"
        for path in write_json(out, options.entity or "entity", options.project, local):
            print(f"Written: {path}")
        return 0
    entity = options.entity or _default_entity()
    try:
        report = save_report(entity, options.project, local)
        view = save_view(entity, options.project)
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


class Local(NamedTuple):
    """What local results add to the report."""

    answers: str
    tables: tuple[str, ...]
    balanced: tuple[tuple[str, str], ...]
    """(data set, variant) pairs to compare strategies on."""


NOTHING = Local("", (), tuple(("cifar10", f"balanced_{percent}") for percent in (10, 5, 3, 1)))


def local_results(results_dir: str | Path) -> Local:
    """Short answers and main tables from the runs in a folder as Markdown; the study's variants where it has none."""
    from sweeps.report import tables
    from sweeps.report.analysis import analyse
    from sweeps.report.cells import organise
    from sweeps.report.decision import decide
    from sweeps.report.load import load_results
    from sweeps.study.claims import claims
    from sweeps.study.published import own_zero_shot

    families = organise(load_results(results_dir)) if Path(results_dir).is_dir() else []
    analyses = [analyse(setting, family) for family in families for setting in family.settings]
    if not analyses:
        return NOTHING
    zero_shot = own_zero_shot(results_dir)
    found = [tables.needs_table(analyses)]
    found += [tables.claims_table(claims(family, zero_shot)) for family in families]
    found += [tables.results_table(family) for family in families]
    answers = "\n".join(
        f"- **{tables.escaped(d.setting)}**: {tables.escaped(d.headline)}" for d in map(decide, analyses)
    )
    configs = [analysis.setting.config for analysis in analyses]
    balanced = dict.fromkeys((config.dataset, config.variant) for config in configs if config.shares.balanced)
    pairs = tuple(dict.fromkeys([*balanced, *NOTHING.balanced]))
    return Local(answers, tuple(table.markdown() for table in found if table.rows), pairs)


# Panels


def curve_panels(x: str, by: str) -> list:
    """Learning curves and per-class metrics, averaged over the runs of a run set that share the parameter `by`."""
    import wandb_workspaces.reports.v2 as wr

    from al.tracking import wandb as tracking

    panels = [
        _curve("Test accuracy (%)", tracking.CURVE_ACCURACY, x, by),
        _curve("Macro F1", tracking.CURVE_F1, x, by),
        wr.LinePlot(title="F1 by class", x=x, metric_regex="class/.*/f1", **_grouped(by)),
        wr.LinePlot(title="Labels by class", x=x, metric_regex="labels_by_class/.*", **_grouped(by)),
    ]
    return _placed(panels)


def end_panels() -> list:
    """What each configuration ended with and what it cost."""
    import wandb_workspaces.reports.v2 as wr

    from al.tracking import wandb as tracking

    seconds, accuracy = wr.SummaryMetric("training_time_seconds"), wr.SummaryMetric(tracking.TEST_ACCURACY)
    panels = [
        _bars("Test accuracy of the best epoch (%)", tracking.TEST_ACCURACY),
        _bars("Labels used", "labels_used"),
        _bars("Human labels used", "human_labels_used"),
        _bars("Training time (s)", "training_time_seconds"),
        wr.ScatterPlot(title="Accuracy against time, one point a run", x=seconds, y=accuracy),
        _curve("Test loss by epoch", tracking.TEST_LOSS, tracking.EPOCH, "cell"),
    ]
    return _placed(panels)


def time_panels() -> list:
    """Seconds of each phase by epoch."""
    from al.tracking import wandb as tracking

    return _placed(
        [_curve(f"Seconds: {phase}", f"seconds/{phase}", tracking.EPOCH, "cell") for phase in tracking.PHASES]
    )


def pick_panels() -> list:
    """The picture sheets of the picks and what the strategies say of them."""
    import wandb_workspaces.reports.v2 as wr

    from al.tracking import wandb as tracking

    sheets = wr.MediaBrowser(title="What was picked", media_keys=[tracking.PICK_SHEET], num_columns=4)
    names = {"mean_score": "Mean score of the picks", "class_entropy": "Entropy of the picks' classes"}
    return _placed([sheets, *(_curve(title, f"pick/{name}", tracking.LABELS, "cell") for name, title in names.items())])


def _grouped(by: str) -> dict[str, Any]:
    """`by="strategy"` is right only where a run set holds one variant; `cell` keeps every configuration apart."""
    import wandb_workspaces.reports.v2 as wr

    return {"groupby": wr.Config(by), "groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}


def _curve(title: str, metric: str, x: str, by: str):
    import wandb_workspaces.reports.v2 as wr

    return wr.LinePlot(title=title, x=x, y=[metric], max_runs_to_show=300, **_grouped(by))


def _bars(title: str, metric: str):
    import wandb_workspaces.reports.v2 as wr

    metrics = [wr.SummaryMetric(metric)]
    return wr.BarPlot(title=title, metrics=metrics, orientation="v", max_runs_to_show=300, **_grouped("cell"))


def _placed(panels: Sequence) -> list:
    """Two panels a row."""
    import wandb_workspaces.reports.v2 as wr

    for number, panel in enumerate(panels):
        panel.layout = wr.Layout(x=12 * (number % 2), y=7 * (number // 2), w=12, h=7)
    return list(panels)


# The report


class Experiment(NamedTuple):
    """A section of the report."""

    title: str
    text: str
    x: str
    """Metric on the x axis of the learning curves."""
    filters: str
    comparisons: list[tuple[str, list[tuple[str, str]]]]
    """Heading, and run sets as (name, filters), each of one variant."""


def build_report(entity: str, project: str, local: Local = NOTHING, *, online: bool = True):
    """The report as an object of wandb-workspaces; with `online=False` no server is asked for anything."""
    import wandb_workspaces.reports.v2 as wr

    where = {"entity": entity, "project": project} if online else {}
    blocks: list = [wr.TableOfContents()]
    if local.answers:
        blocks += [wr.H1("In short"), wr.MarkdownBlock(local.answers)]
    for experiment in experiments(local.balanced):
        blocks += _experiment_blocks(experiment, where)
    everything = [wr.Runset(name="all runs", **where)]
    blocks += [wr.H1("Time"), wr.PanelGrid(runsets=everything, panels=time_panels())]
    blocks += [wr.H1("Picks"), wr.PanelGrid(runsets=everything, panels=pick_panels())]
    if local.tables:
        blocks += [wr.H1("Tables"), *(wr.MarkdownBlock(table) for table in local.tables)]
    description = "Learning curves, label counts, per-class metrics and time of the three experiments."
    return wr.Report(entity=entity, project=project, title=TITLE, description=description, blocks=blocks, width="fluid")


def _experiment_blocks(experiment: Experiment, where: dict[str, str]) -> list:
    import wandb_workspaces.reports.v2 as wr

    blocks: list = [wr.H1(experiment.title), wr.P(experiment.text)]
    for name, runsets in experiment.comparisons:
        sets = [wr.Runset(name=title, filters=filters, **where) for title, filters in runsets]
        blocks += [wr.H2(name), wr.PanelGrid(runsets=sets, panels=curve_panels(experiment.x, "strategy"))]
    whole = wr.Runset(name=experiment.title, filters=experiment.filters, **where)
    return [*blocks, wr.H2("All its configurations"), wr.PanelGrid(runsets=[whole], panels=end_panels())]


def experiments(balanced: Sequence[tuple[str, str]]) -> list[Experiment]:
    """The three experiments; `balanced` are the (data set, variant) pairs of the first one."""
    from al.tracking import wandb as tracking

    uneven = f"Config('variant') in {list(IMBALANCED)}"
    true, clip = "Config('init') == 'stratified'", "Config('init') == 'clip'"
    first = [(f"{data} {variant}", [(variant, f"{_one(data, variant)} and {true}")]) for data, variant in balanced]
    second = [
        (variant, [(name, f"{_one('cifar10', variant)} and Config('class_weights') == {on}") for name, on in WEIGHTS])
        for variant in IMBALANCED
    ]
    third = [
        (
            variant,
            [(name, f"{_one('cifar10', variant)} and {start}") for name, start in (("CLIP", clip), ("true", true))],
        )
        for variant in ("balanced_10", "balanced_3")
    ]
    return [
        Experiment(
            "Experiment 1: balanced data",
            "Strategies and stratified sampling at equal label budgets.",
            tracking.LABELS,
            f"Config('variant') not in {list(IMBALANCED)} and {true}",
            first,
        ),
        Experiment(
            "Experiment 2: imbalanced data",
            "Labels that a strategy needs to beat the baseline of the same split seed, with and without class weights.",
            tracking.LABELS,
            uneven,
            second,
        ),
        Experiment(
            "Experiment 3: CLIP's labels first",
            "Starts from zero-shot and from true labels, by the labels that people gave.",
            tracking.HUMAN_LABELS,
            clip,
            third,
        ),
    ]


def _one(dataset: str, variant: str) -> str:
    return f"Config('dataset') == '{dataset}' and Config('variant') == '{variant}'"


def save_report(entity: str, project: str, local: Local = NOTHING, api: Any = None) -> str:
    """Creates the report, or replaces the content of the one with its title; returns its address."""
    import wandb
    import wandb_workspaces.reports.v2 as wr

    report = build_report(entity, project, local)
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


def build_view(entity: str, project: str):
    """A saved workspace view for the day's work: curves by labels, the runs in progress, time, picks."""
    import wandb_workspaces.workspaces as ws

    from al.tracking import wandb as tracking

    sections = [
        ws.Section(name="Learning curves", panels=curve_panels(tracking.LABELS, "cell"), is_open=True),
        ws.Section(name="At the end", panels=end_panels()),
        ws.Section(name="Time", panels=time_panels()),
        ws.Section(name="Picks", panels=pick_panels()),
    ]
    return ws.Workspace(entity=entity, project=project, name=VIEW_NAME, sections=sections)


def save_view(entity: str, project: str) -> str:
    """Creates the view, or replaces the one of the same name; returns its address."""
    import wandb_workspaces.workspaces as ws

    view = build_view(entity, project)
    view._internal_name = f"nw-{VIEW}-v"
    with suppress(ValueError):  # there is none yet
        view._internal_id = ws.Workspace.from_url(f"https://wandb.ai/{entity}/{project}?nw={VIEW}")._internal_id
    view.save()
    return view.url


def write_json(out: Path, entity: str, project: str, local: Local = NOTHING) -> list[Path]:
    """Writes the report's and the view's JSON, as they would be sent, under `out`."""
    out.mkdir(parents=True, exist_ok=True)
    report = build_report(entity, project, local, online=False)._to_model().spec
    view = build_view(entity, project)._to_model().spec
    written = []
    for name, model in (("dashboard.json", report), ("workspace.json", view)):
        content = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
        path = out / name
        temporary = path.with_name(f".{name}.part")
        temporary.write_text(json.dumps(content, indent=1))
        temporary.replace(path)
        written.append(path)
    return written


if __name__ == "__main__":
    sys.exit(main())
