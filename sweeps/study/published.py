"""The study's published numbers, and the runs of ours that they belong to."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from al.config import RunConfig
from al.records import DataDescription
from sweeps.report.cells import Family
from sweeps.report.load import Run
from sweeps.report.zero_shot import ZeroShot, read_zero_shot

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
    words = ["dataset_percent", "distribution", "strategy", "clip_init", "class_weights"]
    table = pd.read_csv(REFERENCE / "paper_table2.csv").set_index(words).astype(float)
    return {
        Key(names[percent, distribution], strategy, clip == 1, weights == 1): dict(row)
        for (percent, distribution, strategy, clip, weights), row in table.iterrows()
    }


def key_of(config: RunConfig) -> Key:
    """The row of Table 2 that a configuration belongs to, if there is one."""
    clip = config.init == "clip" and not config.method.baseline
    return Key(config.variant, config.strategy, clip, config.class_weights)


def is_study_data(data: DataDescription) -> bool:
    """Whether the published numbers are about these images: CIFAR-10's, downloaded or as files in folders."""
    return data.train == 50_000 and set(data.classes) == set(published_zero_shot().classes)


def is_study(family: Family) -> bool:
    """Whether the published numbers are about the images of this family."""
    return is_study_data(family.everyone[0].runs[0].data)


def has_clip_start(family: Family) -> bool:
    """Whether runs started from CLIP's labels of CIFAR-10's classes, on whichever of its images."""
    return set(family.classes) == set(published_zero_shot().classes) and bool(family.find(init="clip"))


def published(run: Run) -> dict[str, float] | None:
    """The published numbers about a run's configuration: variant, strategy, start, weights and stopping rule."""
    config = run.config
    if config.init == "random" or config.budget is not None:
        return None
    if not config.method.baseline and (config.stop == "baseline") == config.shares.balanced:
        return None
    return table2().get(key_of(config))


@cache
def published_zero_shot() -> ZeroShot:
    """Figures 6 and 7 of the study."""
    return read_zero_shot(REFERENCE / "clip_paper_confusion.csv", REFERENCE / "clip_paper_statistics.csv")
