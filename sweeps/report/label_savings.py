"""Labels that strategies need for the same targets, and what that saves; no p values, those belong to the areas.

A run that does not reach a target is never dropped: it needs more labels than it used, and a saving becomes a bound.
What defines a target is not ranked by it, and a target that the first labels reach is no strategy's merit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from sweeps.report.comparisons import LEVEL, MIN_SEEDS, NAN, moderated
from sweeps.report.largest_t import Null

FRACTIONS = (0.5, 0.75, 1.0)
"""Of the control's labels: what it has reached there are the targets."""
BASELINE = "baseline"


@dataclass(frozen=True)
class Curve:
    """One run by label count: [K] values each, `labels` ascending and distinct; accuracy in percent."""

    labels: NDArray[np.float64]
    human_labels: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    loss: NDArray[np.float64] | None = None
    beat_baseline: bool | None = None
    """What the run's own stopping rule found in the end; None where it has no such rule."""

    def __post_init__(self) -> None:
        columns = (self.labels, self.human_labels, self.accuracy, self.loss)
        lengths = {len(values) for values in columns if values is not None}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"a learning curve of lengths {sorted(lengths)}: give each value once a label count")
        if (np.diff(self.labels) <= 0).any():
            raise ValueError(f"labels {list(self.labels)} of a learning curve: they must rise; sort them")
        if np.isnan(np.asarray(self.accuracy, float)).any():
            raise ValueError("a learning curve with NaN accuracy: leave out the label counts without a test")

    @cached_property
    def risen(self) -> NDArray[np.float64]:
        """[K] accuracy made never-falling: else the more tests a noisy curve has, the sooner a peak would count."""
        return isotonic_regression(self.accuracy).x

    @cached_property
    def fallen(self) -> NDArray[np.float64] | None:
        """[K] loss made never-rising; None where it is not known at every count."""
        if self.loss is None or np.isnan(self.loss).any():
            return None
        return isotonic_regression(self.loss, increasing=False).x


@dataclass(frozen=True)
class Baseline:
    """The baseline's run of one split seed."""

    accuracy: float
    labels: float
    """Human labels."""
    loss: float | None = None


Curves = Mapping[str, Mapping[int, Curve]]
"""By strategy and split seed."""


class TargetKind(Enum):
    CONTROL = "what the control reaches with a fraction of its labels, mean over the seeds"
    BASELINE = "what the baseline of the same split seed reached"
    GIVEN = "an accuracy that the user asked for"


@dataclass(frozen=True)
class Target:
    """What is to be reached, by split seed."""

    kind: TargetKind
    accuracy: Mapping[int, float]
    loss: Mapping[int, float] | None = None
    """Where it is known, the rule of accuracy *and* loss is shown beside that of accuracy alone."""
    fraction: float | None = None
    by_construction: bool = False
    """Runs stop where they meet it: reaching it with fewer labels is how they end, and no finding."""


@dataclass(frozen=True)
class Reach:
    """Human labels that one run needs for a target."""

    labels: float
    censored: bool = False
    """It does not get there: more than `labels`, all that it used."""
    by_first_labels: bool = False


@dataclass(frozen=True)
class Need:
    """What one strategy needs for a target, by split seed."""

    strategy: str
    accuracy: Mapping[int, Reach]
    with_loss: Mapping[int, Reach] | None
    """For accuracy and loss together."""

    @property
    def reached(self) -> int:
        """Seeds that reach the accuracy."""
        return sum(not reach.censored for reach in self.accuracy.values())


class Bound(Enum):
    """What runs that miss the target leave of a saving."""

    NONE = "all runs reach the target"
    AT_LEAST = "the other misses it in some seed: the true saving is larger"
    AT_MOST = "the strategy misses it in some seed: the true saving is smaller"
    UNKNOWN = "both miss it in some seed: nothing is known"


@dataclass(frozen=True)
class Saving:
    """Percent of labels that a strategy saves against another, from the geometric mean of the paired ratios."""

    strategy: str
    against: str
    """The control, or `baseline`."""
    with_loss: bool
    percent: float
    low: float
    """Simultaneous 95 % interval over the strategies; NaN below three seeds, on the side that a bound opens, and
    against a baseline at which the runs stop."""
    high: float
    bound: Bound
    seeds: int
    fewer: int
    """Seeds in which the strategy needs fewer labels for certain; where the other misses the target it is enough to
    reach it with no more labels than the other used."""
    more: int


