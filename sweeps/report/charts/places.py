"""Where the picks lie in the pool: a sample of the pool, the first labels, and the picks of every strategy by round."""

from dataclasses import dataclass

import numpy as np

from sweeps.report.analysis import Analysis
from sweeps.report.load import Run
from sweeps.report.pool_map import PoolMap

MOST_POOL, MOST_PICKS = 400, 160
"""Points of the pool, and picks of a strategy, that a page holds."""


@dataclass(frozen=True)
class Points:
    """[n] places, in thousandths of the map's width, with what a reader may colour them by."""

    x: tuple[int, ...]
    y: tuple[int, ...]
    row: tuple[int, ...]
    kind: tuple[int, ...]
    """Number of the true class."""
    round: tuple[int, ...]
    """0: the first labels."""


@dataclass(frozen=True)
class Places:
    source: str
    seed: int
    classes: tuple[str, ...]
    pool: Points
    picks: dict[str, Points]
    """By strategy."""


def places(analysis: Analysis) -> Places | None:
    """The map of one split seed; None where the pool has none, or the runs say nothing of their picks."""
    found, setting = analysis.pool_map, analysis.setting
    cells = [cell for cell in setting.cells if len(cell.runs[0].rounds) > 1]
    if found is None or not cells:
        return None
    rows = np.sort(np.random.default_rng(0).permutation(len(found.points))[:MOST_POOL])
    pool = _points(found, rows, np.zeros(len(rows), int))
    picks = {cell.label: _picks(found, cell.runs[0]) for cell in cells}
    return Places(found.source, cells[0].runs[0].seed, tuple(cells[0].runs[0].data.classes), pool, picks)


def _picks(found: PoolMap, run: Run) -> Points:
    rows = np.concatenate([query.rows for query in run.rounds])
    rounds = np.concatenate([np.full(len(query.rows), query.round) for query in run.rounds])
    kept = np.linspace(0, len(rows) - 1, min(MOST_PICKS, len(rows))).round().astype(int)  # evenly over the rounds
    kept = kept[rows[kept] < len(found.points)]
    return _points(found, rows[kept], rounds[kept])


def _points(found: PoolMap, rows: np.ndarray, rounds: np.ndarray) -> Points:
    x, y = (1000 * found.points[rows]).round().astype(int).T
    columns = (x, y, rows, found.labels[rows], rounds)
    return Points(*(tuple(column.tolist()) for column in columns))
