"""What the runs of one setting say: accuracy, labels needed, shares saved, time; each with its uncertainty."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sweeps.report.cells import Cell, Family, Setting, paired
from sweeps.report.curves import labels_to_reach, learning_curve
from sweeps.report.load import Run
from sweeps.report.statistics import (
    NAN,
    Interval,
    Test,
    area,
    first_reach,
    holm,
    mean_interval,
    paired_test,
    ratio_interval,
)


def accuracy(run: Run) -> float:
    """Test accuracy of the best epoch, in percent."""
    return float(run.test["accuracy"])


def optional(name: str):
    """A test metric that some runs may lack, as a function of a run; NaN where it is missing."""
    return lambda run: float(value) if (value := run.test.get(name)) is not None else NAN


def worst_class(run: Run) -> float:
    """Recall of the class that does worst, in percent; NaN without per-class metrics."""
    classes = run.test.get("per_class") or {}
    return min((100 * float(metrics["recall"]) for metrics in classes.values()), default=NAN)


def known_interval(cell: Cell, value) -> Interval | None:
    """Mean and interval over the seeds, or None where a seed lacks the value."""
    values = cell.values(value)
    return None if np.isnan(values).any() else mean_interval(values)


@dataclass(frozen=True)
class Saving:
    """Percent of labels saved against something."""

    interval: Interval
    at_least: bool
    """The other never reached the target in some seed: its whole budget is counted, the true saving is larger."""


@dataclass(frozen=True)
class Need:
    """Human labels that one strategy needs to reach the target, by split seed; infinity where it never does."""

    cell: Cell
    labels: Mapping[int, float]

    @property
    def reached(self) -> int:
        return sum(np.isfinite(value) for value in self.labels.values())

    @property
    def always(self) -> bool:
        return bool(self.labels) and self.reached == len(self.labels)

    @property
    def interval(self) -> Interval | None:
        return mean_interval(list(self.labels.values())) if self.always else None


@dataclass(frozen=True)
class Analysis:
    """One setting, analysed."""

    setting: Setting
    target: str
    """What had to be reached, in words; empty where nothing could be compared."""
    targets: Mapping[int, float]
    """Percent, by split seed."""
    needs: tuple[Need, ...]
    """By strategy, fewest labels first; those that fail in some seed come last."""
    stratified: Mapping[int, float]
    """Labels that stratified sampling needs for the target, by split seed; empty where unknown."""

    def need(self, strategy: str) -> Need | None:
        return next((need for need in self.needs if need.cell.strategy == strategy), None)

    def saved_against_stratified(self, need: Need) -> Saving | None:
        return _saving(need.labels, self.stratified, {})

    def saved_against_random(self, need: Need) -> Saving | None:
        other = self.need("random")
        if other is None or other is need:
            return None
        budgets = {seed: float(other.cell.by_seed[seed].human_labels) for seed in other.labels}
        return _saving(need.labels, other.labels, budgets)

    def against(self, best: Need) -> list[tuple[Need, Test, float]]:
        """Every other strategy: paired test of the labels needed (best - other), and Holm's p value."""
        tests = []
        for other in self.needs:
            seeds = [seed for seed in best.labels if seed in other.labels]
            a = [best.labels[seed] for seed in seeds]
            b = [other.labels[seed] for seed in seeds]
            if other is not best and seeds and np.isfinite(a).all() and np.isfinite(b).all():
                tests.append((other, paired_test(a, b)))
        adjusted = holm([test.p for _, test in tests])
        return [(other, test, p) for (other, test), p in zip(tests, adjusted)]


def _saving(mine: Mapping[int, float], other: Mapping[int, float], budgets: Mapping[int, float]) -> Saving | None:
    seeds = [seed for seed in mine if seed in other and np.isfinite(mine[seed])]
    if not seeds or len(seeds) < len(mine):
        return None
    theirs = [other[seed] if np.isfinite(other[seed]) else budgets.get(seed, NAN) for seed in seeds]
    if np.isnan(theirs).any():
        return None
    shares = [100 * (1 - mine[seed] / their) for seed, their in zip(seeds, theirs)]
    return Saving(mean_interval(shares), any(not np.isfinite(other[seed]) for seed in seeds))


def analyse(setting: Setting, family: Family, target: float | None = None) -> Analysis:
    """Labels needed by every strategy of a setting.

    The target is `target` percent; else, by split seed, what the stratified baseline reached with the whole variant;
    else what random sampling reached with the whole budget; else the lowest final accuracy among the strategies.
    """
    words, targets, stratified = _targets(setting, family, target)
    needs = [
        Need(cell, {run.seed: _needed(run, targets[run.seed]) for run in cell.runs if run.seed in targets})
        for cell in setting.cells
    ]
    needs = [need for need in needs if need.labels]
    ranked = sorted(needs, key=lambda need: (not need.always, _order(need, needs)))
    return Analysis(setting, words, targets, tuple(ranked), stratified)