@dataclass(frozen=True)
class TargetResult:
    """One target: who needs how many labels, and what that saves."""

    target: Target
    needs: tuple[Need, ...]
    savings: tuple[Saving, ...]
    by_first_labels: bool
    """At least half of the runs reach it with the first labels: no strategy's merit, nobody is ranked by it."""

    def need(self, strategy: str) -> Need | None:
        return next((need for need in self.needs if need.strategy == strategy), None)

    def saving(self, strategy: str, against: str, with_loss: bool = False) -> Saving | None:
        wanted = (strategy, against, with_loss)
        return next((s for s in self.savings if (s.strategy, s.against, s.with_loss) == wanted), None)


def find_targets(
    curves: Curves,
    control: str | None,
    baseline: Mapping[int, Baseline],
    given: Sequence[float] = (),
    stops_at_baseline: bool = False,
) -> tuple[Target, ...]:
    """The user's targets, the baseline's, and what the control reaches at `FRACTIONS` of its labels."""
    seeds = sorted({seed for runs in curves.values() for seed in runs})
    targets = [Target(TargetKind.GIVEN, dict.fromkeys(seeds, float(accuracy))) for accuracy in given]
    known = {seed: baseline[seed] for seed in seeds if seed in baseline}
    if known:
        losses = {seed: run.loss for seed, run in known.items() if run.loss is not None}
        accuracies = {seed: run.accuracy for seed, run in known.items()}
        loss = losses if len(losses) == len(known) else None
        targets.append(Target(TargetKind.BASELINE, accuracies, loss, by_construction=stops_at_baseline))
    if control in curves and not stops_at_baseline:
        for fraction in FRACTIONS:
            reached = [_accuracy_at(curve, fraction) for curve in curves[control].values()]
            if not np.isnan(reached).any():
                accuracy = float(np.mean(reached))
                targets.append(Target(TargetKind.CONTROL, dict.fromkeys(seeds, accuracy), fraction=fraction))
    return tuple(targets)


def _accuracy_at(curve: Curve, fraction: float) -> float:
    """Accuracy of the never-falling fit at a fraction of a run's labels; NaN before its first acquisition."""
    labels = fraction * curve.labels[-1]
    if labels <= curve.labels[0]:
        return NAN
    return float(np.interp(labels, curve.labels, curve.risen))


def measure(target: Target, curves: Curves, control: str | None, baseline: Mapping[int, Baseline]) -> TargetResult:
    """Labels needed for one target, and the savings against the control and the baseline."""
    needs = tuple(_need(strategy, runs, target) for strategy, runs in curves.items())
    needs = tuple(need for need in needs if need.accuracy)
    savings = []
    for with_loss in (False, True) if target.loss else (False,):
        reaches = {need.strategy: (need.with_loss if with_loss else need.accuracy) for need in needs}
        if control in reaches:
            others = {name: found for name, found in reaches.items() if name != control}
            savings += _savings(others, reaches[control], control, with_loss)
        if target.kind is TargetKind.BASELINE:
            theirs = {seed: Reach(baseline[seed].labels) for seed in target.accuracy}
            found = _savings(reaches, theirs, BASELINE, with_loss)
            savings += [replace(s, low=NAN, high=NAN) for s in found] if target.by_construction else found
    every = [reach.by_first_labels for need in needs for reach in need.accuracy.values()]
    return TargetResult(target, needs, tuple(savings), bool(every) and np.mean(every) >= 0.5)


def _need(strategy: str, runs: Mapping[int, Curve], target: Target) -> Need:
    runs = {seed: curve for seed, curve in sorted(runs.items()) if seed in target.accuracy}
    accuracy = {seed: reach(curve, target.accuracy[seed]) for seed, curve in runs.items()}
    if target.loss is None:
        return Need(strategy, accuracy, None)
    both = {
        seed: _by_rule(curve) if target.by_construction else reach(curve, target.accuracy[seed], target.loss[seed])
        for seed, curve in runs.items()
    }
    return Need(strategy, accuracy, both)


