"""Learning curves: every metric, and the recall of every class, by labels, human labels and seconds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from al.records import METRICS, EpochRecord
from al.records import learning_curve as curve_points
from sweeps.report.analysis import Analysis, in_test_set
from sweeps.report.cells import Cell
from sweeps.report.comparisons import accuracy_interval
from sweeps.report.curves import learning_curve
from sweeps.report.load import Run
from sweeps.report.statistics import mean_interval

MOST_CLASS_NUMBERS = 60_000
"""Recalls of classes that a setting may add to the page; beyond, the table of recalls has the last ones."""


@dataclass(frozen=True)
class Measure:
    """What the y axis can show."""

    name: str
    title: str
    group: str


@dataclass(frozen=True)
class Line:
    """One run, or the mean of a strategy's runs: [K] points by labels."""

    seed: int | None
    """None: the mean."""
    labels: NDArray[np.float64]
    human: NDArray[np.float64]
    """Labels given by people."""
    seconds: NDArray[np.float64]
    values: dict[str, list[float]]
    """[K] by measure."""
    low: dict[str, list[float]]
    """[K] ends of the 95 % interval by measure; empty for a single run, and below three seeds."""
    high: dict[str, list[float]]


@dataclass(frozen=True)
class Curves:
    """All the lines of a setting, by strategy: the mean first, then one a seed."""

    measures: tuple[Measure, ...]
    lines: dict[str, tuple[Line, ...]]
    baseline: str | None
    """The strategy that is one point: everything labelled at once."""


def curves(analysis: Analysis) -> Curves:
    """The learning curves of a setting, and its baseline's point."""
    setting = analysis.setting
    measures = (*OVERALL, *_class_measures(setting.everyone))
    lines = {cell.label: (_mean(cell, measures), *_runs(cell, measures)) for cell in setting.everyone}
    return Curves(measures, lines, setting.baseline.label if setting.baseline else None)


OVERALL = tuple(
    Measure(name, f"Test {_title[0].lower()}{_title[1:]}", "all classes")
    for name, _title in ((metric.name, metric.title) for metric in METRICS.values())
)


def _class_measures(cells: tuple[Cell, ...]) -> tuple[Measure, ...]:
    runs = [run for cell in cells for run in cell.runs]
    classes = runs[0].data.classes
    classes = [name for name in classes if all(in_test_set(run.per_class.get(name, {})) for run in runs)]
    numbers = len(classes) * sum(len(curve_points(run.epochs)) for run in runs)
    if numbers > MOST_CLASS_NUMBERS or not all(name in run.epochs[-1].per_class for run in runs for name in classes):
        return ()
    return tuple(Measure(f"recall/{name}", f"Recall of {name} (%)", "one class") for name in classes)


def _runs(cell: Cell, measures: tuple[Measure, ...]) -> tuple[Line, ...]:
    return tuple(_run(run, measures) for run in cell.runs)


def _run(run: Run, measures: tuple[Measure, ...]) -> Line:
    curve, points = learning_curve(run), curve_points(run.epochs)
    values = {measure.name: [_value(point, measure) for point in points] for measure in measures}
    return Line(run.seed, curve.labels, curve.human_labels, curve.seconds, values, {}, {})


def _value(point: EpochRecord, measure: Measure) -> float:
    """Of an epoch; recalls in percent."""
    kind, _, name = measure.name.partition("/")
    if name:
        return 100 * point.per_class[name]["recall"] if name in point.per_class else np.nan
    return point.test.get(kind, np.nan)


def _mean(cell: Cell, measures: tuple[Measure, ...]) -> Line:
    """At the label counts that every seed reached."""
    runs = _runs(cell, measures)
    shared = sorted(set.intersection(*(set(line.labels.tolist()) for line in runs)))
    at = [[line.labels.tolist().index(count) for count in shared] for line in runs]
    mean = {}
    for axis in ("labels", "human", "seconds"):
        mean[axis] = np.array([getattr(line, axis)[rows] for line, rows in zip(runs, at)]).mean(axis=0)
    values, low, high = {}, {}, {}
    for measure in measures:
        table = np.array([np.array(line.values[measure.name])[rows] for line, rows in zip(runs, at)])  # [seeds, K]
        values[measure.name] = table.mean(axis=0).tolist()
        if measure in OVERALL and len(runs) > 1:
            low[measure.name], high[measure.name] = _intervals(table, measure)
    return Line(None, **mean, values=values, low=low, high=high)


def _intervals(table: NDArray[np.float64], measure: Measure) -> tuple[list[float], list[float]]:
    """Ends of the interval of each column [seeds, K]: within its range for percentages and shares, by t for a loss."""
    scale = 1 if "%" in measure.title else 100
    found = []
    for column in table.T:
        if np.isnan(column).any():
            found.append((np.nan, np.nan))
        elif "nats" in measure.title:
            found.append(mean_interval(column)[1:3])
        else:
            _, low, high, *_ = accuracy_interval(scale * column)
            found.append((low / scale, high / scale))
    low, high = zip(*found) if found else ((), ())
    return list(low), list(high)
