"""Every live chart, what they all draw as one piece of JSON, and the scripts that draw it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sweeps.report.analysis import Analysis
from sweeps.report.charts.calibration import calibration
from sweeps.report.charts.classes import class_recalls
from sweeps.report.charts.curves import curves
from sweeps.report.charts.differences import differences
from sweeps.report.charts.needs import needs
from sweeps.report.charts.phases import phases
from sweeps.report.charts.places import places
from sweeps.report.style import ON_DARK, Look, looks

HERE = Path(__file__).parent
VENDOR = HERE.parent / "vendor"
LIBRARIES = ("d3.min.js", "plot.umd.min.js")


class LiveChart(NamedTuple):
    """A chart that answers its reader; `data` says what it draws of one setting, None where there is nothing."""

    title: str
    data: Callable[[Analysis], object | None]


CHARTS = {
    "curves": LiveChart("By labels, time or money", curves),
    "differences": LiveChart("Differences, seed by seed", differences),
    "needs": LiveChart("Labels needed for a target", needs),
    "calibration": LiveChart("Calibration", calibration),
    "classes": LiveChart("Recall by class", class_recalls),
    "places": LiveChart("Where the picks lie", places),
    "phases": LiveChart("Seconds by phase", phases),
}
"""By the name of the script that draws it, which is the name of its part of the data too."""


@dataclass(frozen=True)
class Tint:
    """The colours of a strategy, on a light and on a dark page."""

    light: str
    dark: str


def scripts() -> tuple[str, ...]:
    """The texts of the page's scripts, in the order in which they run."""
    own = [HERE / f"{name}.js" for name in ("core", *CHARTS, "tables", "gallery", "folding", "controls")]
    return tuple(file.read_text(encoding="utf-8").strip() for file in [*(VENDOR / name for name in LIBRARIES), *own])


def tints(analyses: Sequence[Analysis]) -> tuple[Tint, ...]:
    """Of every strategy, by the number that its look in the data has."""
    return tuple(Tint(look.colour, ON_DARK.get(look.colour, look.colour)) for look in _looks(analyses).values())


def chart_data(analyses: Sequence[Analysis]) -> str:
    """All that the charts draw, as JSON that is safe within a script element."""
    styles = {
        label: {"colour": number, "dash": look.dashes, "symbol": look.symbol}
        for number, (label, look) in enumerate(_looks(analyses).items())
    }
    settings = [_setting(analysis) for analysis in analyses]
    content = plain({"looks": styles, "settings": settings})
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _looks(analyses: Sequence[Analysis]) -> dict[str, Look]:
    return looks(list(dict.fromkeys(cell.label for analysis in analyses for cell in analysis.setting.everyone)))


def _setting(analysis: Analysis) -> dict[str, object]:
    labels = [cell.label for cell in analysis.setting.everyone]
    made = {"title": analysis.setting.title, "strategies": labels, "reference": analysis.control}
    return made | {name: chart.data(analysis) for name, chart in CHARTS.items()}


def plain(value: object) -> object:
    """As JSON has it: records by field, numbers with five digits, None for NaN."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return _short(float(value))
    return value.item() if isinstance(value, np.integer | np.bool_) else value


def _short(value: float) -> float | int | None:
    if not np.isfinite(value):
        return None
    # An integer is exact however long; of the rest five digits are more than a screen shows.
    return int(value) if value.is_integer() else float(f"{value:.5g}")
