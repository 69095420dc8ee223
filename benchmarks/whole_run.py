"""A whole run: 5,000 labels of a pool of 50,000 on the study's schedule, both sides, from measured parts.

    python -m benchmarks.whole_run            # parts measured on a tenth of the pool, then added up: extrapolated
    python -m benchmarks.whole_run --full     # ours at full size as well, to hold the sum against

Ours are the seconds that `train.py` writes down by phase, and its wall time beside them. The usual stack's loop is
train, validate, test, score what is unlabelled, select; its start, its checkpoints and its logging count nothing.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from al.storage.disk_array import DiskArray
from al.strategies import REGISTRY, Pool
from benchmarks import measuring, synthetic, usual
from benchmarks.measuring import Measurement, Spread, Target, in_turn
from benchmarks.runs import Finished, train
from benchmarks.sides import both_sides

POOL, TEST = 50_000, 10_000
BUDGET, INITIAL, BATCH = 5000, 500, 250
EPOCHS = 29  # the study's mean at this budget is 28.8
VAL_FRACTION = 0.15
PART_POOL = 5000
THEIR_STEPS, THEIR_PART = 20, 1000
"""Steps of training, and images of one pass, that are timed of the usual stack."""
PART = {
    "dataset": "imagefolder",
    "dropout": 0.2,
    "variant": "balanced_100",
    "budget": 1750,
    "initial_min": INITIAL,
    "batch_fraction": 1 / 7,
    "max_epochs": 7,
}
"""Ours on a tenth of the pool: six epochs with 500 to 1,500 labels that end in a round of 250, one with 1,750."""
FULL = {
    **PART,
    "variant": "balanced_10",
    "batch_fraction": 0.05,
    "max_epochs": EPOCHS,
    "patience": EPOCHS,
    "budget": BUDGET,
}
TARGETS = {"uncertainty": Target("ratio", 6, 10), "typiclust": Target("ratio", 10, 16)}
RELATIVE = Target("value", 1.08, 1.03)


class Epoch(NamedTuple):
    """One epoch of the schedule."""

    labels: int
    acquires: bool

    @property
    def validation(self) -> int:
        return round(VAL_FRACTION * self.labels)

    @property
    def steps(self) -> int:
        return ceil((self.labels - self.validation) / usual.BATCH)


def schedule() -> Iterator[Epoch]:
    """One epoch a round until the budget is spent, then on to the end."""
    for number in range(EPOCHS):
        labels = min(INITIAL + number * BATCH, BUDGET)
        yield Epoch(labels, labels < BUDGET)


@dataclass(frozen=True)
class Costs:
    """Seconds of the parts of one side's run."""

    step: float
    evaluated: float
    """An image of validation or test."""
    scored: float
    """An image of the pool."""
    selection: float
    """Of one round at the full size of the pool."""
    rest: float = 0.0
    """Of an epoch: what is written down, checkpoints."""
    once: float = 0.0
    """Start and end."""

    def whole_run(self) -> float:
        total = self.once
        for epoch in schedule():
            total += epoch.steps * self.step + (epoch.validation + TEST) * self.evaluated + self.rest
            if epoch.acquires:
                total += (POOL - epoch.labels) * self.scored + self.selection
        return total


def our_costs(runs: dict[str, list[Finished]], scratch: Path) -> dict[str, Costs]:
    """By strategy, from runs of `train.py` on a tenth of the pool.

    What does not depend on the strategy is taken over all runs: else its noise would be their difference.
    """
    every = [run for found in runs.values() for run in found]
    step = _median(every, lambda row: row["seconds"]["train"] / ceil(row["train_size"] / usual.BATCH))
    evaluated = _median(every, lambda row: row["seconds"]["evaluate"] / (row["val_size"] + TEST))
    once, rest = (statistics.median(seconds) for seconds in zip(*map(_outside_of_phases, every)))
    return {
        strategy: Costs(
            step=step,
            evaluated=evaluated,
            scored=_median(found, lambda row: row["seconds"]["score"] / row["pool_size"] or None),
            selection=our_selection(strategy, scratch),
            rest=rest,
            once=once,
        )
        for strategy, found in runs.items()
    }


def _outside_of_phases(run: Finished) -> tuple[float, float]:
    """Seconds of a run before its first and after its last epoch, and of each epoch for what is written down."""
    phases = ("train", "evaluate", "score", "select")
    spent = [sum(epoch["seconds"][name] for name in phases) for epoch in run.epochs]
    between = run.last_epoch - run.first_epoch - sum(spent[1:])
    return run.first_epoch - spent[0] + run.seconds - run.last_epoch, between / (len(run.epochs) - 1)


def _median(runs: Sequence[Finished], value: Callable[[dict], float | None]) -> float:
    """Over all epochs but the first of each run, which warms up."""
    return statistics.median(found for run in runs for row in run.epochs[1:] if (found := value(row)) is not None)


def our_selection(strategy: str, scratch: Path) -> float:
    """With features where a pool of this size has them: on their way from the model into a file, and back."""
    features, probs = synthetic.features(POOL)[INITIAL:], _probs()[INITIAL:]

    def select() -> None:
        stored = None
        if "features" in REGISTRY[strategy].needs:
            spill = DiskArray(features.shape, scratch)
            for start in range(0, len(features), 500):
                spill.write(start, features[start : start + 500])
            stored = spill.read()
        pool = Pool(np.zeros(len(probs), bool), synthetic.CLASSES, probs=probs, features=stored)
        REGISTRY[strategy].select(pool, BATCH, np.random.default_rng(0))

    return _seconds(select)


