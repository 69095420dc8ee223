"""The verdict on real runs of which the truth is known: false claims where there is no effect.

    python -m benchmarks.verdict_digits                # ten minutes on one core, most of it 600 runs
    python -m benchmarks.verdict_digits --runs=FILE    # the same runs again

Runs are logistic regression on scikit-learn's digits, 50 to 320 labels, one first set of labels a split seed. Three of
the ten strategies are random sampling with other draws, so that a claim among them is false. The others are made equal
by taking off each strategy's mean over all seeds: what is left is how their areas scatter. Seeds and strategies of a
report are drawn from these at random.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.verdict_simulation import PROCEDURES, table

RANDOM = ("random", "random", "random")
OTHERS = ("uncertainty", "margin", "entropy", "typiclust", "typiclust_typical", "coreset", "badge")
LABELS = (50, 70, 90, 110, 140, 170, 200, 240, 280, 320)
FIRST_PER_CLASS = 5
TEST = 597


def accuracies(seeds: int) -> NDArray[np.float64]:
    """[strategies, seeds, label counts] test accuracy in percent."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, classes = (images[order] / 16).astype(np.float32), classes[order]
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        groups = (np.flatnonzero(classes[TEST:] == c) for c in range(10))
        first = np.concatenate([rng.permutation(rows)[:FIRST_PER_CLASS] for rows in groups])
        names = enumerate((*RANDOM, *OTHERS))
        found.append([learning_curve(images, classes, first, name, [seed, k]) for k, name in names])
        print(f"\rsplit seed {seed + 1} of {seeds}", end="", flush=True)
    return np.array(found).transpose(1, 0, 2)


def learning_curve(
    images: NDArray[np.float32], classes: NDArray[np.int64], first: NDArray[np.int64], strategy: str, seed: list[int]
) -> list[float]:
    """Accuracies of one run; the first `TEST` images are the test set, rows count from there."""
    from sklearn.linear_model import LogisticRegression

    from al.strategies import REGISTRY, Pool

    train, labels, rng = images[TEST:], classes[TEST:], np.random.default_rng(seed)
    rows, curve = first, []
    for count, following in zip(LABELS, (*LABELS[1:], None)):
        model = LogisticRegression(max_iter=1000, tol=1e-3).fit(train[rows], labels[rows])
        curve.append(100 * model.score(images[:TEST], classes[:TEST]))
        if following is not None:
            labelled = np.isin(np.arange(len(train)), rows)
            probs = model.predict_proba(train).astype(np.float32)
            pool = Pool(labelled=labelled, classes=10, probs=probs, features=train, activations=train)
            rows = np.concatenate([rows, REGISTRY[strategy].select(pool, following - count, rng).positions])
    return curve


def false_claims(curves: NDArray[np.float64], draws: int) -> Iterator[dict[str, object]]:
    """False claims against random sampling in percent of reports, and finds of one effect of two paired deviations."""
    x, rng = np.log(LABELS), np.random.default_rng(1)
    areas = np.trapezoid(curves, x, axis=-1) / (x[-1] - x[0])  # [strategies, seeds]
    equal = areas - areas.mean(axis=1, keepdims=True)
    for title, drawn in (("random draws only", equal[: len(RANDOM)]), ("all, made equal", equal)):
        for rivals in (1, 2) if len(drawn) == len(RANDOM) else (1, 2, 4, 8):
            for seeds in (3, 5, 10):
                picked = np.array([rng.choice(areas.shape[1], seeds, replace=False) for _ in range(draws)])
                names = np.array([1 + rng.permutation(len(drawn) - 1)[:rivals] for _ in range(draws)])
                names = np.concatenate([np.zeros((draws, 1), int), names], axis=1)  # the control is random sampling
                null = drawn[names[:, :, None], picked[:, None, :]]
                spread = (equal - equal[0]).std(axis=1)[names[:, 1]]
                found = null.copy()
                found[:, 1] += 2 * spread[:, None]
                for name, procedure in PROCEDURES.items():
                    yield {
                        "procedure": name,
                        "runs": title,
                        "strategies": rivals + 1,
                        "seeds": seeds,
                        "false claims %": 100 * float((procedure(null).min(axis=1) < 0.05).mean()),
                        "power %": 100 * float((procedure(found)[:, 0] < 0.05).mean()),
                    }


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdict_digits", description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000, help="reports in each line")
    parser.add_argument("--seeds", type=int, default=60, help="split seeds to run")
    parser.add_argument("--runs", type=Path, help="verdict_digits_runs.npy of an earlier call")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"), help="folder of the files")
    options = parser.parse_args(arguments)
    if options.seeds < 10:
        parser.error(f"--seeds={options.seeds}: reports of up to ten seeds are drawn from them; give at least 10")
    options.out.mkdir(parents=True, exist_ok=True)
    curves = np.load(options.runs) if options.runs else accuracies(options.seeds)
    if not options.runs:
        np.save(options.out / "verdict_digits_runs.npy", curves)
    table(false_claims.__doc__, false_claims(curves, options.draws), options.out / "verdict_digits.csv")


if __name__ == "__main__":
    main(sys.argv[1:])
