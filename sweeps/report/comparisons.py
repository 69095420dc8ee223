"""Compare strategies on the same split seeds: corrected p values, simultaneous intervals, seeds that would settle it.

Every claim of one setting shares one family-wise error of 5 %. First each strategy is compared with the control
(random sampling). Each strategy that differs from it hands its part of the 5 % on to the comparisons among the
strategies, so that in all at most one setting in twenty claims anything that is not so, whatever the truth.

The test is a paired t-test whose variance is shrunk to the mean variance of its family: that counts as much as five
seeds. A variance of one's own from three or five seeds is known so badly that a corrected test finds next to nothing;
one variance for everybody (Dunnett's test) finds more, and claims too much where random sampling scatters more than the
strategies do, as it usually does. With five strategies and five seeds, an effect of two paired standard deviations is
found in 86 % of reports, by paired t-tests with Holm's correction in 62 %; Dunnett's test finds 97 %, but claims an
effect in 8 % of reports where there is none. `python -m benchmarks.verdict_simulation` measures it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import nctdtr, ndtr

from sweeps.report.largest_t import Null, Shape

NAN = float("nan")
LEVEL = 0.05
"""Probability that anything claimed in one setting is not so."""
MARGIN = 1.0
"""A difference that matters, in points of accuracy."""
MIN_SEEDS = 3
"""Below this many shared seeds nothing is tested: two are a hint, one says nothing."""
PRIOR_DF = 4
"""Degrees of freedom for which the mean variance of a family counts, beside those of a comparison's own."""
VARIANCE_CORRELATION = 1 / 3
"""Of the variances of two comparisons that share a strategy: 1/4 where all scatter alike, 0.4 in runs on digits, where
random sampling scatters most. With 1/3 the error stays within 5 % until it scatters twice as much as the others."""
POWER = 0.8
MAX_MORE_SEEDS = 50


class Standing(Enum):
    """How `a` stands against `b`."""

    AHEAD = "ahead"
    BEHIND = "behind"
    UNCLEAR = "cannot be told"
    HINT = "a hint of two seeds"
    UNKNOWN = "fewer than two seeds in common"


@dataclass(frozen=True)
class MoreSeeds:
    """Seeds to add so that a repetition settles the comparison with a power of 80 %; None: more than 50."""

    clear: int | None
    """Until the difference is clear, if it is as large as it looks now."""
    negligible: int | None
    """Until it is shown to lie below the margin; None too where it looks larger than the margin."""


@dataclass(frozen=True)
class Comparison:
    """The mean of `a - b` over the seeds that both have."""

    a: str
    b: str
    estimate: float
    low: float
    """Simultaneous interval: it leaves out zero exactly where `p` is below the level. NaN where nothing is tested."""
    high: float
    p: float
    """Corrected for everything that the setting compares; NaN where nothing is tested."""
    std: float
    """Of the paired differences, sample standard deviation; NaN from one seed."""
    seeds: int
    standing: Standing
    negligible: bool = False
    """The whole interval lies within the margin: whatever difference there is does not matter."""
    more: MoreSeeds | None = None
    """None where it is settled, or where there are too few seeds to plan with."""

    @property
    def tested(self) -> bool:
        return not np.isnan(self.p)

    @property
    def settled(self) -> bool:
        return self.negligible or self.standing in (Standing.AHEAD, Standing.BEHIND)

    def turned(self) -> "Comparison":
        """The same comparison as `b - a`."""
        other = {Standing.AHEAD: Standing.BEHIND, Standing.BEHIND: Standing.AHEAD}.get(self.standing, self.standing)
        values = (-self.estimate, -self.high, -self.low, self.p, self.std)
        return Comparison(self.b, self.a, *values, self.seeds, other, self.negligible, self.more)


@dataclass(frozen=True)
class Comparisons:
    """All that one setting compares."""

    with_control: tuple[Comparison, ...]
    """Each strategy - control; empty without a control."""
    among: tuple[Comparison, ...]
    """Every pair of strategies, without the control."""

    def of(self, a: str, b: str) -> Comparison | None:
        """The comparison of these two, as `a - b`."""
        for found in (*self.with_control, *self.among):
            if {found.a, found.b} == {a, b}:
                return found if found.a == a else found.turned()
        return None


class Moderated(NamedTuple):
    """What a family's t-tests are made of; one entry a comparison."""

    estimate: NDArray[np.float64]
    std: NDArray[np.float64]
    """Moderated: its square is the comparison's own variance shrunk to the family's mean one."""
    df: NDArray[np.float64]
    seeds: NDArray[np.int64]


