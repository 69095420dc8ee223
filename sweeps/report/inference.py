"""What the learning curves of one setting prove: which strategies beat random sampling, which one is best, by how much.

Arrays in, typed results out; nothing about files or pages. The primary measure is the area under the learning curve
over log labels, one number a split seed; savings of labels at common targets are derived from the same curves. Two
questions are answered apart, under one family-wise error of 5 % (see `comparisons`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import combinations

import numpy as np

from sweeps.report.comparisons import (
    LEVEL,
    MARGIN,
    MIN_SEEDS,
    Comparison,
    Comparisons,
    Estimate,
    Standing,
    accuracy_interval,
    compare,
)
from sweeps.report.label_savings import BASELINE, Baseline, Curves, TargetResult, find_targets, measure
from sweeps.report.statistics import Interval, area, mean_interval

Values = Mapping[str, Mapping[int, float]]
"""One number by strategy and split seed."""


@dataclass(frozen=True)
class Evidence:
    """What was observed in one comparable setting."""

    curves: Curves
    control: str | None = "random"
    """The strategy that stands for not choosing; it counts as missing where it has no curve."""
    baseline: Mapping[int, Baseline] = field(default_factory=dict)
    """By split seed; empty where it was not run."""
    stops_at_baseline: bool = False
    """Runs end where they beat their baseline on the test set: doing so is no finding."""
    targets: Sequence[float] = ()
    """Accuracies that the user asks for, in percent."""


class Measure(Enum):
    """What the strategies are compared by."""

    AREA = "mean accuracy along the learning curve over log labels"
    FINAL = "accuracy at the baseline's number of labels"
    NONE = "nothing in common"


class HeadlineKind(Enum):
    """What may be said first. `Headline.strategy` is set for the kinds that name one."""

    NOTHING = "nothing to compare: no second strategy, or fewer than two shared seeds"
    FIRST_LABELS = "the first labels reached the target: no strategy chose anything"
    HINT = "two seeds: the named strategy leads so far, which proves nothing"
    BEST = "the named strategy is ahead of the reference and of every other strategy"
    AHEAD = "the named strategy is ahead of the reference (where that is not tested: of another), not of all the others"
    SOME_AHEAD = "some strategies are ahead of the reference, but not the one with the highest mean: none is named"
    BEHIND = "no strategy is ahead of the reference, which leads, and some are behind it"
    NEGLIGIBLE = "every strategy is within the margin of the reference (where that is not tested: of each other)"
    UNCLEAR = "nothing can be told yet"


@dataclass(frozen=True)
class Headline:
    kind: HeadlineKind
    strategy: str | None = None


@dataclass(frozen=True)
class Verdict:
    """The answer for one setting."""

    headline: Headline
    measure: Measure
    reference: str | None
    """What the strategies are compared with: the control, `baseline`, or nothing."""
    spans: Mapping[int, tuple[float, float]]
    """By seed, the labels over which the areas are taken: what all curves of that seed have in common."""
    values: Values
    """What is compared, by strategy and seed, in points of accuracy; the reference included."""
    estimates: Mapping[str, Estimate]
    """Of `values`, each with its own 95 % interval, highest mean first."""
    comparisons: Comparisons
    at_the_end: Mapping[str, Interval]
    """Strategy - reference in points where the curves of a seed end, each as one look; of areas only."""
    leader: str | None
    """Highest mean, on equal terms where seeds are missing; None below two seeds. The reference may lead."""
    not_told_apart: tuple[str, ...]
    """From the leader, by falling mean."""
    worse_than_leader: tuple[str, ...]
    targets: tuple[TargetResult, ...]
    seeds: int
    """Most seeds that two of them share."""
    missing_seeds: Mapping[str, tuple[int, ...]]
    """Seeds that others have and a strategy lacks."""
    level: float
    margin: float

    @property
    def reference_tested(self) -> bool:
        """Whether some strategy shares enough seeds with the reference to be tested against it."""
        return any(found.tested for found in self.comparisons.with_control)

    @property
    def contradicted_at_the_end(self) -> Mapping[str, Interval]:
        """Strategies that are clearly elsewhere at the last label count than the whole curve says.

        On the other side of the reference; or beyond the margin, where the whole curve lies within it.
        """
        whole = {name: self.comparisons.of(name, self.reference) for name in self.at_the_end}
        return {
            name: end
            for name, end in self.at_the_end.items()
            if (found := whole[name]) and found.tested and _contradicts(found, end, self.margin)
        }

    @property
    def ahead(self) -> tuple[str, ...]:
        """Strategies ahead of the reference, the highest mean first."""
        return self._standing(Standing.AHEAD)

    @property
    def behind(self) -> tuple[str, ...]:
        return self._standing(Standing.BEHIND)

    @property
    def against_leader(self) -> tuple[Comparison, ...]:
        """Leader - other, for every other; the same numbers as in `comparisons`."""
        others = (name for name in self.estimates if name != self.leader)
        found = (self.comparisons.of(self.leader, other) for other in others) if self.leader else ()
        return tuple(comparison for comparison in found if comparison)

    @property
    def unsettled(self) -> tuple[Comparison, ...]:
        """What more seeds could settle: strategies against the reference, then the leader against the others.

        Strategies of which none differs from the reference are not tested with each other, however many the seeds.
        """
        pairs = {frozenset((c.a, c.b)): c for c in (*self.comparisons.with_control, *self.against_leader)}
        possible = [c for c in pairs.values() if c.tested or self.reference in (c.a, c.b) or not self.reference_tested]
        return tuple(c for c in possible if not c.settled)

    def _standing(self, standing: Standing) -> tuple[str, ...]:
        found = {c.a for c in self.comparisons.with_control if c.standing is standing}
        return tuple(name for name in self.estimates if name in found)


def judge(evidence: Evidence, *, level: float = LEVEL, margin: float = MARGIN) -> Verdict:
    """The verdict on one setting.

    Without a control, strategies that spend the baseline's labels are compared with it at that count: stratified
    sampling of as many images is random sampling too. Where runs stop at the baseline that comparison is decided
    before it is made, so there is none.
    """
    curves = {name: runs for name, runs in evidence.curves.items() if runs}
    control = evidence.control if evidence.control in curves else None
    spans = common_spans(curves)
    values, what, reference = _measured(curves, control, spans, evidence)
    comparisons = compare(values, reference, level=level, margin=margin)
    order = _tested_first(_by_fair_mean(values), comparisons)
    leader, alike, worse = _leader(order, comparisons)
    targets = find_targets(curves, control, evidence.baseline, evidence.targets, evidence.stops_at_baseline)
    results = tuple(measure(target, curves, control, evidence.baseline) for target in targets)
    return Verdict(
        headline=_headline(comparisons, leader, reference, worse, order, spans, results),
        measure=what,
        reference=reference,
        spans=spans if what is Measure.AREA else {},
        values=values,
        estimates={name: accuracy_interval(list(values[name].values())) for name in order},
        comparisons=comparisons,
        at_the_end=_at_the_end(curves, reference, spans) if what is Measure.AREA else {},
        leader=leader,
        not_told_apart=alike,
        worse_than_leader=worse,
        targets=results,
        seeds=_seeds(comparisons),
        missing_seeds=_missing(curves),
        level=level,
        margin=margin,
    )


def _measured(
    curves: Curves, control: str | None, spans: Mapping[int, tuple[float, float]], evidence: Evidence
) -> tuple[Values, Measure, str | None]:
    """What the strategies are compared by, and with.

    A baseline of one or two seeds is no reference where the strategies alone have more in common.
    """
    values = areas(curves, spans)
    if control is None and evidence.baseline and not evidence.stops_at_baseline:
        final = at_baseline(curves, evidence.baseline)
        if final and _most_shared(final) >= min(MIN_SEEDS, _most_shared(values)):
            return final, Measure.FINAL, BASELINE
    return values, Measure.AREA if values else Measure.NONE, control if control in values else None


def _most_shared(values: Values) -> int:
    """Seeds that the two with the most in common share."""
    return max((len(values[a].keys() & values[b].keys()) for a, b in combinations(values, 2)), default=0)


def _tested_first(order: Sequence[str], comparisons: Comparisons) -> list[str]:
    """What shares too few seeds with everybody has a mean of other splits, and does not lead."""
    tested = {name for c in (*comparisons.with_control, *comparisons.among) if c.tested for name in (c.a, c.b)}
    return sorted(order, key=lambda name: bool(tested) and name not in tested)


def _at_the_end(curves: Curves, reference: str | None, spans: Mapping[int, tuple[float, float]]) -> dict[str, Interval]:
    """Strategy - reference at the most labels that all curves of a seed reach, over the seeds of both."""
    if reference is None:
        return {}
    last = {
        name: {
            seed: float(np.interp(spans[seed][1], run.labels, run.accuracy))
            for seed, run in runs.items()
            if seed in spans
        }
        for name, runs in curves.items()
    }
    known = last.pop(reference)
    return {
        name: mean_interval([found[seed] - known[seed] for seed in found if seed in known])
        for name, found in last.items()
    }


def _contradicts(whole: Comparison, end: Interval, margin: float) -> bool:
    if end.n < MIN_SEEDS or end.low <= 0 <= end.high:
        return False
    if whole.negligible:
        return min(abs(end.low), abs(end.high)) > margin
    return whole.estimate * end.mean < 0


def _leader(order: Sequence[str], comparisons: Comparisons) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
    """Who has the highest mean, who cannot be told apart from it, and who is worse."""
    if len(order) < 2 or _seeds(comparisons) < 2:
        return None, (), ()
    against = {name: comparisons.of(order[0], name) for name in order[1:]}
    worse = tuple(name for name, found in against.items() if found and found.standing is Standing.AHEAD)
    return order[0], tuple(name for name in against if name not in worse), worse


def common_spans(curves: Curves) -> dict[int, tuple[float, float]]:
    """By seed, the label counts that all its curves reach; a seed with less than two is left out.

    A run that ended early shortens its own seed only.
    """
    spans = {}
    for seed in sorted({seed for runs in curves.values() for seed in runs}):
        every = [runs[seed].labels for runs in curves.values() if seed in runs]
        low, high = float(max(labels[0] for labels in every)), float(min(labels[-1] for labels in every))
        if high > low:
            spans[seed] = (low, high)
    return spans


def areas(curves: Curves, spans: Mapping[int, tuple[float, float]]) -> Values:
    """Mean accuracy of every run over the logarithm of the labels within its seed's span."""
    values = {
        name: {
            seed: area(np.log(curve.labels), curve.accuracy, *np.log(spans[seed]))
            for seed, curve in runs.items()
            if seed in spans
        }
        for name, runs in curves.items()
    }
    return {name: found for name, found in values.items() if found}


