"""A reliability diagram: how often the models are right, by how sure they are."""

from sweeps.report.analysis import Analysis
from sweeps.report.reliability import Reliability, reliability


def calibration(analysis: Analysis) -> tuple[Reliability, ...] | None:
    """Of every strategy that has kept its bins; None where none has."""
    found = [bins for cell in analysis.setting.everyone if (bins := reliability(cell))]
    return tuple(found) or None