def compare(
    values: Mapping[str, Mapping[int, float]],
    control: str | None = None,
    *,
    level: float = LEVEL,
    margin: float = MARGIN,
) -> Comparisons:
    """Compare all strategies, `values[strategy][seed]`, with the control and with each other.

    The second stage may spend what the first leaves: the probability that the strategies which were not told from the
    control exceed the first stage's critical value is taken off the level (a parallel gatekeeper with a single-step
    first stage). If nothing differs from the control, nothing is tested there.
    Source: Dmitrienko, Tamhane & Wiens, Biometrical Journal 50, 2008.
    """
    names = [name for name in values if name != control]
    first: tuple[Comparison, ...] = ()
    rest = level
    if control in values:
        pairs = [(name, control) for name in names]
        first, rest = _family(values, pairs, "control", level, level, margin)
    among, _ = _family(values, list(combinations(names, 2)), "pairs", level, rest, margin)
    return Comparisons(first, among)


def _family(
    values: Mapping[str, Mapping[int, float]],
    pairs: Sequence[tuple[str, str]],
    shape: Shape,
    level: float,
    spend: float,
    margin: float,
) -> tuple[tuple[Comparison, ...], float]:
    """One family of comparisons, and how much of `spend` it leaves to the next."""
    differences = [_differences(values[a], values[b]) for a, b in pairs]
    tested = [k for k, found in enumerate(differences) if len(found) >= MIN_SEEDS]
    made = {k: _untested(*pairs[k], differences[k]) for k in range(len(pairs)) if k not in tested}
    if not tested:
        return tuple(made[k] for k in range(len(pairs))), spend
    compared = [pairs[k] for k in tested]
    count = len(compared) if shape == "control" else len({name for pair in compared for name in pair})
    found = moderated([differences[k] for k in tested], compared)
    correlation = 0.5 * found.seeds.min() / found.seeds.max()
    for position, k in enumerate(tested):
        null = Null(count, float(found.df[position]), shape, correlation)
        made[k] = _tested(*pairs[k], differences[k], found, position, null, level, spend, margin)
    unclear = sum(not made[k].p < level for k in tested)
    lowest = Null(count, float(found.df.min()), shape, correlation)
    spent = lowest.among(unclear).tail(lowest.critical(spend)) if unclear and shape == "control" else 0.0
    left = spend - spent if unclear < count else 0.0
    return tuple(made[k] for k in range(len(pairs))), max(0.0, left)


def _differences(a: Mapping[int, float], b: Mapping[int, float]) -> NDArray[np.float64]:
    """By seed; one where all seeds repeat the same two runs, as CLIP's start with a linear head does."""
    seeds = [seed for seed in sorted(a) if seed in b]
    repeated = len({a[seed] for seed in seeds}) == len({b[seed] for seed in seeds}) == 1
    return np.array([a[seed] - b[seed] for seed in (seeds[:1] if repeated else seeds)], float)


def _untested(a: str, b: str, differences: NDArray[np.float64]) -> Comparison:
    n = len(differences)
    standing = Standing.HINT if n == 2 else Standing.UNKNOWN
    mean = float(differences.mean()) if n else NAN
    std = float(differences.std(ddof=1)) if n > 1 else NAN
    return Comparison(a, b, mean, NAN, NAN, NAN, std, n, standing)


def _tested(
    a: str,
    b: str,
    differences: NDArray[np.float64],
    found: Moderated,
    k: int,
    null: "Null",
    level: float,
    spend: float,
    margin: float,
) -> Comparison:
    estimate, std, n = float(found.estimate[k]), float(found.std[k]), int(found.seeds[k])
    own, error = float(differences.std(ddof=1)), std / n**0.5
    if spend <= 0:
        more = more_seeds(estimate, std, n, null, level, margin)
        return Comparison(a, b, estimate, NAN, NAN, NAN, own, n, Standing.UNCLEAR, more=more)
    if error <= 1e-9 * max(1.0, abs(estimate)):
        # No spread to measure against: t would be infinite however few the seeds; the signs alone are counted.
        equal = abs(estimate) < 1e-9
        p, low, high = (1.0, 0.0, 0.0) if equal else (null.comparisons * 2.0 ** (1 - n), NAN, NAN)
    else:
        p, half = null.tail(estimate / error), null.critical(spend) * error
        low, high = estimate - half, estimate + half
    p = min(1.0, p * level / spend)
    standing = Standing.UNCLEAR if not p < level else Standing.AHEAD if estimate > 0 else Standing.BEHIND
    negligible = -margin < low and high < margin
    settled = negligible or standing is not Standing.UNCLEAR
    more = None if settled else more_seeds(estimate, std, n, null, level, margin)
    return Comparison(a, b, estimate, low, high, p, own, n, standing, negligible, more)


