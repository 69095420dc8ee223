"""Zero-shot labels of a training set against the true ones, as `python -m data_prep clip` reported on them."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from sweeps.report.picture import Picture, bound, draw_matrix, matrix_size, save_all
from sweeps.report.statistics import NAN
from sweeps.report.style import drawing
from sweeps.report.table import Table


class ZeroShot(NamedTuple):
    """Zero-shot labels of a training set against the true ones."""

    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    """[C][C] counts, rows the true class."""
    confidence: tuple[float, ...]
    """[C] mean confidence by class; empty where unknown."""
    histogram: tuple[tuple[float, float, int], ...] = ()
    """Bins of the confidences: low, high, images; empty where unknown."""

    @property
    def right(self) -> int:
        return sum(self.confusion[k][k] for k in range(len(self.classes)))

    @property
    def total(self) -> int:
        return sum(map(sum, self.confusion))


def own_zero_shot(results_dir: str | Path) -> list[ZeroShot]:
    """Read every set of zero-shot labels reported on in `<results_dir>/clip/<key>/`."""
    found = []
    for transitions in sorted((Path(results_dir) / "clip").glob("*/clip_transitions.csv")):
        folder = transitions.parent
        with suppress(OSError, KeyError, ValueError):  # unreadable or of another version: as if it were not there
            found.append(read_zero_shot(transitions, folder / "clip_statistics.csv", folder / "clip_confidences.csv"))
    return found


def read_zero_shot(transitions: Path, statistics: Path, histogram: Path | None = None) -> ZeroShot:
    """Read one set from its CSV files.

    Raises:
        OSError, KeyError, ValueError: a file is missing, damaged or of another form.
    """
    counts = pd.read_csv(transitions, dtype=str, keep_default_na=False).set_index("true\\clip")
    by_class = pd.read_csv(statistics, dtype=str, keep_default_na=False).set_index("class")["mean_confidence"]
    bins = () if histogram is None else pd.read_csv(histogram)[["from", "to", "images"]].itertuples(index=False)
    return ZeroShot(
        tuple(counts.columns),
        tuple(tuple(map(int, row)) for row in counts.to_numpy()),
        tuple(float(by_class[name]) for name in counts.columns),
        tuple((float(low), float(high), int(images)) for low, high, images in bins),
    )


def zero_shot_table(sets: Sequence[tuple[str, ZeroShot]]) -> Table:
    """How many images of each class got a label of another, for each (name, labels) of `sets`."""
    columns = ("labels", "class", "original", "predicted", "changed", "changed (%)", "mean confidence")
    rows = [row for name, labels in sets for row in _rows(name, labels)]
    return Table("zero_shot", "Zero-shot labels by class", columns, rows, folded=True)


def _rows(name: str, labels: ZeroShot) -> Iterator[tuple]:
    matrix = np.array(labels.confusion)
    for k, title in enumerate(labels.classes):
        size, changed = int(matrix[k].sum()), int(matrix[k].sum() - matrix[k, k])
        confidence = labels.confidence[k] if labels.confidence else NAN
        yield name, title, size, int(matrix[:, k].sum()), changed, 100 * changed / max(size, 1), confidence


def zero_shot_pictures(own: Sequence[ZeroShot], beside: ZeroShot | None = None) -> Iterator[Picture]:
    """Confidences and transitions of each set of labels; `beside` is drawn next to those of the same classes."""
    for number, labels in enumerate(own, 1):
        which = f", set {number}" if len(own) > 1 else ""
        right = f"{100 * labels.right / labels.total:.1f} % of {labels.total:,} labels are right"
        if labels.histogram:
            title = f"Confidence of the zero-shot labels{which}"
            yield Picture("confidences", title, f"{title}: histogram. {right}.", bound(_draw_histogram, title, labels))
        title = f"Zero-shot labels against true labels{which}"
        shown = [("own", labels)]
        if beside is not None and labels.classes == beside.classes:
            shown.append(("published", beside))
        alt = f"{title}: share of each true class that gets each label. {right}."
        yield Picture("transitions", title, alt, bound(_draw_transitions, shown))


def _draw_histogram(title: str, own: ZeroShot, paths: Sequence[Path]) -> None:
    with drawing(7, 4) as (figure, axes):
        low, high, count = np.array(own.histogram).T
        axes[0, 0].bar(low, count, high - low, align="edge", color="#0072B2", edgecolor="white", linewidth=0.5)
        axes[0, 0].set(title=title, xlabel="confidence of the label", ylabel="images")
        axes[0, 0].yaxis.set_major_formatter("{x:,g}")
        save_all(figure, paths)


def _draw_transitions(shown: Sequence[tuple[str, ZeroShot]], paths: Sequence[Path]) -> None:
    size = matrix_size(len(shown[0][1].classes))
    with drawing(size * len(shown) + 0.6, size, columns=len(shown)) as (figure, axes):
        for ax, (name, labels) in zip(axes[0], shown):
            title = f"{name}: {100 * labels.right / labels.total:.1f} % right"
            draw_matrix(ax, np.array(labels.confusion), labels.classes, title, "zero-shot label")
        save_all(figure, paths)
