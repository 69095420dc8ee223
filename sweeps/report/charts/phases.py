"""Seconds by phase of every strategy's runs."""

from dataclasses import dataclass

from sweeps.report.analysis import Analysis
from sweeps.report.figures import PHASE_LOOKS, own_seconds


@dataclass(frozen=True)
class Phase:
    strategy: str
    name: str
    seconds: float
    """Mean of a run, without the phases inside it."""


@dataclass(frozen=True)
class Phases:
    names: tuple[str, ...]
    """In the order in which they are stacked."""
    rows: tuple[Phase, ...]
    caution: str
    """Why the times may not be compared; empty where they may."""


def phases(analysis: Analysis) -> Phases:
    """Every phase that took any time."""
    names = tuple(phase for phase, *_ in PHASE_LOOKS)
    rows = [Phase(cell.label, name, own_seconds(cell, name)) for cell in analysis.setting.everyone for name in names]
    different = analysis.setting.different_conditions
    caution = f"Not to be compared: the runs differ in {different}." if different else ""
    return Phases(names, tuple(row for row in rows if row.seconds), caution)