def moderated(differences: Sequence[NDArray[np.float64]], pairs: Sequence[tuple[str, str]]) -> Moderated:
    """Means, moderated standard deviations and their degrees of freedom, for paired differences of one family.

    v_k' = (f_k v_k + d sum_i f_i v_i / sum_i f_i) / (f_k + d) with f_i = n_i - 1 and d = `PRIOR_DF`; the degrees of
    freedom are Satterthwaite's for that weighted sum, with `VARIANCE_CORRELATION` where two share a strategy.
    Source of the shrinkage: Smyth, SAGMB 3, 2004, whose d is estimated; from so few comparisons that claims too much.
    """
    seeds = np.array([len(values) for values in differences])
    freedom = seeds - 1.0  # [C]
    own = np.array([values.var(ddof=1) for values in differences])  # [C]
    share = freedom / freedom.sum()
    weights = np.diag(freedom) + PRIOR_DF * share  # [C, C], row k makes variance k
    weights /= (freedom + PRIOR_DF)[:, None]
    shared = np.array([[len(set(a) & set(b)) for b in pairs] for a in pairs])
    squared = np.select([shared == 2, shared == 1], [1.0, VARIANCE_CORRELATION], 0.0) / np.maximum.outer(
        freedom, freedom
    )
    df = 1 / ((weights @ squared) * weights).sum(axis=1)
    return Moderated(np.array([values.mean() for values in differences]), (weights @ own) ** 0.5, df, seeds)


def more_seeds(estimate: float, std: float, seeds: int, null: Null, level: float, margin: float) -> MoreSeeds:
    """Seeds to add for a power of 80 % after correction, taking `estimate` and `std` for the truth."""
    n = seeds + np.arange(1, MAX_MORE_SEEDS + 1)  # [N]
    df, half = _planned(null, seeds, level)
    error = max(std, 1e-9) / n**0.5
    clear = 1 - nctdtr(df, np.minimum(abs(estimate) / error, 37.0), half)  # beyond, the function underflows
    negligible = ndtr((margin - estimate) / error - half) - ndtr((-margin - estimate) / error + half)
    enough = [np.flatnonzero(power >= POWER) for power in (clear, negligible)]
    return MoreSeeds(*(int(found[0]) + 1 if len(found) else None for found in enough))


@lru_cache(maxsize=1024)
def _planned(null: Null, seeds: int, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Degrees of freedom and critical values [N] with one seed more, two, ..."""
    df = null.df * (seeds + np.arange(MAX_MORE_SEEDS)) / (seeds - 1)
    some = df[[49, 32, 20, 12, 7, 4, 2, 1, 0]]  # between them the values are nearly a straight line in 1 / df
    values = [Null(null.count, round(float(at), 2), null.shape).critical(level) for at in some]
    return df, np.interp(1 / df, 1 / some, values)


class Estimate(NamedTuple):
    """A mean with its 95 % interval; NaN where it cannot be known."""

    mean: float
    low: float
    high: float
    std: float
    n: int


def accuracy_interval(values: ArrayLike) -> Estimate:
    """Mean of [n] accuracies in percent with a 95 % interval within [0, 100]: Student's t on the logit scale.

    The standard error goes to that scale by the derivative of the logit at the mean, so an accuracy of 0 or 100 is no
    infinity. Below three values no interval is worth stating.
    """
    values = np.asarray(values, float)
    n = len(values)
    if n == 0:
        return Estimate(NAN, NAN, NAN, NAN, 0)
    mean, std = float(values.mean()), float(values.std(ddof=1)) if n > 1 else NAN
    if n < MIN_SEEDS:
        return Estimate(mean, NAN, NAN, std, n)
    share = mean / 100
    slope = share * (1 - share)
    if std <= 1e-12 or slope <= 0:
        return Estimate(mean, mean, mean, std, n)
    half = float(stats.t.ppf(1 - LEVEL / 2, n - 1)) * std / 100 / n**0.5 / slope
    low, high = (100 / (1 + np.exp(-(np.log(share / (1 - share)) + side))) for side in (-half, half))
    return Estimate(mean, float(low), float(high), std, n)