def reach(curve: Curve, accuracy: float, loss: float | None = None) -> Reach:
    """Where the never-falling fit of the accuracy, and the never-rising one of the loss, reach the target."""
    human = curve.human_labels
    labels = _first_at(human, curve.risen, accuracy)
    if loss is not None:
        labels = float("inf") if curve.fallen is None else max(labels, _first_at(human, -curve.fallen, -loss))
    if not np.isfinite(labels):
        return Reach(float(human[-1]), censored=True)
    return Reach(labels, by_first_labels=labels <= human[0])


def _first_at(human: NDArray[np.float64], rising: NDArray[np.float64], target: float) -> float:
    """Labels at which a never-falling curve first reaches `target`, a straight line between two counts."""
    reached = np.flatnonzero(rising >= target - 1e-9)
    if len(reached) == 0:
        return float("inf")
    k = int(reached[0])
    return float(human[0]) if k == 0 else float(np.interp(target, rising[k - 1 : k + 1], human[k - 1 : k + 1]))


def _by_rule(curve: Curve) -> Reach:
    """Where a run's own stopping rule ended it."""
    beat = bool(curve.beat_baseline)
    return Reach(float(curve.human_labels[-1]), censored=not beat, by_first_labels=beat and len(curve.labels) == 1)


def _savings(
    mine: Mapping[str, Mapping[int, Reach]], theirs: Mapping[int, Reach], against: str, with_loss: bool
) -> list[Saving]:
    """Savings of several strategies against the same runs, their intervals simultaneous."""
    ratios, bounds, fewer, more = {}, {}, {}, {}
    for name, reaches in mine.items():
        pairs = [(reach, theirs[seed]) for seed, reach in reaches.items() if seed in theirs]
        if pairs:
            bounds[name] = _bound([(a.censored, b.censored) for a, b in pairs])
            fewer[name], more[name] = sum(_sooner(a, b) for a, b in pairs), sum(_sooner(b, a) for a, b in pairs)
            # One label is the least that counts: a start without any human label would divide by zero.
            ratios[name] = np.log([max(a.labels, 1.0) / max(b.labels, 1.0) for a, b in pairs])
    halves = _half_widths({name: ratios[name] for name in ratios if bounds[name] is not Bound.UNKNOWN}, against)
    savings = []
    for name, values in ratios.items():
        mean, half, bound = float(values.mean()), halves.get(name, NAN), bounds[name]
        percent, low, high = (100 * (1 - float(np.exp(value))) for value in (mean, mean + half, mean - half))
        if bound is Bound.UNKNOWN:
            percent = low = high = NAN
        low, high = (NAN if bound is Bound.AT_MOST else low), (NAN if bound is Bound.AT_LEAST else high)
        found = Saving(name, against, with_loss, percent, low, high, bound, len(values), fewer[name], more[name])
        savings.append(found)
    return savings


def _sooner(a: Reach, b: Reach) -> bool:
    """Whether `a` needs fewer labels than `b` for certain."""
    return not a.censored and (a.labels < b.labels or (b.censored and a.labels <= b.labels))


def _bound(censored: Sequence[tuple[bool, bool]]) -> Bound:
    mine, theirs = (any(side) for side in zip(*censored))
    if mine and theirs:
        return Bound.UNKNOWN
    return Bound.AT_MOST if mine else Bound.AT_LEAST if theirs else Bound.NONE


def _half_widths(ratios: Mapping[str, NDArray[np.float64]], against: str) -> dict[str, float]:
    """Half of each simultaneous interval, on the logarithmic scale; only of strategies with enough seeds."""
    tested = {name: values for name, values in ratios.items() if len(values) >= MIN_SEEDS}
    if not tested:
        return {}
    found = moderated(list(tested.values()), [(name, against) for name in tested])
    return {
        name: Null(len(tested), float(df), "control", 0.5 * n / found.seeds.max()).critical(LEVEL) * std / n**0.5
        for name, df, std, n in zip(tested, found.df, found.std, found.seeds)
    }
