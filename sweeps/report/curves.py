"""Learning curves of runs, and what they say about costs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from al import records
from sweeps.report.cells import Cell
from sweeps.report.comparisons import Estimate, accuracy_interval
from sweeps.report.load import Run


class Curve(NamedTuple):
    """One run by label count: [K] values each, `labels` ascending and distinct."""

    labels: NDArray[np.float64]
    human_labels: NDArray[np.float64]
    seconds: NDArray[np.float64]
    """From the start of the run until the label count's last epoch, the embeddings included."""
    accuracy: NDArray[np.float64]
    """Test accuracy in percent."""
    loss: NDArray[np.float64]
    """Test loss."""


def learning_curve(run: Run) -> Curve:
    """Test accuracy and loss at each label count, of the epoch that stands for it in `al.records.learning_curve`."""
    points = records.learning_curve(run.epochs)
    clock = np.cumsum(epoch_seconds(run))
    last = {epoch.labels: k for k, epoch in enumerate(run.epochs)}
    return Curve(
        np.array([point.labels for point in points], float),
        np.array([point.human_labels for point in points], float),
        np.array([clock[last[point.labels]] for point in points], float),
        np.array([point.test.get("accuracy", np.nan) for point in points], float),
        np.array([point.test.get("loss", np.nan) for point in points], float),
    )


def epoch_seconds(run: Run) -> NDArray[np.float64]:
    """[E] seconds of each epoch with the acquisition that followed it; the embeddings come before the first."""
    parts = sum(run.phase(name) for name in ("train", "evaluate", "score", "select"))
    return run.phase("embed") + np.maximum(run.phase("round"), parts)


class Band(NamedTuple):
    """A cell's curve over seeds, at [K] x values that every seed has."""

    x: NDArray[np.float64]
    intervals: tuple[Estimate, ...]

    @property
    def mean(self) -> NDArray[np.float64]:
        return np.array([interval.mean for interval in self.intervals])

    @property
    def low(self) -> NDArray[np.float64]:
        return np.array([interval.low for interval in self.intervals])

    @property
    def high(self) -> NDArray[np.float64]:
        return np.array([interval.high for interval in self.intervals])


def band(cell: Cell, against: str = "labels") -> Band:
    """Mean test accuracy with 95 % interval at the label counts that every seed reached.

    Against `seconds`, x is the mean over seeds of the time until that label count.
    """
    curves = [learning_curve(run) for run in cell.runs]
    shared = sorted(set.intersection(*(set(curve.labels) for curve in curves)))
    at = [{level: k for k, level in enumerate(curve.labels)} for curve in curves]
    x, intervals = [], []
    for level in shared:
        points = [(curve, index[level]) for curve, index in zip(curves, at)]
        accuracies = [curve.accuracy[k] for curve, k in points]
        if np.isnan(accuracies).any():
            continue
        x.append(np.mean([getattr(curve, against)[k] for curve, k in points]))
        intervals.append(accuracy_interval(accuracies))
    return Band(np.array(x), tuple(intervals))


def accuracy_at(cells: Sequence[Cell]) -> dict[str, dict[int, dict[int, float]]]:
    """Accuracies by cell label, seed and label count; label counts that a run never tested are not among its own."""
    return {
        cell.label: {
            run.seed: {
                int(labels): float(accuracy)
                for labels, accuracy in zip(curve.labels, curve.accuracy)
                if not np.isnan(accuracy)
            }
            for run in cell.runs
            for curve in (learning_curve(run),)
        }
        for cell in cells
    }
