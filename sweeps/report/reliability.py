"""How sure models are and how often they are right, on the test images at the best epoch."""

from dataclasses import dataclass

import numpy as np

from sweeps.report.analysis import optional
from sweeps.report.cells import Cell


@dataclass(frozen=True)
class Reliability:
    """A strategy's bins of confidence, those without images left out; pooled over the seeds."""

    strategy: str
    error: float
    """Expected calibration error, mean over the seeds."""
    images: tuple[int, ...]
    confidence: tuple[float, ...]
    """Percent, mean of a bin."""
    right: tuple[float, ...]
    """Percent of a bin."""


def reliability(cell: Cell) -> Reliability | None:
    """None where a run has not kept its bins."""
    kept = [run.result.best.splits["test"].calibration for run in cell.runs]
    if None in kept:
        return None
    images = np.array([bins.images for bins in kept])  # [seeds, B]
    right = np.array([bins.right for bins in kept]).sum(0)
    confidence = (images * np.array([bins.confidence for bins in kept])).sum(0)
    count = images.sum(0)
    found = np.flatnonzero(count)
    return Reliability(
        cell.label,
        float(cell.values(optional("ece")).mean()),
        tuple(count[found].tolist()),
        tuple((100 * confidence[found] / count[found]).tolist()),
        tuple((100 * right[found] / count[found]).tolist()),
    )
