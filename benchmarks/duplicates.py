"""What copies in a pool cost: digits four times over, and how many copies each strategy buys.

    python -m benchmarks.duplicates        # a minute on one core; a table, and benchmarks/figures/duplicates.png

Every training image of scikit-learn's digits is there four times. A run is logistic regression on the pixels, from 2
labels a class to 260 in batches of 40; a copy is a label bought for an image of which another copy has one already.
All strategies of a seed start from the same labels, and are tested on images that are no copies.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from al.strategies import REGISTRY, Pool

COPIES, TEST, FIRST_PER_CLASS, BATCH, ROUNDS = 4, 597, 2, 40, 6
LABELS = 10 * FIRST_PER_CLASS + BATCH * np.arange(ROUNDS + 1)
STRATEGIES: dict[str, dict[str, str]] = {
    **{name: {} for name in ("random", "uncertainty", "margin", "entropy")},
    **{f"margin, {noise}": {"batch_noise": noise} for noise in ("power", "softmax", "softrank")},
    **{name: {} for name in ("typiclust", "typiclust_typical", "probcover", "coreset", "cluster_margin")},
    **{name: {} for name in ("alfa_mix", "badge", "bait", "maxherding", "uherding")},
}
"""Title -> options; the strategy is its first word. Those that compare dropout passes need another model."""
DRAWN = ("random", "margin", "margin, power", "maxherding", "uherding")
"""Whose learning curves the figure shows."""
FIGURE = Path(__file__).parent / "figures" / "duplicates.png"


class Digits(NamedTuple):
    """The images without copies: training and test set."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int64]

    @classmethod
    def load(cls) -> "Digits":
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(images))
        images, labels = (images[order] / 16).astype(np.float32), labels[order]
        return cls(images[TEST:], labels[TEST:], images[:TEST], labels[:TEST])

    def first(self, seed: int) -> NDArray[np.int64]:
        rng = np.random.default_rng(seed)
        groups = (np.flatnonzero(self.labels == c) for c in range(10))
        return np.concatenate([rng.permutation(rows)[:FIRST_PER_CLASS] for rows in groups])


class Found(NamedTuple):
    """Of one strategy, a row a seed."""

    copies: NDArray[np.float64]
    """[S] percent of the labels bought."""
    accuracy: NDArray[np.float64]
    """[S, L] percent at each of `LABELS`."""


def one_run(digits: Digits, title: str, seed: int) -> tuple[float, list[float]]:
    """Percent of copies bought, and test accuracy in percent at each of `LABELS`."""
    from sklearn.linear_model import LogisticRegression

    strategy, rng = REGISTRY[title.split(",")[0]], np.random.default_rng([seed, 1])
    images, labels = np.tile(digits.images, (COPIES, 1)), np.tile(digits.labels, COPIES)
    rows, curve = digits.first(seed), []
    for number in range(ROUNDS + 1):
        model = LogisticRegression(max_iter=1000, tol=1e-3).fit(images[rows], labels[rows])
        curve.append(100 * model.score(digits.test_images, digits.test_labels))
        if number < ROUNDS:
            labelled = np.isin(np.arange(len(images)), rows)
            pool = Pool(
                labelled,
                10,
                labels=np.where(labelled, labels, -1),
                probs=model.predict_proba(images).astype(np.float32),
                features=images,
                activations=images,
                head=model.coef_.astype(np.float32),
            )
            picks = strategy.select(pool, BATCH, rng, **STRATEGIES[title])
            rows = np.append(rows, picks.positions)
    different = len(np.unique(rows % len(digits.labels)))
    return 100 * (len(rows) - different) / (BATCH * ROUNDS), curve


def measure(seeds: int) -> dict[str, Found]:
    digits, found = Digits.load(), {}
    for title in STRATEGIES:
        copies, curves = zip(*(one_run(digits, title, seed) for seed in range(seeds)))
        found[title] = Found(np.array(copies), np.array(curves))
        print(f"{title:20} {found[title].copies.mean():5.1f} % copies", file=sys.stderr, flush=True)
    return found


def table(found: dict[str, Found]) -> str:
    """Markdown: from the fewest copies to the most, with accuracy half-way and at the end."""
    shown = (ROUNDS // 2, ROUNDS)
    lines = [f"| strategy | copies bought (%) | {' | '.join(f'accuracy at {LABELS[i]} (%)' for i in shown)} |"]
    lines += ["| --- " * (2 + len(shown)) + "|"]
    for title, (copies, accuracy) in sorted(found.items(), key=lambda item: item[1].copies.mean()):
        means = " | ".join(f"{accuracy[:, i].mean():.1f} ± {accuracy[:, i].std(ddof=1):.1f}" for i in shown)
        lines.append(f"| `{title}` | {copies.mean():.1f} | {means} |")
    return "\n".join(lines)


def draw(found: dict[str, Found], path: Path) -> None:
    from sweeps.report.style import drawing, looks, save

    titles = sorted(found, key=lambda title: -found[title].copies.mean())
    look = looks(list(DRAWN))
    with drawing(11, 4.8, columns=2, width_ratios=[1.05, 1]) as (figure, axes):
        bars, curves = axes[0]
        colours = [look[title].colour if title in DRAWN else "#c8c8c8" for title in titles]
        means = [found[title].copies.mean() for title in titles]
        bars.barh(titles, means, color=colours)
        for place, mean in enumerate(means):
            bars.annotate(f"{mean:.0f} %", (mean, place), xytext=(4, 0), textcoords="offset points", va="center")
        bars.set(xlabel="Copies among the labels bought (%)", xlim=(0, 100), title="How many labels are wasted")
        bars.grid(axis="y", visible=False)
        for title in DRAWN:
            accuracy, style = found[title].accuracy, look[title]
            options = {"color": style.colour, "linestyle": style.line, "marker": style.marker, "markersize": 5}
            curves.plot(LABELS, accuracy.mean(axis=0), label=title, **options)
        curves.set(xlabel="Labels", ylabel="Test accuracy (%)", title="What that does to the learning curve")
        curves.legend()
        save(figure, path)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.duplicates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    options = parser.parse_args(arguments)
    found = measure(options.seeds)
    print(table(found))
    draw(found, options.figure)
    print(f"figure in {options.figure}")


if __name__ == "__main__":
    main(sys.argv[1:])
