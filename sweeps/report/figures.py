"""Figures drawn from runs, but for learning curves: confusion, metrics by epoch, picks, time."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from al.records import METRICS, SPLITS
from sweeps.report.analysis import accuracy
from sweeps.report.cells import Cell, Family, Setting
from sweeps.report.overlaps import overlap
from sweeps.report.picture import (
    PANELS_A_ROW,
    Picture,
    bound,
    draw_matrix,
    legend_below,
    matrix_size,
    name_axes,
    save_all,
    shortened,
    write_cells,
)
from sweeps.report.reliability import Reliability, reliability
from sweeps.report.style import Look, drawing, looks
from sweeps.report.tables import phase_seconds, titled

# Confusion


def confusion_pictures(family: Family, best: Sequence[Cell]) -> list[Picture]:
    """Test confusion matrices of the baseline and of the best strategy by setting, summed over the seeds."""
    pictures = []
    for setting in family.settings:
        cells = [setting.baseline, *(cell for cell in setting.cells if cell in best)]
        cells = [cell for cell in cells if cell is not None and _confusion(cell) is not None]
        if cells:
            title = f"Confusion on the test set: {setting.title}"
            alt = f"{title}. Percent of each true class by predicted class for {', '.join(c.label for c in cells)}."
            draw = bound(_draw_confusions, cells, family.classes)
            pictures.append(Picture(f"confusion_{setting.slug}", title, alt, draw))
    return pictures


def _confusion(cell: Cell) -> np.ndarray | None:
    matrices = [np.array(run.result.best.splits["test"].confusion_matrix) for run in cell.runs]
    return np.sum(matrices, axis=0) if all(matrix.size for matrix in matrices) else None


def _draw_confusions(cells: Sequence[Cell], classes: Sequence[str], paths: Sequence[Path]) -> None:
    columns = min(3, len(cells))
    rows = -(-len(cells) // columns)
    size = matrix_size(len(classes)) * (0.85 if columns > 1 else 1)
    with drawing(size * columns + 0.8, (size + 0.2) * rows, rows, columns) as (figure, axes):
        for ax in axes.flat[len(cells) :]:
            ax.set_axis_off()
        for number, (ax, cell) in enumerate(zip(axes.flat, cells)):
            title = f"{cell.label}: {cell.values(accuracy).mean():.1f} %"
            draw_matrix(ax, _confusion(cell), classes, title, "predicted class", ylabel=number % columns == 0)
        save_all(figure, paths)


# Calibration


def calibration_pictures(family: Family) -> list[Picture]:
    """Reliability diagrams of the family's settings, as far as their runs have kept what it takes."""
    found = [
        (setting, bins)
        for setting in family.settings
        if (bins := [known for cell in setting.everyone if (known := reliability(cell))])
    ]
    if not found:
        return []
    title = f"Calibration: {family.title}"
    alt = f"{title}. Percent of the test images that are right by how sure the model is, a panel a setting, for "
    alt += ", ".join(dict.fromkeys(known.strategy for _, bins in found for known in bins))
    return [Picture(f"calibration_{family.slug}", title, alt, bound(_draw_reliability, found))]


