"""Statistics of paired seeds: arrays in, numbers out; SciPy and scikit-learn do the work.

A value per split seed is one draw. Two strategies on the same split seed share initial pool and validation split, so
they are compared by their differences.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

NAN = float("nan")
LEVEL = 0.95
FEW_SEEDS = 3
"""Below this many seeds no interval is worth a conclusion."""


class Interval(NamedTuple):
    """A mean with its 95 % confidence interval; `low` and `high` are NaN from one value."""

    mean: float
    low: float
    high: float
    std: float
    n: int


class Test(NamedTuple):
    """A paired comparison a - b."""

    difference: Interval
    p: float
    """Two-sided p value of the paired t-test; where all differences are equal, of the exact sign-flip test."""
    wilcoxon: float
    """Two-sided p value of Wilcoxon's signed-rank test; NaN below 6 pairs, where it cannot reach 0.05."""

    __test__ = False  # its name is no reason for pytest to collect it


def mean_interval(values: ArrayLike) -> Interval:
    """Mean, 95 % interval by Student's t, and sample standard deviation of [n] values; NaNs are an error."""
    values = np.asarray(values, float)
    if np.isnan(values).any():
        raise ValueError("mean of values with NaN: leave them out where it is known why they are missing")
    n = len(values)
    if n == 0:
        return Interval(NAN, NAN, NAN, NAN, 0)
    mean = float(values.mean())
    if n == 1:
        return Interval(mean, NAN, NAN, NAN, 1)
    std = float(values.std(ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * std / n**0.5
    return Interval(mean, mean - half, mean + half, std, n)


def ratio_interval(a: ArrayLike, b: ArrayLike) -> Interval:
    """Geometric mean of the paired ratios a / b, with the interval from their logarithms; `std` is that of the log."""
    logs = mean_interval(np.log(np.asarray(a, float) / np.asarray(b, float)))
    return Interval(*(float(np.exp(value)) for value in logs[:3]), logs.std, logs.n)


def paired_test(a: ArrayLike, b: ArrayLike) -> Test:
    """Compares [n] values with [n] values of the same seeds; p is NaN below two pairs."""
    differences = np.asarray(a, float) - np.asarray(b, float)
    interval = mean_interval(differences)
    n = len(differences)
    if n < 2:
        return Test(interval, NAN, NAN)
    if np.ptp(differences) <= 1e-12 * max(1.0, np.abs(differences).max()):
        # No spread to measure against: t would be infinite however few the seeds.
        p = 1.0 if abs(differences[0]) <= 1e-12 else 2.0 ** (1 - n)
        return Test(interval, p, p if n >= 6 else NAN)
    wilcoxon = float(stats.wilcoxon(differences).pvalue) if n >= 6 else NAN
    return Test(interval, float(stats.ttest_rel(a, b).pvalue), wilcoxon)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the order given; NaNs stay NaN and are not counted.

    Source: S. Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    known = [index for index, p in enumerate(p_values) if not np.isnan(p)]
    adjusted, running = list(p_values), 0.0
    for rank, index in enumerate(sorted(known, key=lambda index: p_values[index])):
        running = max(running, min(1.0, (len(known) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def area(x: ArrayLike, y: ArrayLike, low: float | None = None, high: float | None = None) -> float:
    """Area under a curve by the trapezium rule over [low, high], divided by its width: the mean height.

    NaN where the curve does not span the interval or the interval is empty.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    low, high = (x[0] if low is None else low), (x[-1] if high is None else high)
    if len(x) < 2 or high <= low or low < x[0] - 1e-9 or high > x[-1] + 1e-9:
        return NAN
    inner = (x > low) & (x < high)
    points = np.concatenate([[low], x[inner], [high]])
    heights = np.concatenate([[np.interp(low, x, y)], y[inner], [np.interp(high, x, y)]])
    return float(np.trapezoid(heights, points) / (high - low))


def penalties(curves: Mapping[str, Mapping[int, Mapping[int, float]]]) -> tuple[list[str], NDArray[np.float64], int]:
    """Pairwise penalty matrix of one setting: names, P[i, j], number of budgets.

    `curves[name][seed][labels]` is an accuracy. At each of the L budgets that all strategies and seeds share, i adds
    1 / L to P[i, j] when a two-sided paired t-test at 5 % finds it better than j. A row counts wins, a column losses.
    Source: Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", ICLR 2020.
    """
    names = list(curves)
    matrix = np.zeros((len(names), len(names)))
    seeds = sorted(set.intersection(*(set(curves[name]) for name in names))) if names else []
    if len(seeds) < 2:
        return names, matrix, 0
    budgets = sorted(set.intersection(*(set(curves[name][seed]) for name in names for seed in seeds)))
    critical = stats.t.ppf(0.975, len(seeds) - 1)
    for budget in budgets:
        values = np.array([[curves[name][seed][budget] for seed in seeds] for name in names])
        matrix += _beats(values, critical) / len(budgets)
    return names, matrix, len(budgets)


def _beats(values: NDArray[np.float64], critical: float) -> NDArray[np.bool_]:
    """[S, S] whether strategy i is significantly better than j; values are [S, seeds]."""
    differences = values[:, None] - values[None, :]
    spread = differences.std(axis=-1, ddof=1)
    error = spread / values.shape[1] ** 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        t = differences.mean(axis=-1) / error
    return (spread > 1e-12) & (t > critical)


def within(interval: Interval, low: float, high: float) -> str:
    """Verdict on "the mean lies in [low, high]" from a 95 % interval: holds, does not hold, cannot be told yet.

    It holds where the whole interval lies inside, it does not where the whole interval lies outside. Below `FEW_SEEDS`
    nothing is told: two seeds that happen to agree would give an interval without width.
    """
    if interval.n < FEW_SEEDS or np.isnan(interval.low):
        return UNKNOWN
    if low <= interval.low and interval.high <= high:
        return HOLDS
    return FAILS if interval.high < low or interval.low > high else UNKNOWN


HOLDS, FAILS, UNKNOWN = "holds", "does not hold", "cannot be told yet"
