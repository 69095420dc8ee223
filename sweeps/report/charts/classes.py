"""Recall by class at the end of the runs, the worst class among them."""

from dataclasses import dataclass

from sweeps.report import analysis as measured
from sweeps.report.analysis import Analysis

MOST_CLASSES = 40
"""Beyond, names cannot be read in a chart, and the table has them all."""


@dataclass(frozen=True)
class Recall:
    strategy: str
    name: str
    """Of the class."""
    percent: float
    """Mean over the seeds."""


def class_recalls(analysis: Analysis) -> tuple[Recall, ...] | None:
    """Recalls of every strategy and class; None where there are too many classes to draw."""
    cells = analysis.setting.everyone
    if len(cells[0].runs[0].data.classes) > MOST_CLASSES:
        return None
    return tuple(
        Recall(cell.label, name, percent) for cell in cells for name, percent in measured.class_recalls(cell).items()
    )
