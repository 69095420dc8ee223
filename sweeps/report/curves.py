"""Learning curves of runs, and what they say about costs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweeps.report.cells import Cell
from sweeps.report.load import Run
from sweeps.report.statistics import Interval, first_reach, mean_interval


class Curve(NamedTuple):
    """One run by label count: [K] values each, `labels` ascending and distinct."""

    labels: NDArray[np.float64]
    human_labels: NDArray[np.float64]
    seconds: NDArray[np.float64]
    """From the start of the run until the label count's last epoch."""
    accuracy: NDArray[np.float64]
    """Test accuracy in percent."""


def learning_curve(run: Run) -> Curve:
    """Test accuracy at each label count, of the epoch that stands for it, as `al.records.learning_curve` has it.

    That is the best epoch of the fit, told by validation loss. With one epoch a round there is one to choose at every
    count but the last.
    """
    epochs = run.epochs
    labels = epochs["labels"]
    loss = np.nan_to_num(epochs["val/loss"], nan=np.inf)
    clock = np.cumsum(epoch_seconds(run))
    levels = np.unique(labels[~np.isnan(labels)])
    chosen = [_standing(np.flatnonzero(labels == level), epochs["best"], loss) for level in levels]
    last = [np.flatnonzero(labels == level)[-1] for level in levels]
    human = epochs["human_labels"]
    human = np.where(np.isnan(human), labels, human)
    return Curve(levels, human[chosen], clock[last], epochs["test/accuracy"][chosen])


def _standing(rows: NDArray[np.int64], best: NDArray[np.float64], loss: NDArray[np.float64]) -> int:
    """The last of `rows` marked best; where none is, that of lowest loss, and the last where no loss is known."""
    if (best[rows] == 1).any():
        return int(rows[best[rows] == 1][-1])
    return int(rows[np.argmin(loss[rows])]) if np.isfinite(loss[rows]).any() else int(rows[-1])


def epoch_seconds(run: Run) -> NDArray[np.float64]:
    """[E] seconds of each epoch with the acquisition that followed it."""
    whole = np.nan_to_num(run.epochs["seconds/round"])
    parts = sum(np.nan_to_num(run.epochs[f"seconds/{phase}"]) for phase in ("train", "evaluate", "score", "select"))
    return np.maximum(whole, parts)


def labels_to_reach(run: Run, target: float) -> float:
    """Human labels at which the run's curve first reaches `target` percent; infinity if it never does."""
    curve = learning_curve(run)
    known = ~np.isnan(curve.accuracy)
    if not known.any():
        return float("inf")
    return first_reach(curve.human_labels[known], curve.accuracy[known], target)


class Band(NamedTuple):
    """A cell's curve over seeds, at [K] x values that every seed has."""

    x: NDArray[np.float64]
    intervals: tuple[Interval, ...]

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
        intervals.append(mean_interval(accuracies))
    return Band(np.array(x), tuple(intervals))


def accuracy_at(cells: Sequence[Cell]) -> dict[str, dict[int, dict[int, float]]]:
    """Accuracies by cell label, seed and label count, as `statistics.penalties` takes them."""
    return {
        cell.label: {
            run.seed: {int(labels): float(accuracy) for labels, accuracy in zip(curve.labels, curve.accuracy)}
            for run in cell.runs
            for curve in (learning_curve(run),)
        }
        for cell in cells
    }
