"""What all figures share: a picture that can be drawn, its legend, matrices with names and numbers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sweeps.report.style import save

PANELS_A_ROW = 4


class Picture(NamedTuple):
    """A figure that can be drawn: `draw(path)` writes it as the path's suffix says."""

    name: str
    title: str
    alt: str
    draw: Callable[[Sequence[Path]], None]


def bound(function: Callable, *arguments) -> Callable[[Sequence[Path]], None]:
    return lambda paths: function(*arguments, paths)


def save_all(figure, paths: Sequence[Path]) -> None:
    for path in paths:
        save(figure, path)


def legend_below(figure, ax, columns: int = 5, last: str = "") -> None:
    """One legend under the whole figure, so that it covers no data; the entry `last` comes last."""
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    if last in unique:
        unique[last] = unique.pop(last)
    if unique:
        figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=min(len(unique), columns))


def matrix_size(classes: int) -> float:
    return min(9.0, 2.2 + 0.3 * classes)


def draw_matrix(ax, counts: np.ndarray, names: Sequence[str], title: str, xlabel: str, ylabel: bool = True) -> None:
    """Rows as percent of the row's sum; numbers where they fit."""
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
    name_axes(ax, names, names, ylabel)
    ax.set_title(title)
    ax.set_xlabel(xlabel)
    if ylabel:
        ax.set_ylabel("true class")
    if len(names) <= 12:
        write_cells(ax, share, "{:.0f}")


def name_axes(ax, columns: Sequence[str], rows: Sequence[str], ylabel: bool = True) -> None:
    step = max(1, len(columns) // 25)
    ax.set_xticks(range(0, len(columns), step), [shortened(name) for name in columns[::step]], rotation=90)
    ax.set_yticks(range(0, len(rows), step), [shortened(name) for name in rows[::step]] if ylabel else [])
    ax.grid(visible=False)


def shortened(name: str, most: int = 18) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def write_cells(ax, values: np.ndarray, form: str, size: float = 7) -> None:
    """Writes percentages into a matrix drawn from 0 to 100."""
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value) and (value >= 0.5 or form != "{:.0f}"):
            colour = "white" if value > 55 else "#222222"
            # Numbers lie inside their cells: measuring each of them for the layout would take most of the time.
            style = {"ha": "center", "va": "center", "fontsize": size, "color": colour, "in_layout": False}
            ax.text(j, i, form.format(value), **style)
