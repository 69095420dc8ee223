"""Comparisons seed by seed: the paired differences, the estimate with its interval, the corrected p, the family."""

from dataclasses import dataclass

from sweeps.report.analysis import Analysis
from sweeps.report.comparisons import Comparison
from sweeps.report.inference import Verdict
from sweeps.report.wording import called


@dataclass(frozen=True)
class Difference:
    """`a - b` in points of what the strategies are compared by."""

    a: str
    b: str
    name: str
    family: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    """By seed."""
    estimate: float
    low: float
    high: float
    p: float
    standing: str


@dataclass(frozen=True)
class Differences:
    measure: str
    margin: float
    rows: tuple[Difference, ...]


def differences(analysis: Analysis) -> Differences | None:
    """Every comparison of a setting; None where nothing is compared."""
    verdict = analysis.verdict
    made = verdict.comparisons
    families = ((made.with_control, f"each with {called(verdict.reference or '')}"), (made.among, "with each other"))
    rows = tuple(_difference(verdict, found, family) for group, family in families for found in group if found.seeds)
    return Differences(verdict.measure.value, verdict.margin, rows) if rows else None


def _difference(verdict: Verdict, found: Comparison, family: str) -> Difference:
    a, b = verdict.values[found.a], verdict.values[found.b]
    seeds = tuple(sorted(set(a) & set(b)))
    return Difference(
        a=found.a,
        b=found.b,
        name=f"{called(found.a)} − {called(found.b)}",
        family=family,
        seeds=seeds,
        values=tuple(a[seed] - b[seed] for seed in seeds),
        estimate=found.estimate,
        low=found.low,
        high=found.high,
        p=found.p,
        standing=found.standing.value,
    )