def at_baseline(curves: Curves, baseline: Mapping[int, Baseline]) -> Values:
    """Accuracy of every run at its baseline's number of labels, and the baseline's own; runs that end before miss."""
    values = {
        name: {
            seed: float(np.interp(baseline[seed].labels, curve.human_labels, curve.accuracy))
            for seed, curve in runs.items()
            if seed in baseline and curve.human_labels[0] <= baseline[seed].labels <= curve.human_labels[-1]
        }
        for name, runs in curves.items()
    }
    values = {name: found for name, found in values.items() if found}
    return values | {BASELINE: {seed: run.accuracy for seed, run in baseline.items()}} if values else {}


def _by_fair_mean(values: Values) -> list[str]:
    """Strategies by falling mean, those with enough seeds first.

    Where seeds are missing, the means are those of the additive model strategy + seed: nobody leads by easy splits.
    """
    names = list(values)
    rows = [(k, seed, value) for k, name in enumerate(names) for seed, value in values[name].items()]
    if not rows:
        return []
    seeds = sorted({seed for _, seed, _ in rows})
    design = np.zeros((len(rows), len(names) + len(seeds)))
    for row, (k, seed, _) in enumerate(rows):
        design[row, k] = design[row, len(names) + seeds.index(seed)] = 1
    effects = np.linalg.lstsq(design, np.array([value for _, _, value in rows]), rcond=None)[0]
    # What only one strategy has is no reason to put it first: two are compared by the seeds of both.
    enough = min(MIN_SEEDS, *sorted((len(found) for found in values.values()), reverse=True)[:2])
    return sorted(names, key=lambda name: (len(values[name]) < enough, -effects[names.index(name)]))


