"""Figures of learning curves: accuracy by labels and by time, and a panel for each of many strategies."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sweeps.report.analysis import accuracies, accuracy
from sweeps.report.cells import BASELINE, Cell, Family, Setting
from sweeps.report.curves import band, learning_curve
from sweeps.report.picture import PANELS_A_ROW, Picture, bound, legend_below, save_all
from sweeps.report.style import Look, drawing, looks
from sweeps.report.wording import Estimated

MANY = 6
"""More curves than one can tell apart in one picture: each gets a panel of its own as well."""
BAND_SEEDS = 5
"""Seeds from which a band is drawn: of fewer it covers the whole picture, and each seed is a thin line instead."""
SECONDS_AXIS = "seconds of the run (embeddings, training, evaluation, selection)"
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
            ax.set_xlabel("labels" if against == "labels" else SECONDS_AXIS)
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
