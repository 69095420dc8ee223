"""What the study's choices in training are worth, each measured by taking it: on digits, with a small network.

python -m benchmarks.training_choices          # the kept numbers
python -m benchmarks.training_choices --run    # measure them again, minutes on one core; --choices leak: this one only

- as the suite: one epoch a round, then training to early stopping; validation images are held out.
- leak: the same, but validation images are trained on as well, as the study's validation accuracies show that its were.
- converged: every round is trained to early stopping, from the last round's weights.
"""

import argparse
import csv
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from al.config import RunConfig
from al.labels import LabelledSet
from al.learning.metrics import Evaluation
from al.learning.network_learner import NetworkLearner
from al.records import learning_curve
from benchmarks.runs import run_here
from sweeps.report.statistics import area, mean_interval

FILE = Path(__file__).parent / "study" / "training_choices.csv"
SEEDS = (12, 34, 56, 78, 90)
STRATEGIES = ("margin", "random")
CHOICES: dict[str, dict[str, object]] = {
    "as the suite": {"schedule": "epoch"},
    "leak": {"schedule": "epoch"},
    "converged": {"schedule": "converge"},
}
AS_IS = "as the suite"


class Outcome(NamedTuple):
    """One run; accuracies in percent."""

    choice: str
    strategy: str
    seed: int
    labels: int
    epochs: int
    val: float
    """Of the best epoch, on the validation images."""
    test: float
    area: float
    """Mean height of the learning curve on the test images."""


@contextmanager
def leaking() -> Iterator[None]:
    """Train on the validation images too."""
    honest = NetworkLearner.fit_epoch

    def fit_epoch(self: NetworkLearner, labelled: LabelledSet, number: int, lr: float) -> Evaluation:
        return honest(self, replace(labelled, train=np.concatenate([labelled.train, labelled.val])), number, lr)

    NetworkLearner.fit_epoch = fit_epoch
    try:
        yield
    finally:
        NetworkLearner.fit_epoch = honest


def measure(choice: str, strategy: str, seed: int) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        parameters = {"dataset": "digits", "batch_fraction": 0.1, "strategy": strategy, "split_seed": seed}
        config = RunConfig.from_mapping(
            parameters | CHOICES[choice] | {"results_dir": folder, "pictures": False, "device": "cpu"}
        )
        if choice == "leak":
            with leaking():
                run = run_here(config)
        else:
            run = run_here(config)
        result, epochs = run.result(), run.epochs.read()
    curve = learning_curve(epochs)
    height = area([epoch.labels for epoch in curve], [epoch.test["accuracy"] for epoch in curve])
    val, test = (result.best.splits[split].scores["accuracy"] for split in ("val", "test"))
    return Outcome(choice, strategy, seed, result.labels_used, len(epochs), val, test, height)


def keep(outcomes: list[Outcome]) -> None:
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([Outcome._fields, *outcomes])


def kept() -> list[Outcome]:
    with FILE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = Outcome.__annotations__
    return [Outcome(**{name: kinds[name](value) for name, value in row.items()}) for row in rows]


def table(outcomes: list[Outcome]) -> list[str]:
    """Markdown: means over seeds, and what each choice changes, paired by seed, with 95 % intervals."""
    lines = ["| trained | strategy | epochs | validation | test | more than as the suite | mean of the curve |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    by = {(outcome.choice, outcome.strategy, outcome.seed): outcome for outcome in outcomes}
    for choice in dict.fromkeys(outcome.choice for outcome in outcomes):
        for strategy in STRATEGIES:
            mine, base = ([by[name, strategy, seed] for seed in SEEDS] for name in (choice, AS_IS))
            epochs, val, test, height = (np.mean([getattr(o, name) for o in mine]) for name in Outcome._fields[4:])
            gain = mean_interval([a.test - b.test for a, b in zip(mine, base)])
            more = "" if choice == AS_IS else f"{gain.mean:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]"
            lines.append(
                f"| {choice} | `{strategy}` | {epochs:.0f} | {val:.1f} % | {test:.1f} % | {more} | {height:.1f} % |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_choices", description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="measure again, and keep what is found")
    parser.add_argument("--choices", nargs="+", choices=CHOICES, default=[*CHOICES], help="with --run: these only")
    options = parser.parse_args()
    for choice in options.choices if options.run else ():
        found = [measure(choice, strategy, seed) for strategy in STRATEGIES for seed in SEEDS]
        others = [outcome for outcome in kept() if outcome.choice != choice] if FILE.is_file() else []
        keep(sorted(others + found, key=lambda outcome: [*CHOICES].index(outcome.choice)))
    print("\n".join(table(kept())))


if __name__ == "__main__":
    main()