def _draw_reliability(found: Sequence[tuple[Setting, list[Reliability]]], paths: Sequence[Path]) -> None:
    columns = min(PANELS_A_ROW, len(found))
    rows = -(-len(found) // columns)
    look = looks(list(dict.fromkeys(cell.label for setting, _ in found for cell in setting.everyone)))
    share = {"sharex": True, "sharey": True}
    with drawing(max(5.2, 2.6 * columns), 0.9 + 2.6 * rows + 1.6 * (rows == 1), rows, columns, **share) as (
        figure,
        axes,
    ):
        for ax in axes.flat[len(found) :]:
            ax.set_axis_off()
        for ax, (setting, bins) in zip(axes.flat, found):
            ax.plot([0, 100], [0, 100], color="#8A8A8A", linewidth=0.8, linestyle="--")
            for known in bins:
                style = look[known.strategy]
                told = {"label": known.strategy, "color": style.colour, "marker": style.marker, "linestyle": style.line}
                ax.plot(known.confidence, known.right, markersize=4, linewidth=1.2, **told)
            ax.set_title(_wrapped(setting, 26), fontsize=8.5)
        for ax in axes[-1]:
            ax.set_xlabel("how sure (%)")
        for ax in axes[:, 0]:
            ax.set_ylabel("how often right (%)")
        legend_below(figure, axes[0, 0])
        save_all(figure, paths)


# By epoch


SPLIT_LOOKS = {
    "train": Look("#0072B2", "o", "-", ""),
    "val": Look("#E69F00", "s", "--", ""),
    "test": Look("#3A3A3A", "^", "-.", ""),
}


def epoch_pictures(family: Family, best: Sequence[Cell]) -> list[Picture]:
    """Metrics by epoch for each of the cells given, mean over the seeds with one standard deviation."""
    titles = {id(cell): setting.title for setting in family.settings for cell in setting.cells}
    pictures = []
    for cell in best:
        title = f"Metrics by epoch: {titles.get(id(cell), cell.config.variant)}, {cell.label}"
        alt = f"{title}. All metrics on training, validation and test images."
        name = f"epochs_{cell.name}"
        pictures.append(Picture(name, title, alt, bound(_draw_epochs, cell)))
    return pictures


def _draw_epochs(cell: Cell, paths: Sequence[Path]) -> None:
    rows = -(-len(METRICS) // PANELS_A_ROW)
    with drawing(13, 0.5 + 3 * rows, rows, PANELS_A_ROW) as (figure, axes):
        for ax in axes.flat[len(METRICS) :]:
            ax.set_axis_off()
        for ax, metric in zip(axes.flat, METRICS.values()):
            for split in SPLITS:
                _draw_epoch_band(ax, cell, split, metric.name)
            ax.set(title=metric.title, xlabel="epoch")
        legend_below(figure, axes[0, 0])
        save_all(figure, paths)


def _draw_epoch_band(ax, cell: Cell, split: str, metric: str) -> None:
    """Mean over the seeds, and a band of one standard deviation, as far as every seed goes."""
    columns = [run.column(split, metric) for run in cell.runs]
    shortest = min(map(len, columns))
    values = np.array([column[:shortest] for column in columns])
    if shortest == 0 or np.isnan(values).all():
        return
    x, mean, look = np.arange(1, shortest + 1), values.mean(axis=0), SPLIT_LOOKS[split]
    every = max(1, shortest // 8)
    style = {"color": look.colour, "marker": look.marker, "linestyle": look.line, "markevery": every, "markersize": 4}
    ax.plot(x, mean, label=split, **style)
    if len(values) > 1:
        std = values.std(axis=0, ddof=1)
        ax.fill_between(x, mean - std, mean + std, color=look.colour, alpha=0.15, linewidth=0)


# Picks


def pick_pictures(family: Family) -> list[Picture]:
    """Class mix of the picks by setting, and one picture of how much the strategies' picks overlap."""
    made, compared = [], []
    for setting in family.settings:
        cells = [cell for cell in setting.cells if all(len(run.rounds) > 1 for run in cell.runs)]
        if cells:
            title = f"Classes of the picks: {setting.title}"
            alt = f"{title}. Share of each class among the acquired images; a line marks the initial pool's share."
            draw = bound(_draw_mix, cells, family.classes)
            made.append(Picture(f"class_mix_{setting.slug}", title, alt, draw))
        compared += [setting] if len(cells) > 1 else []
    if compared:
        title = f"Overlap of the picks: {family.title}"
        alt = f"{title}. Images that both strategies of a pair acquired, in percent of either's; mean over seeds."
        made.append(Picture(f"overlap_{family.slug}", title, alt, bound(_draw_overlaps, compared)))
    return made


def class_mix(cell: Cell, classes: int) -> np.ndarray:
    """[C] percent of the acquired images in each class, after the initial pool, mean over the seeds."""
    shares = []
    for run in cell.runs:
        _, true = run.queried
        shares.append(100 * np.bincount(true, minlength=classes) / len(true))
    return np.mean(shares, axis=0)


def _draw_mix(cells: Sequence[Cell], classes: Sequence[str], paths: Sequence[Path]) -> None:
    look = looks([cell.label for cell in cells])
    width = 0.8 / len(cells)
    with drawing(max(7.0, 1.5 + 0.17 * len(classes) * (len(cells) + 1)), 4.6) as (figure, axes):
        ax = axes[0, 0]
        for number, cell in enumerate(cells):
            style = look[cell.label]
            x = np.arange(len(classes)) + (number - (len(cells) - 1) / 2) * width
            paint = {"color": style.colour, "hatch": style.hatch, "edgecolor": "white", "linewidth": 0.5}
            ax.bar(x, class_mix(cell, len(classes)), width * 0.92, label=cell.label, **paint)
        _mark_pool(ax, cells[0], len(classes))
        rotation = 90 if sum(map(len, classes)) > 90 else 0
        ax.set_xticks(range(len(classes)), [shortened(name) for name in classes], rotation=rotation)
        ax.grid(axis="x", visible=False)
        ax.set(title="Classes of the acquired images", ylabel="share of the picks (%)")
        legend_below(figure, ax)
        save_all(figure, paths)


def _mark_pool(ax, cell: Cell, classes: int) -> None:
    """The initial pool is a stratified draw from what may be labelled: its mix stands for the pool's."""
    start = np.concatenate([run.rounds[0].true for run in cell.runs])
    mix = 100 * np.bincount(start, minlength=classes) / max(len(start), 1)
    style = {"color": "black", "marker": "_", "markersize": 22, "markeredgewidth": 2, "linestyle": "none"}
    ax.plot(range(classes), mix, label="initial pool", zorder=6, **style)


def _draw_overlaps(settings: Sequence[Setting], paths: Sequence[Path]) -> None:
    found = [overlap(setting) for setting in settings]
    columns = min(4, len(found))
    rows = -(-len(found) // columns)
    size = 1.9 + 0.42 * max(len(names) for names, _ in found)
    with drawing(max(4.5, size * columns), (size + 0.3) * rows, rows, columns) as (figure, axes):
        for ax in axes.flat[len(found) :]:
            ax.set_axis_off()
        for ax, setting, (names, matrix) in zip(axes.flat, settings, found):
            np.fill_diagonal(matrix, np.nan)
            ax.imshow(100 * matrix, cmap="Blues", vmin=0, vmax=100)
            name_axes(ax, names, names)
            write_cells(ax, 100 * matrix, "{:.1f}", size=9)
            ax.set_title(_wrapped(setting, 26), fontsize=8.5)
        figure.suptitle("Images picked by both (% of those picked by either)", fontsize=11)
        save_all(figure, paths)


def _wrapped(setting: Setting, width: int) -> str:
    title = _compact(setting.title.removeprefix(f"{setting.config.data_name} "))
    return "\n".join(textwrap.wrap(title, width))


# Time


def time_pictures(family: Family) -> list[Picture]:
    """Stacked seconds by phase, one row a cell."""
    rows = [(title.removeprefix(f"{cell.config.data_name} "), cell) for title, cell in titled([family])]
    if not rows:
        return []
    title = f"Time by phase: {family.title}"
    alt = f"{title}. Stacked bars of training, evaluation, scoring, clustering and the rest of selection."
    return [Picture(f"time_by_phase_{family.slug}", title, alt, bound(_draw_phases, rows))]


PHASE_LOOKS = (
    ("embed", "#3A3A3A", "**"),
    ("train", "#0072B2", ""),
    ("evaluate", "#56B4E9", "//"),
    ("score", "#E69F00", ".."),
    ("cluster", "#009E73", "xx"),
    ("select", "#CC79A7", "\\\\"),
    ("checkpoint", "#6B6B6B", "--"),
    ("pictures", "#8C510A", "++"),
    ("tracking", "#BBBBBB", "oo"),
    ("rest", "#DDDDDD", ""),
)


def _draw_phases(rows: Sequence[tuple[str, Cell]], paths: Sequence[Path]) -> None:
    with drawing(9.5, 1.6 + 0.26 * len(rows)) as (figure, axes):
        ax = axes[0, 0]
        left = np.zeros(len(rows))
        for phase, colour, hatch in PHASE_LOOKS:
            values = np.array([own_seconds(cell, phase) for _, cell in rows])
            if not values.any():
                continue
            label = "select, rest" if phase == "select" else phase
            style = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.4}
            ax.barh(range(len(rows)), values, 0.75, left, label=label, **style)
            left += values
        ax.set_yticks(
            range(len(rows)), [f"{_compact(title)} · {shortened(cell.label, 30)}" for title, cell in rows], fontsize=8
        )
        ax.invert_yaxis()
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.set(title="Seconds by phase, mean of a run", xlabel="seconds")
        legend_below(figure, ax)
        save_all(figure, paths)


def own_seconds(cell: Cell, phase: str) -> float:
    """Seconds of a phase without the phase inside it."""
    inside = phase_seconds(cell, "cluster") if phase == "select" else 0.0
    return max(0.0, phase_seconds(cell, phase) - inside)


def _compact(title: str) -> str:
    return title.replace("until the baseline is beaten", "to baseline").replace("class weights", "weighted")
