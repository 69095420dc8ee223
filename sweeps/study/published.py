"""The study's published numbers, and which of one's own settings they are about."""

import csv
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from al.config import RunConfig
from sweeps.report.load import Data, Run

REFERENCE = Path(__file__).parent / "reference"

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
    for row in _rows(REFERENCE / "paper_table2.csv"):
        variant = names[float(row["dataset_percent"]), row["distribution"]]
        key = Key(variant, row["strategy"], row["clip_init"] == "1", row["class_weights"] == "1")
        rows[key] = {name: float(value) for name, value in row.items() if name not in words}
    return rows


def key_of(config: RunConfig) -> Key:
    """The row of Table 2 that a configuration belongs to, if there is one."""
    clip = config.init == "clip" and not config.method.baseline
    return Key(config.variant, config.strategy, clip, config.class_weights)


def is_study_data(data: Data) -> bool:
    """Whether the published numbers are about these images: CIFAR-10's, downloaded or as files in folders."""
    return data.train == 50_000 and set(data.classes) == set(published_zero_shot().classes)


def published(run: Run) -> dict[str, float] | None:
    """The published numbers about a configuration: same data, variant, strategy, start, weights and stopping rule."""
    config = run.config
    if not is_study_data(run.data) or config.init == "random" or config.budget is not None:
        return None
    if not config.method.baseline and (config.stop == "baseline") == config.shares.balanced:
        return None
    return table2().get(key_of(config))


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
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
    return _zero_shot(REFERENCE / "clip_paper_confusion.csv", REFERENCE / "clip_paper_statistics.csv")


def own_zero_shot(results_dir: str | Path) -> list[ZeroShot]:
    """Every set of zero-shot labels that `python -m data_prep clip` reported on in `<results_dir>/clip/<key>/`."""
    found = []
    for transitions in sorted((Path(results_dir) / "clip").glob("*/clip_transitions.csv")):
        folder = transitions.parent
        with suppress(OSError, KeyError, ValueError):  # unreadable or of another version: as if it were not there
            found.append(_zero_shot(transitions, folder / "clip_statistics.csv", folder / "clip_confidences.csv"))
    return found


def _zero_shot(transitions: Path, statistics: Path, histogram: Path | None = None) -> ZeroShot:
    rows = _rows(transitions)
    classes = tuple(name for name in rows[0] if name != "true\\clip")
    confidence = {row["class"]: float(row["mean_confidence"]) for row in _rows(statistics)}
    bins = _rows(histogram) if histogram else []
    return ZeroShot(
        classes,
        tuple(tuple(int(row[name]) for name in classes) for row in rows),
        tuple(confidence[name] for name in classes),
        tuple((float(row["from"]), float(row["to"]), int(row["images"])) for row in bins),
    )