def their_selection(strategy: str) -> float:
    probs, features = _probs()[INITIAL:], synthetic.features(POOL)[INITIAL:]
    if strategy == "uncertainty":
        return _seconds(lambda: usual.select_uncertain(probs, BATCH))
    return _seconds(lambda: usual.select_typiclust(probs, features, BATCH))


def _probs() -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.full(synthetic.CLASSES, 0.3), POOL).astype(np.float32)


def _seconds(work: Callable[[], object]) -> float:
    return in_turn({"it": work}, 3)["it"].median


def their_parts(options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """A step over 640 images, an evaluation of 1,000, and each pass over 1,000 of the pool."""
    sides = both_sides(options.device)
    network, optimiser = sides.theirs, usual.new_optimiser(sides.theirs)
    labelled = usual.Images(*synthetic.images(THEIR_STEPS * usual.BATCH), usual.FOR_TRAINING)
    others = usual.Images(*synthetic.images(THEIR_PART, seed=1), usual.FOR_SCORING)

    def train_on(batches: DataLoader) -> float:
        return usual.train_epoch(network, optimiser, batches, sides.device)

    def score(batches: DataLoader) -> NDArray:
        return usual.probabilities(network, batches, sides.device)

    training = usual.loader(labelled, usual.best_workers(labelled, train_on, shuffle=True), shuffle=True)
    batches = usual.loader(others, usual.best_workers(others, score))
    return {
        "train": lambda: train_on(training),
        "evaluate": lambda: usual.evaluate(network, batches, sides.device),
        "probabilities": lambda: score(batches),
        "features": lambda: usual.features(network, batches, sides.device),
    }


def their_costs(spent: dict[str, float]) -> dict[str, Costs]:
    """By strategy, from seconds of `their_parts`."""
    passes = {"uncertainty": ("probabilities",), "typiclust": ("probabilities", "features")}
    return {
        strategy: Costs(
            step=spent["train"] / THEIR_STEPS,
            evaluated=spent["evaluate"] / THEIR_PART,
            scored=sum(spent[name] for name in needed) / THEIR_PART,
            selection=their_selection(strategy),
        )
        for strategy, needed in passes.items()
    }


def measure(options: argparse.Namespace) -> list[Measurement]:
    """Runs of ours and parts of theirs in turn, so that a drift of the machine meets both alike."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        network = scratch / "network"
        usual.save(usual.efficientnet_b0(synthetic.CLASSES), network)
        data = synthetic.write_folder(scratch / "data", PART_POOL, TEST)
        common = {**PART, "data_dir": data, "model": network, "device": options.device}
        train(scratch / "warm-up", **common, strategy="stratified")
        parts = their_parts(options)
        for work in parts.values():
            work()
        runs, spent = {strategy: [] for strategy in TARGETS}, {part: [] for part in parts}
        for repeat in range(options.repeats):
            for strategy, found in runs.items():
                found.append(train(scratch / f"{strategy}-{repeat}", **common, strategy=strategy))
                for part, work in parts.items():
                    start = time.perf_counter()
                    work()
                    spent[part].append(time.perf_counter() - start)
        ours = our_costs(runs, scratch)
        full = full_runs(network, scratch, options) if options.full else {}
    theirs = their_costs({part: statistics.median(seconds) for part, seconds in spent.items()})
    measured = [_measurement(strategy, ours[strategy], theirs[strategy]) for strategy in TARGETS]
    relative = [sides["typiclust"].whole_run() / sides["uncertainty"].whole_run() for sides in (ours, theirs)]
    once = [Spread.of([value]) for value in relative]
    measured.append(
        Measurement(
            "typiclust run / uncertainty run", "times", once[0], once[1], RELATIVE, "same sums", extrapolated=True
        )
    )
    for strategy, seconds in full.items():
        what = f"whole run, {strategy}, ours in full"
        measured.append(Measurement(what, "s", Spread.of([seconds]), conditions="wall time of the process"))
    return measured


def _measurement(strategy: str, ours: Costs, theirs: Costs) -> Measurement:
    seconds = [Spread.of([side.whole_run()]) for side in (ours, theirs)]
    conditions = (
        f"{EPOCHS} epochs, {BUDGET:,} labels of {POOL:,}; ms a step {1e3 * ours.step:.0f} and {1e3 * theirs.step:.0f}, "
        f"ms an image scored {1e3 * ours.scored:.2f} and {1e3 * theirs.scored:.2f}, s a selection "
        f"{ours.selection:.2f} and {theirs.selection:.2f}"
    )
    return Measurement(
        f"whole run, {strategy} (extrapolated)", "s", *seconds, TARGETS[strategy], conditions, extrapolated=True
    )


def full_runs(network: Path, scratch: Path, options: argparse.Namespace) -> dict[str, float]:
    """Wall seconds of our runs at full size; their images are decoded before."""
    from data_prep.datasets import load_dataset

    data = synthetic.write_folder(scratch / "full", POOL, TEST)
    load_dataset("imagefolder", data)
    seconds = {}
    for strategy in TARGETS:
        start = time.perf_counter()
        train(
            scratch / f"full-{strategy}", **FULL, strategy=strategy, data_dir=data, model=network, device=options.device
        )
        seconds[strategy] = time.perf_counter() - start
    return seconds


def main(arguments: list[str]) -> None:
    parser = measuring.options(__doc__, "whole_run")
    parser.add_argument("--full", action="store_true", help="also carry out our runs at full size")
    options = parser.parse_args(arguments)
    measuring.report(measure(options), options.csv, options.device)


if __name__ == "__main__":
    main(sys.argv[1:])
