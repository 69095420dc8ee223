"""Which images the strategies pick alike: how much two of them share, and what all of them want."""

from collections.abc import Sequence

import numpy as np

from sweeps.report.cells import Cell, Setting
from sweeps.report.load import Run
from sweeps.report.statistics import NAN
from sweeps.report.table import Table


def overlap(setting: Setting) -> tuple[list[str], np.ndarray]:
    """Names, and [S, S] Jaccard overlap of what two strategies acquired, mean over shared seeds."""
    cells = [cell for cell in setting.cells if all(run.rounds for run in cell.runs)]
    picks = [{run.seed: picked(run) for run in cell.runs} for cell in cells]
    matrix = np.full((len(cells), len(cells)), NAN)
    for i, a in enumerate(picks):
        for j, b in enumerate(picks):
            values = [jaccard(a[seed], b[seed]) for seed in a if seed in b]
            matrix[i, j] = np.mean(values) if values else NAN
    return [cell.label for cell in cells], matrix


def picked(run: Run) -> np.ndarray:
    """Rows that a run acquired after its initial pool."""
    return np.unique(run.queried[0])


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Shared rows over all rows of two sets; NaN where both are empty."""
    union = len(np.union1d(a, b))
    return len(np.intersect1d(a, b)) / union if union else NAN


def wanted_table(settings: Sequence[Setting], classes: Sequence[str], most: int = 20) -> Table:
    """Images that the most strategies and seeds of a setting picked: their rows in the training set."""
    columns = ("setting", "training-set row", "class", "picked by strategies", "picked in runs", "of runs")
    rows = []
    for setting in settings:
        rows += [(setting.title, *row) for row in most_wanted(setting, classes, most)]
    note = f"Up to {most} images of each setting, those that most strategies pick, then most runs."
    return Table("wanted_by_all", "Images that every strategy wants", columns, rows, note, folded=True)


def most_wanted(setting: Setting, classes: Sequence[str], most: int) -> list[tuple]:
    """(row, class, strategies, runs, of runs), the most wanted first; `random` is no opinion and does not count."""
    cells = [cell for cell in setting.cells if cell.strategy != "random" and all(run.rounds for run in cell.runs)]
    if len(cells) < 2:
        return []
    each = [np.concatenate([picked(run) for run in cell.runs]) for cell in cells]
    rows, in_runs = np.unique(np.concatenate(each), return_counts=True)
    by = sum(np.isin(rows, group).astype(int) for group in each)
    order = np.lexsort((rows, -in_runs, -by))[:most]
    true = _true_classes(cells)
    total = sum(len(cell.runs) for cell in cells)
    return [
        (int(rows[k]), classes[true[int(rows[k])]], f"{by[k]} of {len(cells)}", int(in_runs[k]), total) for k in order
    ]


def _true_classes(cells: Sequence[Cell]) -> dict[int, int]:
    return {
        int(row): int(label)
        for cell in cells
        for run in cell.runs
        for round_ in run.rounds
        for row, label in zip(round_.rows, round_.true)
    }
