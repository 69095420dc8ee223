"""Panels of the W&B report and of the workspace view: of each section of the page what W&B can draw itself.

Metrics are those of `METRICS`, and their names the tracking's own. What no run has logged gets no panel.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from al.records import CURVE_METRICS, METRICS, PHASES, SPLITS, PickStatistics
from al.tracking import projection
from sweeps.report.load import Run

MOST_RUNS = 300


@dataclass(frozen=True)
class Shown:
    """The runs that panels are drawn of."""

    title: str
    cells: tuple[str, ...]
    """Names of their configurations; empty: every run of the project."""
    x: str
    """Metric on the x axis of learning curves."""
    by: str
    """Parameter that tells the curves apart: `strategy` is right only where there is one variant."""
    logged: frozenset[str]
    """Names of everything that some of them have logged."""


def logged_names(runs: Iterable[Run]) -> frozenset[str]:
    """Every name that W&B has of these runs; a phase that never took any time is none."""
    names: set[str] = set()
    for run in runs:
        for epoch in run.epochs:
            row = projection.epoch_metrics(epoch)
            names |= {name for name, value in row.items() if value or not name.startswith("seconds/")}
        names |= projection.summary_of(run.result).keys() | projection.curve_summary(run.epochs).keys()
        if run.config.pictures and any(epoch.pick for epoch in run.epochs):
            names.add(projection.PICK_SHEET)
    return frozenset(names)


def panels_of(section: str, shown: Shown) -> list:
    """The panels of a section of the page, two a row; none where W&B can draw nothing of it."""
    import wandb_workspaces.reports.v2 as wr

    panels = list(PANELS[section](shown)) if section in PANELS else []
    for number, panel in enumerate(panels):
        panel.layout = wr.Layout(x=12 * (number % 2), y=7 * (number // 2), w=12, h=7)
    return panels


def _curves(shown: Shown) -> Iterator:
    for name in CURVE_METRICS:
        metric = METRICS[name]
        yield from _line(shown, f"Test {_small(metric.title)}", [f"curve/{metric.key}"], shown.x, shown.by)


def _needs(shown: Shown) -> Iterator:
    yield from _bars(shown, "Area under the learning curve (%)", projection.CURVE_AREA)
    for name in ("labels_used", "human_labels_used", "labels_to_target"):
        yield from _bars(shown, name.replace("_", " ").capitalize(), name)


def _metrics(shown: Shown) -> Iterator:
    for metric in METRICS.values():
        yield from _bars(shown, f"Test {_small(metric.title)}, best epoch", f"test/{metric.key}")


def _classes(shown: Shown) -> Iterator:
    for metric in projection.CLASS_METRICS:
        yield from _matching(shown, f"{metric.capitalize()} by class", f"class/.*/{metric}")
    yield from _matching(shown, "Labels by class", "labels_by_class/.*")


def _picks(shown: Shown) -> Iterator:
    import wandb_workspaces.reports.v2 as wr

    if projection.PICK_SHEET in shown.logged:
        yield wr.MediaBrowser(title="What was picked", media_keys=[projection.PICK_SHEET], num_columns=4)
    for name in PickStatistics.model_fields:
        title = f"Picks: {name.replace('_', ' ')}"
        yield from _line(shown, title, [f"pick/{name}"], projection.LABELS, "cell")


def _epochs(shown: Shown) -> Iterator:
    for metric in METRICS.values():
        names = [f"{split}/{metric.key}" for split in SPLITS]
        yield from _line(shown, f"{metric.title} by epoch", names, projection.EPOCH, "cell")


def _time(shown: Shown) -> Iterator:
    import wandb_workspaces.reports.v2 as wr

    seconds, accuracy = "training_time_seconds", projection.TEST_ACCURACY
    yield from _bars(shown, "Training time (s)", seconds)
    if {seconds, accuracy} <= shown.logged:
        title = "Accuracy against time, one point a run"
        yield wr.ScatterPlot(title=title, x=wr.SummaryMetric(seconds), y=wr.SummaryMetric(accuracy))
    for phase in PHASES:
        yield from _line(shown, f"Seconds: {phase}", [f"seconds/{phase}"], projection.EPOCH, "cell")


PANELS: dict[str, Callable[[Shown], Iterator]] = {
    "curves": _curves,
    "needs": _needs,
    "metrics": _metrics,
    "classes": _classes,
    "picks": _picks,
    "epochs": _epochs,
    "time": _time,
}
"""By the id of the page's section."""

OF_ONE_SETTING = {"curves", "classes"}
"""Sections whose panels average over strategies, and so are drawn of each setting by itself."""


def _small(title: str) -> str:
    return title[0].lower() + title[1:]


def _line(shown: Shown, title: str, names: Sequence[str], x: str, by: str) -> Iterator:
    import wandb_workspaces.reports.v2 as wr

    if found := [name for name in names if name in shown.logged]:
        yield wr.LinePlot(title=title, x=x, y=found, max_runs_to_show=MOST_RUNS, **_grouped(by))


def _matching(shown: Shown, title: str, pattern: str) -> Iterator:
    """A line for every metric whose name matches."""
    import wandb_workspaces.reports.v2 as wr

    if any(re.fullmatch(pattern, name) for name in shown.logged):
        yield wr.LinePlot(title=title, x=shown.x, metric_regex=pattern, **_grouped(shown.by))


def _bars(shown: Shown, title: str, name: str) -> Iterator:
    import wandb_workspaces.reports.v2 as wr

    if name in shown.logged:
        metrics = [wr.SummaryMetric(name)]
        yield wr.BarPlot(title=title, metrics=metrics, orientation="v", max_runs_to_show=MOST_RUNS, **_grouped("cell"))


def _grouped(by: str) -> dict[str, object]:
    """Averaged over the runs that share a parameter."""
    import wandb_workspaces.reports.v2 as wr

    return {"groupby": wr.Config(by), "groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}
