"""Figures drawn from runs: learning curves, matrices, metrics by epoch, picks, time."""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from al.errors import UserError
from al.records import METRICS, SPLITS
from sweeps.report.analysis import accuracies, accuracy
from sweeps.report.cells import BASELINE, Cell, Family, Setting
from sweeps.report.curves import band, learning_curve
from sweeps.report.style import Look, drawing, looks, save
from sweeps.report.tables import cells_of, overlap, phase_seconds, titled
from sweeps.report.wording import Estimated


class Picture(NamedTuple):
    """A figure that can be drawn: `draw(path)` writes it as the path's suffix says."""

    name: str
    title: str
    alt: str
    draw: Callable[[Sequence[Path]], None]


def learning_curve_png(results_dir: str | Path, cells: Iterable[str] | None, path: str | Path) -> Path:
    """Draws accuracy against labels and against seconds for the cells of a results folder, and returns the path.

    Raises:
        UserError: there is no complete run among them.
    """
    found = cells_of(results_dir, cells)
    if not found:
        raise UserError(f"results-dir={str(results_dir)!r}: no complete run of the cells wanted; run the sweep first")
    path = Path(path)
    _curves(found, (), [path])
    return path


# Learning curves


MANY = 6
"""More curves than one can tell apart in one picture: each gets a panel of its own as well."""
PANELS_A_ROW = 4
BAND_SEEDS = 5
"""Seeds from which a band is drawn: of fewer it covers the whole picture, and each seed is a thin line instead."""
WIDE = 16
"""Largest over smallest label count from which the axis of labels is logarithmic."""


def curve_pictures(family: Family) -> list[Picture]:
    """One picture a setting: accuracy against labels and against seconds; of many strategies a second one."""
    pictures = []
    for setting in family.settings:
        title = f"Learning curves: {setting.title}"
        names = ", ".join(cell.label for cell in setting.everyone)
        alt = f"{title}. Test accuracy in percent by labels and by seconds for {names}; "
        alt += f"mean with 95 % band, below {BAND_SEEDS} seeds a thin line for every seed."
        points = _baseline_points(setting, family)
        draw = bound(_curves, setting.everyone, points)
        pictures.append(Picture(f"curves_{setting.slug}", title, alt, draw))
        if len(setting.cells) > MANY:
            pictures.append(_panel_picture(setting))
    return pictures


def _panel_picture(setting: Setting) -> Picture:
    reference = next((cell for cell in setting.cells if cell.label == "random"), setting.cells[0])
    title = f"Each strategy against {reference.label}: {setting.title}"
    alt = f"{title}. A panel for each strategy: mean test accuracy in percent by labels with 95 % band."
    others = [cell for cell in setting.cells if cell is not reference]
    return Picture(f"each_{setting.slug}", title, alt, bound(_panels, others, reference))


