"""What a verdict found, as the first sentence, the details and the tables all say it."""

import numpy as np

from sweeps.report.comparisons import Comparison
from sweeps.report.inference import Measure, Verdict
from sweeps.report.statistics import Interval
from sweeps.report.wording import between, called, count


def the_reference(verdict: Verdict) -> str | None:
    return None if verdict.reference is None else called(verdict.reference)


def points(found: Comparison, verdict: Verdict) -> str:
    return f"{found.estimate:.1f} points{between(found.low, found.high)}{where(verdict)}"


def where(verdict: Verdict) -> str:
    """What points are points of."""
    return " along the curve" if verdict.measure is Measure.AREA else ""


def end_points(end: Interval) -> str:
    """`2.1 points behind (95 % interval 1.2 to 3.0)`."""
    low, high = sorted((abs(end.low), abs(end.high)))
    return f"{abs(end.mean):.1f} points{between(low, high)} {'ahead of' if end.mean > 0 else 'behind'}"


def last_labels(verdict: Verdict) -> str:
    return count(float(np.mean([high for _, high in verdict.spans.values()])))


def difference(found: Comparison | None) -> str:
    """`+2.1 [+1.2, +3.0]`."""
    return "" if found is None or np.isnan(found.estimate) else f"{found.estimate:+.1f}{_range(found)}"


def _range(found: Comparison) -> str:
    return "" if np.isnan(found.low) else f" [{found.low:+.1f}, {found.high:+.1f}]"
