"""Figures 1 to 5 of the study: grouped bars of one's own runs, the published means beside them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from sweeps.report.analysis import accuracies, accuracy
from sweeps.report.cells import BASELINE, Cell, Family, Setting
from sweeps.report.comparisons import Estimate
from sweeps.report.curve_figures import whiskers
from sweeps.report.load import Run
from sweeps.report.picture import Picture, bound, legend_below, save_all
from sweeps.report.statistics import Interval, mean_interval
from sweeps.report.style import Look, drawing, looks
from sweeps.study.published import published


class Bar(NamedTuple):
    """One bar: own interval, and the published mean beside it."""

    group: str
    series: str
    interval: Interval | Estimate
    published: float | None


def bar_pictures(family: Family) -> list[Picture]:
    """Figures 1 to 5 of the study, those for which there are runs."""
    balanced = [
        s for s in family.find(balanced=True, init="stratified", class_weights=False) if s.config.stop == "budget"
    ]
    made = [
        _bars(family, "figure1_accuracy", "Figure 1. Test accuracy by label budget", balanced, ACCURACY),
        _bars(family, "figure2_time", "Figure 2. Training time by label budget", balanced, SECONDS),
        _labels_used(family),
    ]
    clip = family.find(balanced=True, init="clip", class_weights=False)
    pairs = [s for s in balanced if s.config.variant in {c.config.variant for c in clip}] + clip
    if clip:
        made.append(
            _clip_bars(
                "figure4_clip_accuracy", "Figure 4. Test accuracy with true and with CLIP labels", pairs, ACCURACY
            )
        )
        made.append(
            _clip_bars("figure5_clip_time", "Figure 5. Training time with true and with CLIP labels", pairs, SECONDS)
        )
    return [picture for picture in made if picture]


class Measure(NamedTuple):
    unit: str
    column: str
    value: Callable[[Run], float]
    log: bool


ACCURACY = Measure("test accuracy (%)", "test_accuracy_mean", accuracy, False)
SECONDS = Measure("training time (s)", "training_time_s", lambda run: run.result.training_time_seconds, True)
LABELS = Measure("labels used", "labels_used", lambda run: float(run.human_labels), False)


def _bar(cell: Cell, group: str, series: str, measure: Measure) -> Bar:
    paper = published(cell.runs[0])
    theirs = paper[measure.column] if paper else None
    interval = accuracies(cell) if measure is ACCURACY else mean_interval(cell.values(measure.value))
    return Bar(group, series, interval, theirs)


def _bars(family: Family, name: str, title: str, settings: Sequence[Setting], measure: Measure) -> Picture | None:
    alone = [cell for cell in family.baselines if cell.config.shares.balanced and not cell.config.class_weights]
    cells = alone + [cell for setting in settings for cell in setting.cells]
    bars = [_bar(cell, _budget(cell), cell.label, measure) for cell in cells]
    bars.sort(key=lambda bar: float(bar.group.split()[0]))
    return _bar_picture(name, title, measure, bars, "share of the training set that may be labelled")


def _budget(cell: Cell) -> str:
    return f"{cell.config.shares.majority:g} %"


def _labels_used(family: Family) -> Picture | None:
    settings = [s for s in family.find(balanced=False, stop="baseline") if s.baseline]
    bars = []
    for setting in settings:
        config = setting.config
        group = f"{config.shares.majority:g} : {config.shares.minority:g}" + (
            "\nweighted" if config.class_weights else ""
        )
        bars += [_bar(cell, group, cell.label, LABELS) for cell in setting.everyone]
    title = "Figure 3. Labels used to beat the baseline"
    return _bar_picture("figure3_labels_used", title, LABELS, bars, "percent of majority : minority classes")


def _clip_bars(name: str, title: str, settings: Sequence[Setting], measure: Measure) -> Picture | None:
    bars = []
    for setting in settings:
        start = "CLIP" if setting.config.init == "clip" else "true"
        bars += [_bar(cell, f"{_budget(cell)}\n{start} labels", cell.label, measure) for cell in setting.cells]
    bars.sort(key=lambda bar: (float(bar.group.split()[0]), "CLIP" in bar.group))
    return _bar_picture(name, title, measure, bars, "budget and first labels")


def _bar_picture(name: str, title: str, measure: Measure, bars: list[Bar], xlabel: str) -> Picture | None:
    if not bars:
        return None
    told = "; the published values as diamonds" if any(bar.published is not None for bar in bars) else ""
    values = ", ".join(f"{bar.group.replace(chr(10), ' ')} {bar.series} {bar.interval.mean:.1f}" for bar in bars)
    alt = f"{title}: grouped bars by strategy with 95 % intervals{told}. {values}"
    return Picture(name, title, alt, bound(_draw_bars, title, measure, bars, xlabel))


def _draw_bars(title: str, measure: Measure, bars: list[Bar], xlabel: str, paths: Sequence[Path]) -> None:
    groups, series = (list(dict.fromkeys(getattr(bar, name) for bar in bars)) for name in ("group", "series"))
    order = {BASELINE: -1}
    series.sort(key=lambda label: order.get(label, 0))
    look = looks(series)
    width = 0.8 / len(series)
    with drawing(max(6.5, 1.5 + 0.28 * len(groups) * (len(series) + 1)), 4.8) as (figure, axes):
        ax = axes[0, 0]
        for number, group in enumerate(groups):
            mine = sorted((bar for bar in bars if bar.group == group), key=lambda bar: series.index(bar.series))
            for place, bar in enumerate(mine):
                _draw_bar(ax, bar, number + (place - (len(mine) - 1) / 2) * width, width, look[bar.series])
        ax.set_xticks(range(len(groups)), groups)
        ax.grid(axis="x", visible=False)
        ax.set(title=title, ylabel=measure.unit + (", log scale" if measure.log else ""), xlabel=xlabel)
        seen = [bar.interval.mean for bar in bars] + [bar.published for bar in bars if bar.published is not None]
        if measure.log:
            _log_scale(ax, min(seen), max(seen))
        else:
            ax.set_ylim(0, 1.12 * max(seen))
            ax.yaxis.set_major_formatter("{x:,g}")
        legend_below(figure, ax, last="published")
        save_all(figure, paths)


def _draw_bar(ax, bar: Bar, x: float, width: float, look: Look) -> None:
    interval = bar.interval
    style = {"color": look.colour, "hatch": look.hatch, "edgecolor": "white", "linewidth": 0.5}
    ax.bar(
        x, interval.mean, width * 0.92, label=bar.series, yerr=whiskers(interval), capsize=2, ecolor="#222222", **style
    )
    if bar.published is not None:
        style = {"marker": "D", "color": "white", "markeredgecolor": "black", "markersize": 5, "linestyle": "none"}
        ax.plot([x], [bar.published], label="published", zorder=6, **style)


def _log_scale(ax, lowest: float, highest: float) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    ax.set_yscale("log")
    ax.set_ylim(max(lowest, 1e-3) / 2, highest * 1.6)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