def _panels(cells: Sequence[Cell], reference: Cell, paths: Sequence[Path]) -> None:
    """A panel for each of `cells`, black on the grey of `reference`."""
    rows = -(-len(cells) // PANELS_A_ROW)
    own, grey = Look("#000000", "o", "-", ""), Look("#8A8A8A", "X", "--", "")
    with drawing(11, 0.9 + 2.3 * rows, rows, PANELS_A_ROW, sharex=True, sharey=True) as (figure, axes):
        for ax in axes.flat[len(cells) :]:
            ax.set_axis_off()
        for number, (ax, cell) in enumerate(zip(axes.flat, cells)):
            _draw_band(ax, reference, "labels", grey, label=reference.label)
            _draw_band(ax, cell, "labels", own, label="the strategy of the panel")
            _scale_labels(ax, [*cells, reference])
            ax.set_title(cell.label)
            if number + PANELS_A_ROW >= len(cells):  # nothing below it
                ax.set_xlabel("labels")
                ax.tick_params(labelbottom=True)
        for ax in axes[:, 0]:
            ax.set_ylabel("test accuracy (%)")
        axes[0, 0].set_ylim(*_limits([*cells, reference]))
        legend_below(figure, axes[0, 0])
        save_all(figure, paths)


def _scale_labels(ax, cells: Sequence[Cell]) -> None:
    """From 0, or logarithmic with plain numbers where the first and the last count are far apart."""
    counts = np.concatenate([band(cell).x for cell in cells])
    if len(counts) == 0 or counts.max() < WIDE * counts.min():
        ax.set_xlim(left=0)
        return
    ax.set_xscale("log")
    ax.set_xlim(counts.min() / 1.15, counts.max() * 1.15)
    ax.xaxis.set_major_formatter("{x:,.0f}")


def bound(function: Callable, *arguments) -> Callable[[Sequence[Path]], None]:
    return lambda paths: function(*arguments, paths)


def _baseline_points(setting: Setting, family: Family) -> tuple[Cell, ...]:
    """Baselines of smaller balanced variants: stratified sampling's own learning curve, one training each."""
    if not setting.config.shares.balanced:
        return ()
    most = max(run.labels for cell in setting.everyone for run in cell.runs)
    return tuple(
        cell
        for cell in family.baselines
        if cell is not setting.baseline
        and cell.config.shares.balanced
        and cell.config.class_weights == setting.config.class_weights
        and cell.runs[0].labels <= most
    )


def _curves(cells: Sequence[Cell], others: Sequence[Cell], paths: Sequence[Path]) -> None:
    with drawing(11, 4.8, columns=2, sharey=True) as (figure, axes):
        look = looks([cell.label for cell in cells])
        for ax, against in zip(axes[0], ("labels", "seconds")):
            for cell in cells:
                draw = _draw_point if cell.config.method.baseline else _draw_band
                draw(ax, cell, against, look[cell.label])
            for cell in others:
                _draw_point(ax, cell, against, looks([BASELINE])[BASELINE], size=8, label=None)
            ax.set_title(f"Test accuracy by {'labels' if against == 'labels' else 'time'}")
            ax.set_xlabel("labels" if against == "labels" else "seconds of the run (training, evaluation, selection)")
            ax.set_xlim(left=0)
        _scale_labels(axes[0, 0], [cell for cell in cells if not cell.config.method.baseline])
        axes[0, 0].set_ylabel("test accuracy (%)")
        axes[0, 0].set_ylim(*_limits([*cells, *others]))
        legend_below(figure, axes[0, 0])
        save_all(figure, paths)


def _limits(cells: Sequence[Cell]) -> tuple[float, float]:
    """Of the accuracies that were seen: an interval from three seeds can be far wider, and is cut off."""
    curves = [learning_curve(run).accuracy for cell in cells for run in cell.runs if not cell.config.method.baseline]
    seen = np.concatenate([*curves, *(cell.values(accuracy) for cell in cells)])
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    room = max(0.06 * (high - low), 0.5)
    return low - room, high + room


def save_all(figure, paths: Sequence[Path]) -> None:
    for path in paths:
        save(figure, path)


def _draw_band(ax, cell: Cell, against: str, look: Look, label: str | None = None) -> None:
    curve = band(cell, against)
    if len(curve.x) == 0:
        return
    style = {"color": look.colour, "marker": look.marker, "linestyle": look.line}
    style["markevery"] = max(1, len(curve.x) // 10)
    ax.plot(curve.x, curve.mean, label=label or _with_seeds(cell), linewidth=1.6, markersize=5, **style)
    if len(cell.runs) >= BAND_SEEDS:
        ax.fill_between(curve.x, curve.low, curve.high, color=look.colour, alpha=0.15, linewidth=0)
    elif len(cell.runs) > 1:
        for run in cell.runs:
            single = learning_curve(run)
            ax.plot(getattr(single, against), single.accuracy, color=look.colour, linewidth=0.6, alpha=0.6)


def _draw_point(ax, cell: Cell, against: str, look: Look, size: float = 12, label: str | None = "") -> None:
    reached = accuracies(cell)
    x = float(cell.values(lambda run: getattr(run, against)).mean())
    style = {"color": look.colour, "marker": look.marker, "linestyle": "none", "markersize": size, "capsize": 4}
    ax.errorbar(
        [x], [reached.mean], yerr=whiskers(reached), label=_with_seeds(cell) if label == "" else None, zorder=5, **style
    )
    if label == "":
        ax.axhline(reached.mean, color=look.colour, linestyle=look.line, linewidth=0.8)


def whiskers(found: Estimated) -> list[list[float]] | None:
    """How far an interval reaches below and above its mean, as error bars take it; None where there is none."""
    if np.isnan(found.low) or np.isnan(found.high):
        return None
    return [[found.mean - found.low], [found.high - found.mean]]


def _with_seeds(cell: Cell) -> str:
    return f"{cell.label} ({len(cell.runs)} seed{'s' * (len(cell.runs) > 1)})"


def legend_below(figure, ax, columns: int = 5, last: str = "") -> None:
    """One legend under the whole figure, so that it covers no data; the entry `last` comes last."""
    handles, labels = ax.get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    if last in unique:
        unique[last] = unique.pop(last)
    if unique:
        figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=min(len(unique), columns))


# Matrices


def matrix_size(classes: int) -> float:
    return min(9.0, 2.2 + 0.3 * classes)


def draw_matrix(ax, counts: np.ndarray, names: Sequence[str], title: str, xlabel: str, ylabel: bool = True) -> None:
    """Rows as percent of the row's sum; numbers where they fit."""
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
    _name_axes(ax, names, names, ylabel)
    ax.set_title(title)
    ax.set_xlabel(xlabel)
    if ylabel:
        ax.set_ylabel("true class")
    if len(names) <= 12:
        _write_cells(ax, share, "{:.0f}")


def _name_axes(ax, columns: Sequence[str], rows: Sequence[str], ylabel: bool = True) -> None:
    step = max(1, len(columns) // 25)
    ax.set_xticks(range(0, len(columns), step), [_short(name) for name in columns[::step]], rotation=90)
    ax.set_yticks(range(0, len(rows), step), [_short(name) for name in rows[::step]] if ylabel else [])
    ax.grid(visible=False)


def _short(name: str, most: int = 18) -> str:
    # A dollar sign would start mathematics.
    name = name if len(name) <= most else name[: most - 1] + "…"
    return name.replace("$", r"\$")


def _write_cells(ax, values: np.ndarray, form: str, size: float = 7) -> None:
    """Writes percentages into a matrix drawn from 0 to 100."""
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value) and (value >= 0.5 or form != "{:.0f}"):
            colour = "white" if value > 55 else "#222222"
            # Numbers lie inside their cells: measuring each of them for the layout would take most of the time.
            style = {"ha": "center", "va": "center", "fontsize": size, "color": colour, "in_layout": False}
            ax.text(j, i, form.format(value), **style)


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
        ax.set_xticks(range(len(classes)), [_short(name) for name in classes], rotation=rotation)
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
            _name_axes(ax, names, names)
            _write_cells(ax, 100 * matrix, "{:.1f}", size=9)
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
    ("train", "#0072B2", ""),
    ("evaluate", "#56B4E9", "//"),
    ("score", "#E69F00", ".."),
    ("cluster", "#009E73", "xx"),
    ("select", "#CC79A7", "\\\\"),
    ("checkpoint", "#6B6B6B", "--"),
    ("pictures", "#8C510A", "++"),
    ("tracking", "#BBBBBB", "oo"),
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
            range(len(rows)), [f"{_compact(title)} · {_short(cell.label, 30)}" for title, cell in rows], fontsize=8
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
