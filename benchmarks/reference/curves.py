"""Compute learning curves with the suite's own run, in this process; and hold them against the kept ones.

Kept are the curves of 20 seeds for each strategy. On one processor with the same libraries the curves of a seed come
out the same to the last digit. Elsewhere rounding makes some picks others. So the mean area over five seeds is compared
with that of the same seeds as kept, and may have moved by 0.75 standard deviations of the area over all seeds: the
oldest kernels of one processor in place of its newest moved it by 0.28 standard deviations at most.
"""

import atexit
import csv
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from al.config import RunConfig
from al.records import learning_curve
from al.strategies import REGISTRY
from benchmarks.reference import toy_sets
from benchmarks.runs import run_here
from sweeps.report.statistics import area, mean_interval

HERE = Path(__file__).parent
SEEDS = range(1, 21)
CHECKED = SEEDS[:5]
STRATEGIES = tuple(name for name, method in REGISTRY.items() if not method.baseline)
SPREADS = 0.75
"""Standard deviations over seeds that the mean area of the checked seeds may move."""
LEAST = 0.05
"""Points that an area may move in any case, where its seeds hardly differ."""


class Point(NamedTuple):
    """Of one seed's learning curve: test accuracy in percent."""

    strategy: str
    seed: int
    labels: int
    accuracy: float


@dataclass(frozen=True)
class Bench:
    """A data set with frozen embeddings, and how strategies are run on it."""

    name: str
    parameters: Mapping[str, object]
    strategies: tuple[str, ...] = STRATEGIES

    def images(self) -> dict[str, object]:
        """Where the images and embeddings are; those of a toy set are written when they are first asked for."""
        if self.parameters["dataset"] == "digits":
            return {}
        folder = _toy_set(self.name)
        return {"data_dir": f"{folder / 'images'}", "features": f"file:{folder / 'features.npz'}"}

    @property
    def file(self) -> Path:
        return HERE / f"{self.name}.csv"

    def kept(self) -> list[Point]:
        with self.file.open(newline="") as file:
            return [
                Point(row["strategy"], int(row["seed"]), int(row["labels"]), float(row["accuracy"]))
                for row in csv.DictReader(file)
            ]

    def keep(self, points: Iterable[Point]) -> None:
        lines = [",".join(Point._fields), *(f"{p.strategy},{p.seed},{p.labels},{p.accuracy!r}" for p in points)]
        self.file.write_text("\n".join(lines) + "\n")

    def curve(self, strategy: str, seed: int) -> list[Point]:
        """The learning curve of one run, made in this process, without pictures."""
        with tempfile.TemporaryDirectory() as folder:
            chosen = {"strategy": strategy, "split_seed": seed, "results_dir": folder, "pictures": False}
            config = RunConfig.from_mapping({**self.parameters, **self.images(), **chosen})
            epochs = learning_curve(run_here(config).epochs.read())
        return [Point(strategy, seed, epoch.labels, epoch.test["accuracy"]) for epoch in epochs]


COMMON = {"model": "frozen", "init": "random", "device": "cpu", "precision": "float32", "batch_growth": 2.0}
DIGITS = Bench(
    "digits",
    {
        **COMMON,
        "dataset": "digits",
        "features": f"file:{HERE / 'digits.npz'}",
        "variant": "balanced_25.5",
        "budget": 320,
        "initial_min": 20,
        "initial_fraction": 20 / 320,
        "batch_fraction": 20 / 320,
    },
)
"""The digits of scikit-learn as 32 principal components; 20, 40, 80, 160 and 320 labels."""

TOY = {
    **COMMON,
    "dataset": "imagefolder",
    "variant": "balanced_100",
    "initial_min": 4,
    "batch_growth": 1.0,
    "weight_decay": 1e-4,
}
CDALBENCH = ("random", "margin", "entropy", "coreset", "typiclust_typical", "badge", "bald")
"""What CDALBench compares, of what is in the registry."""
THREE_CLUST = Bench("three_clust", {**TOY, "budget": 100, "initial_fraction": 0.04, "batch_fraction": 0.04}, CDALBENCH)
DIVERGING_SIN = Bench(
    "diverging_sin", {**TOY, "budget": 80, "initial_fraction": 0.05, "batch_fraction": 0.05}, CDALBENCH
)
"""Four first labels, and four a round."""
BENCHES = {bench.name: bench for bench in (DIGITS, THREE_CLUST, DIVERGING_SIN)}


@cache
def _toy_set(name: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    toy_sets.write(name, folder)
    return folder


def areas(points: Iterable[Point]) -> dict[str, dict[int, float]]:
    """By strategy and seed the area under the curve, divided by its width: the mean accuracy in percent."""
    curves: dict[str, dict[int, list[Point]]] = {}
    for point in points:
        curves.setdefault(point.strategy, {}).setdefault(point.seed, []).append(point)
    return {
        strategy: {seed: area([p.labels for p in curve], [p.accuracy for p in curve]) for seed, curve in seeds.items()}
        for strategy, seeds in curves.items()
    }


@dataclass(frozen=True)
class Comparison:
    """The area of one strategy, over the same seeds then and now."""

    strategy: str
    then: float
    now: float
    allowed: float
    same: bool
    """Whether every seed's area is the same to the last digit."""

    @property
    def holds(self) -> bool:
        return abs(self.now - self.then) <= self.allowed

    def __str__(self) -> str:
        verdict = "the same" if self.same else "within" if self.holds else "MOVED"
        return (
            f"{self.strategy:18} {self.then:6.2f} -> {self.now:6.2f}   moved {self.now - self.then:+6.2f}, "
            f"may move {self.allowed:5.2f}   {verdict}"
        )


def compare(strategy: str, kept: Mapping[int, float], found: Mapping[int, float]) -> Comparison:
    """Hold the areas of some seeds, `found`, against those kept of all seeds."""
    seeds = sorted(found)
    spread = float(np.std(list(kept.values()), ddof=1))
    allowed = max(SPREADS * spread, LEAST)
    then, now = (float(np.mean([values[seed] for seed in seeds])) for values in (kept, found))
    return Comparison(strategy, then, now, allowed, all(kept[seed] == found[seed] for seed in seeds))


def check(bench: Bench, strategy: str, seeds: Sequence[int] = CHECKED) -> Comparison:
    """Recompute some seeds of a strategy and compare them with what is kept."""
    found = areas(point for seed in seeds for point in bench.curve(strategy, seed))
    return compare(strategy, areas(bench.kept())[strategy], found[strategy])


class MeanArea(NamedTuple):
    """Of one strategy over all its seeds; what it is ahead of random sampling, paired by seed, with a 95 % interval."""

    strategy: str
    area: float
    ahead: float
    half: float


def mean_areas(points: Iterable[Point]) -> list[MeanArea]:
    """The largest first."""
    found = areas(points)
    rows = []
    for strategy, by_seed in found.items():
        ahead = mean_interval([by_seed[seed] - found["random"][seed] for seed in by_seed])
        rows.append(MeanArea(strategy, float(np.mean(list(by_seed.values()))), ahead.mean, ahead.mean - ahead.low))
    return sorted(rows, key=lambda row: -row.area)
