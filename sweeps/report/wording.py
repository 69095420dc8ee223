"""How things are said: what sampling without choosing is called; counts, durations, means with their intervals."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sweeps.report.analysis import CONTROL
from sweeps.report.label_savings import BASELINE

REFERENCES = {CONTROL: "random sampling", BASELINE: "stratified sampling"}
"""What the reference is called in a sentence."""


def called(name: str) -> str:
    """A strategy or a reference, in a sentence."""
    return REFERENCES.get(name, name)


class Estimated(Protocol):
    """What every kind of estimate has: a mean and its interval, NaN where there is none."""

    @property
    def mean(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


def span(found: Estimated | None, digits: int = 1) -> str:
    """`mean [low, high]`; without brackets where there is no interval."""
    if found is None or np.isnan(found.mean):
        return ""
    if np.isnan(found.low) or np.isnan(found.high):
        return f"{found.mean:,.{digits}f}"
    return f"{found.mean:,.{digits}f} [{found.low:,.{digits}f}, {found.high:,.{digits}f}]"


def between(low: float, high: float, digits: int = 1, unit: str = "") -> str:
    """` (95 % interval 1.2 to 3.0 points)`; nothing where there is none, one side where one is open."""
    form = f",.{digits}f"
    if np.isnan(low) and np.isnan(high):
        return ""
    if np.isnan(high):
        return f" (95 % interval from {low:{form}}{unit})"
    if np.isnan(low):
        return f" (95 % interval up to {high:{form}}{unit})"
    return f" (95 % interval {low:{form}} to {high:{form}}{unit})"


def count(value: float) -> str:
    return f"{value:,.0f}"


def number(n: int, thing: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{n} {thing}{'s' * (n != 1)}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def join(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