def _seeds(comparisons: Comparisons) -> int:
    return max((found.seeds for found in (*comparisons.with_control, *comparisons.among)), default=0)


def _missing(curves: Curves) -> dict[str, tuple[int, ...]]:
    every = sorted({seed for runs in curves.values() for seed in runs})
    lacking = {name: tuple(seed for seed in every if seed not in runs) for name, runs in curves.items()}
    return {name: seeds for name, seeds in lacking.items() if seeds}


def _headline(
    comparisons: Comparisons,
    leader: str | None,
    reference: str | None,
    worse: Sequence[str],
    order: Sequence[str],
    spans: Mapping[int, tuple[float, float]],
    targets: Sequence[TargetResult],
) -> Headline:
    """What may be said first: only the leader by mean is ever named, and only if it is ahead of the reference."""
    if not spans and any(result.by_first_labels for result in targets):
        return Headline(HeadlineKind.FIRST_LABELS)
    if leader is None:
        return Headline(HeadlineKind.NOTHING)
    if _seeds(comparisons) < MIN_SEEDS:
        return Headline(HeadlineKind.HINT, leader)
    first = comparisons.with_control
    reference_tested = any(found.tested for found in first)
    ahead = {found.a for found in first if found.standing is Standing.AHEAD}
    behind = any(found.standing is Standing.BEHIND for found in first)
    if all(found.negligible for found in (first if reference_tested else comparisons.among)):
        return Headline(HeadlineKind.NEGLIGIBLE)
    if len(worse) == len(order) - 1 and leader != reference:
        return Headline(HeadlineKind.BEST, leader)
    if leader in ahead or (worse and not reference_tested):
        return Headline(HeadlineKind.AHEAD, leader)
    if ahead:
        return Headline(HeadlineKind.SOME_AHEAD)
    if behind:
        return Headline(HeadlineKind.BEHIND)
    return Headline(HeadlineKind.UNCLEAR)
