"""What the runs of one setting say: the verdict on its strategies, metrics at the end, time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweeps.report import label_savings
from sweeps.report.cells import CONDITIONS, Cell, Setting, conditions_of, paired
from sweeps.report.comparisons import MIN_SEEDS, Estimate, accuracy_interval
from sweeps.report.curves import learning_curve
from sweeps.report.inference import Evidence, Verdict, judge
from sweeps.report.label_savings import BASELINE as BASELINE_CURVE
from sweeps.report.label_savings import Bound, Saving, TargetKind, TargetResult
from sweeps.report.load import Run
from sweeps.report.pool_map import PoolMap
from sweeps.report.statistics import NAN, Interval, ratio_interval

CONTROL = "random"
"""The strategy that stands for not choosing."""


def accuracy(run: Run) -> float:
    """Test accuracy of the best epoch, in percent."""
    return run.test["accuracy"]


def optional(name: str) -> Callable[[Run], float]:
    """A test metric that some runs may lack, as a function of a run; NaN where it is missing."""
    return lambda run: run.test.get(name, NAN)


def worst_class(run: Run) -> float:
    """Recall of the class that does worst, in percent, of those with test images; NaN without per-class metrics."""
    return min((100 * scores["recall"] for scores in run.per_class.values() if in_test_set(scores)), default=NAN)


def in_test_set(scores: Mapping[str, float]) -> bool:
    """Whether the test set has images of a class; those of which it is not recorded count as there."""
    return scores.get("support", 1) > 0


def accuracies(cell: Cell, value: Callable[[Run], float] = accuracy) -> Estimate | None:
    """Mean of a percentage with an interval within [0, 100], or None where a seed lacks the value."""
    values = cell.values(value)
    return None if np.isnan(values).any() else accuracy_interval(values)


@dataclass(frozen=True)
class Analysis:
    """One setting and the verdict on it."""

    setting: Setting
    verdict: Verdict
    control: str | None
    """Label of random sampling's cell, where it was run."""
    pool_map: PoolMap | None = None
    """Of the setting's data, where it was made."""

    @property
    def best(self) -> Cell | None:
        """The strategy that leads, random sampling aside; the first where nothing is compared."""
        named = {cell.label: cell for cell in self.setting.cells}
        leads = [named[name] for name in self.verdict.estimates if name in named]
        choosing = [cell for cell in leads or self.setting.cells if cell.strategy != CONTROL]
        return next(iter(choosing or self.setting.cells), None)

    @property
    def main_target(self) -> TargetResult | None:
        """The target that a saving is told by, the same for all strategies of the setting.

        The user's; else the most that random sampling reaches in every seed, of the fractions looked at; else what
        the baseline reached. One that the first labels reach tells of no strategy.
        """
        told = [result for result in self.verdict.targets if not result.by_first_labels]
        for kind in (TargetKind.GIVEN, TargetKind.CONTROL, TargetKind.BASELINE):
            found = [result for result in told if result.target.kind is kind]
            reached = [result for result in found if self._control_reaches(result)]
            if found:
                return (reached or found)[-1]
        return None

    def cell(self, name: str) -> Cell | None:
        """What is compared under this name: a strategy by its label, or the baseline."""
        if name == BASELINE_CURVE:
            return self.setting.baseline
        return next((cell for cell in self.setting.cells if cell.label == name), None)

    def unlike(self, name: str) -> list[str]:
        """Conditions that a strategy and the reference share in no split seed; without one, those with another."""
        reference = self.verdict.reference
        names = [reference] if reference else [other for other in self.verdict.estimates if other != name]
        mine, others = self.cell(name), [cell for other in names if (cell := self.cell(other))]
        if mine is None or mine in others:
            return []
        return [field for field in CONDITIONS if any(_apart(mine, other, field) for other in others)]

    @property
    def repeated(self) -> tuple[str, ...]:
        """Strategies of which all split seeds gave the same curve: one observation, however many they are."""
        return tuple(cell.label for cell in self.setting.cells if repeats_one_curve(cell.runs))

    def saving(self, name: str) -> Saving | None:
        """Of a strategy at the main target, against the reference; None where it is not known."""
        result, reference = self.main_target, self.verdict.reference
        found = result.saving(name, reference) if result and reference else None
        return found if found and found.bound is not Bound.UNKNOWN else None

    def _control_reaches(self, result: TargetResult) -> bool:
        need = result.need(self.control) if self.control else None
        return need is None or need.reached == len(need.accuracy)


def repeats_one_curve(runs: Sequence[Run]) -> bool:
    """Whether several runs have the same label counts and accuracies: the split seed changed nothing."""
    curves = {(tuple(curve.labels), tuple(curve.accuracy)) for curve in map(learning_curve, runs)}
    return len(runs) > 1 and len(curves) == 1


def _apart(a: Cell, b: Cell, field: str) -> bool:
    """Whether every pair that is compared, of one split seed each, differs in a condition that both recorded."""
    pairs = [(conditions_of(a.by_seed[seed]), conditions_of(b.by_seed[seed])) for seed in a.by_seed.keys() & b.by_seed]
    known = [(one[field], other[field]) for one, other in pairs if field in one and field in other]
    return bool(known) and all(one != other for one, other in known)


def analyse(setting: Setting, target: float | None = None) -> Analysis:
    """The verdict on a setting; `target` is an accuracy in percent that the user wants reached."""
    control = setting.cell(CONTROL)
    stops = any(cell.config.stop == "baseline" for cell in setting.cells)
    runs = setting.baseline.runs if setting.baseline else ()
    baseline = {
        run.seed: label_savings.Baseline(accuracy(run), float(run.human_labels), run.test["loss"]) for run in runs
    }
    curves = {
        cell.label: {run.seed: curve for run in cell.runs if (curve := labels_curve(run))} for cell in setting.cells
    }
    evidence = Evidence(
        curves=curves,
        control=control.label if control else None,
        baseline=baseline,
        stops_at_baseline=stops,
        targets=() if target is None else (target,),
    )
    return Analysis(setting, judge(evidence), evidence.control)


def labels_curve(run: Run) -> label_savings.Curve | None:
    """The learning curve, without label counts that were never tested; None where none was."""
    curve = learning_curve(run)
    known = ~np.isnan(curve.accuracy)
    if not known.any():
        return None
    beat = bool(run.result.reached_baseline) if run.config.stop == "baseline" else None
    columns = (curve.labels, curve.human_labels, curve.accuracy, curve.loss)
    return label_savings.Curve(*(column[known] for column in columns), beat)


def time_ratio(cell: Cell, other: Cell | None) -> Interval | None:
    """Time of `cell` over that of `other`, seeds paired; None where conditions or seeds differ.

    Two seeds give no interval: theirs would reach from nothing to thousands.
    """
    if other is None or cell is other or len(cell.machines | other.machines) != 1:
        return None
    a, b = paired(cell, other, lambda run: run.seconds)
    if not len(a) or (a <= 0).any() or (b <= 0).any():
        return None
    found = ratio_interval(a, b)
    return found if found.n >= MIN_SEEDS else found._replace(low=NAN, high=NAN)


def class_recalls(cell: Cell) -> dict[str, float]:
    """Percent of each class's test images that are recognised, mean over seeds.

    Without a class that has no test images; empty where recalls are not recorded.

    A class's one-against-rest accuracy would not do: it is 90 % for a class of ten that is never found.
    """
    groups = [run.per_class for run in cell.runs]
    return {
        name: 100 * float(np.mean([group[name]["recall"] for group in groups]))
        for name in groups[0]
        if all(name in group and in_test_set(group[name]) for group in groups)
    }