def _order(need: Need, needs: list[Need]) -> float:
    """Mean over the seeds that all strategies have, so that nobody is ahead by an easy split."""
    shared = set.intersection(*(set(other.labels) for other in needs)) or set(need.labels)
    return float(np.mean([need.labels[seed] for seed in shared]))


def _needed(run: Run, target: float) -> float:
    if run.config.stop == "baseline":
        # The run itself compared accuracy and loss with its baseline's and stopped there.
        return float(run.human_labels) if run.metrics.get("reached_baseline") else float("inf")
    return labels_to_reach(run, target)


def _targets(setting: Setting, family: Family, target: float | None):
    seeds = {run.seed for cell in setting.cells for run in cell.runs}
    if target is not None and setting.config.stop != "baseline":
        return f"{target:g} %", dict.fromkeys(seeds, target), stratified_needs(setting, family, seeds, target)
    if setting.baseline:
        runs = setting.baseline.by_seed
        return (
            "what stratified sampling reached with the whole variant",
            {seed: accuracy(run) for seed, run in runs.items() if seed in seeds},
            {seed: float(run.human_labels) for seed, run in runs.items() if seed in seeds},
        )
    if setting.config.stop == "baseline":
        return "", {}, {}
    random = setting.cell("random")
    if random:
        reached = {run.seed: accuracy(run) for run in random.runs}
        return "what random sampling reached with the whole budget", reached, {}
    if len(setting.cells) < 2:
        return "", {}, {}
    lowest = min(float(cell.values(accuracy).mean()) for cell in setting.cells)
    return f"the lowest final accuracy here, {lowest:.1f} %", dict.fromkeys(seeds, lowest), {}


def stratified_needs(setting: Setting, family: Family, seeds: set[int], target: float) -> dict[int, float]:
    """Labels at which the baselines of growing balanced variants reach `target`, by split seed."""
    cells = [
        cell
        for cell in family.baselines
        if cell.config.shares.balanced and cell.config.class_weights == setting.config.class_weights
    ]
    needs = {}
    for seed in seeds:
        runs = [cell.by_seed[seed] for cell in cells if seed in cell.by_seed]
        points = sorted((run.labels, accuracy(run)) for run in runs)
        if len(points) >= 2 and points[0][1] <= target:
            needs[seed] = first_reach(*np.array(points).T, target)
    return {seed: value for seed, value in needs.items() if np.isfinite(value)}


def time_ratio(cell: Cell, other: Cell | None) -> Interval | None:
    """Training time of `cell` over that of `other`, seeds paired; None where machines or seeds differ."""
    if other is None or cell is other or len(cell.machines | other.machines) != 1:
        return None
    a, b = paired(cell, other, lambda run: run.seconds)
    return ratio_interval(a, b) if len(a) and (b > 0).all() and (a > 0).all() else None


def curve_areas(setting: Setting) -> dict[str, Interval]:
    """Mean test accuracy along the learning curve, over the label counts that all runs of the setting span."""
    curves = {cell.label: [learning_curve(run) for run in cell.runs] for cell in setting.cells}
    every = [curve for group in curves.values() for curve in group if len(curve.labels) > 1]
    if not every:
        return {}
    low, high = max(curve.labels[0] for curve in every), min(curve.labels[-1] for curve in every)
    areas = {
        label: [area(curve.labels, curve.accuracy, low, high) for curve in group] for label, group in curves.items()
    }
    return {label: mean_interval(values) for label, values in areas.items() if not np.isnan(values).any()}


def compare_accuracy(setting: Setting, value=accuracy) -> dict[str, tuple[Test, float]]:
    """Every strategy against the baseline by cell label: paired test of the final value, and Holm's p value."""
    if setting.baseline is None:
        return {}
    tests = {}
    for cell in setting.cells:
        a, b = paired(cell, setting.baseline, value)
        if len(a) and not np.isnan([*a, *b]).any():
            tests[cell.label] = paired_test(a, b)
    adjusted = holm([test.p for test in tests.values()])
    return {label: (test, p) for (label, test), p in zip(tests.items(), adjusted)}


def class_recalls(cell: Cell) -> dict[str, float]:
    """Percent of each class's test images that are recognised, mean over seeds; empty where it is not recorded.

    A class's one-against-rest accuracy would not do: it is 90 % for a class of ten that is never found.
    """
    groups = [run.test.get("per_class") or {} for run in cell.runs]
    return {
        name: 100 * float(np.mean([group[name]["recall"] for group in groups]))
        for name in groups[0]
        if all(name in group for group in groups)
    }
