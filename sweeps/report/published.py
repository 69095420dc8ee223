"""The study's published numbers, and which of one's own settings they are about."""

import csv
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from al.config import RunConfig

REFERENCE = Path(__file__).parents[1] / "reference"

VARIANTS = {
    "balanced_100": (100.0, 50_000, "balanced"),
    "balanced_75": (75.0, 37_500, "balanced"),
    "balanced_50": (50.0, 25_000, "balanced"),
    "balanced_25": (25.0, 12_500, "balanced"),
    "balanced_10": (10.0, 5_000, "balanced"),
    "balanced_5": (5.0, 2_500, "balanced"),
    "balanced_3": (3.0, 1_500, "balanced"),
    "balanced_1": (1.0, 500, "balanced"),
    "imbalanced_3_1": (2.6, 1_300, "8C@3%_2C@1%"),
    "imbalanced_10_1": (8.2, 4_100, "8C@10%_2C@1%"),
    "imbalanced_50_1": (40.2, 20_100, "8C@50%_2C@1%"),
}
"""Table 1 of the study: percent of the training set, images, distribution."""


class Key(NamedTuple):
    """What tells the rows of Table 2 apart."""

    variant: str
    strategy: str
    clip: bool
    weights: bool


@cache
def table2() -> dict[Key, dict[str, float]]:
    """Table 2 by row: accuracies in percent, precision, recall and F1 as fractions, seconds."""
    names = {(percent, distribution): name for name, (percent, _, distribution) in VARIANTS.items()}
    words = ("dataset_percent", "distribution", "strategy", "clip_init", "class_weights")
    rows = {}
    for row in _rows("paper_table2.csv"):
        variant = names[float(row["dataset_percent"]), row["distribution"]]
        key = Key(variant, row["strategy"], row["clip_init"] == "1", row["class_weights"] == "1")
        rows[key] = {name: float(value) for name, value in row.items() if name not in words}
    return rows


def key_of(config: RunConfig) -> Key:
    """The row of Table 2 that a configuration belongs to, if there is one."""
    clip = config.init == "clip" and not config.method.baseline
    return Key(config.variant, config.strategy, clip, config.class_weights)


def published(config: RunConfig) -> dict[str, float] | None:
    """The published numbers about a configuration: same data, variant, strategy, start, weights and stopping rule."""
    if config.dataset != "cifar10" or config.init == "random" or config.budget is not None:
        return None
    if not config.method.baseline and (config.stop == "baseline") == config.shares.balanced:
        return None
    return table2().get(key_of(config))


def _rows(name: str) -> list[dict[str, Any]]:
    with (REFERENCE / name).open(newline="") as file:
        return list(csv.DictReader(file))


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


@cache
def published_zero_shot() -> ZeroShot:
    """Figures 6 and 7 of the study."""
    return read_zero_shot(REFERENCE / "clip_paper_confusion.csv", REFERENCE / "clip_paper_statistics.csv")


def read_zero_shot(confusion: Path, statistics: Path, histogram: Path | None = None) -> ZeroShot:
    """Zero-shot labels from CSV files laid out as the published ones; `histogram` has columns low, high, images."""
    with confusion.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    confidence: tuple[float, ...] = ()
    if statistics.exists():
        with statistics.open(newline="") as file:
            confidence = tuple(float(row["mean_confidence"]) for row in csv.DictReader(file))
    bins: tuple = ()
    if histogram is not None and histogram.exists():
        with histogram.open(newline="") as file:
            bins = tuple((float(r["low"]), float(r["high"]), int(r["images"])) for r in csv.DictReader(file))
    return ZeroShot(tuple(header[1:]), tuple(tuple(int(n) for n in row[1:]) for row in rows), confidence, bins)


def own_zero_shot(results_dir: Path) -> ZeroShot | None:
    """The statistics that `python -m data_prep clip` leaves in `<results_dir>/clip`, if they are there."""
    folder = Path(results_dir) / "clip"
    if not (folder / "confusion.csv").exists():
        return None
    return read_zero_shot(folder / "confusion.csv", folder / "statistics.csv", folder / "histogram.csv")
