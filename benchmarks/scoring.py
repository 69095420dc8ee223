"""Scoring a pool, images a second: one pass in large batches against two passes over a DataLoader.

python -m benchmarks.scoring --images=50000
"""

import argparse
import sys

import numpy as np
import torch
from numpy.typing import NDArray

from al.learning.scorer import Scorer
from al.runtime import Runtime
from benchmarks import measuring, synthetic, usual
from benchmarks.measuring import Measurement, Target, in_turn
from benchmarks.sides import Sides, both_sides, largest_difference

TOLERANCE = 1e-3
TOP_SHARE = 0.05
TRIAL = 640
"""Images that the number of workers is tried out on."""


def overlap_of_most_uncertain(probs: NDArray, exact: NDArray) -> float:
    """Share of the 5 % of lowest highest probability that both sides name."""
    count = max(1, round(TOP_SHARE * len(exact)))
    picks = [set(np.argsort(side.max(axis=1))[:count]) for side in (probs, exact)]
    return len(picks[0] & picks[1]) / count


def check(sides: Sides, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """Both sides say the same of a part of the images; what was compared.

    Raises:
        SystemExit: they do not.
    """
    batches = usual.loader(usual.Images(images, labels, usual.FOR_SCORING), 0)
    probs = usual.probabilities(sides.theirs, batches, sides.device)
    features = usual.features(sides.theirs, batches, sides.device)
    exact_runtime = Runtime(sides.runtime.device, torch.float32)
    exact = Scorer(sides.ours, exact_runtime, synthetic.SIDE).predict(exact_runtime.place(images), features=True)
    apart = largest_difference(exact.probs, probs), largest_difference(exact.features, features)
    if max(apart) > TOLERANCE:
        raise SystemExit(f"error: probabilities and features differ by {apart} of their largest, over {TOLERANCE}")
    found = Scorer(sides.ours, sides.runtime, synthetic.SIDE).predict(sides.runtime.place(images))
    overlap = overlap_of_most_uncertain(found.probs, probs)
    return (
        f"{len(images):,} images in float32: probabilities within {apart[0]:.0e}, features within {apart[1]:.0e}; "
        f"in {sides.runtime.precision}: {overlap:.0%} of the {TOP_SHARE:.0%} most uncertain"
    )


def measure(options: argparse.Namespace) -> list[Measurement]:
    sides = both_sides(options.device)
    images, labels = synthetic.images(options.images)
    checked = check(sides, images[:2000], labels[:2000])
    trial = usual.Images(images[:TRIAL], labels[:TRIAL], usual.FOR_SCORING)
    workers = usual.best_workers(trial, lambda batches: usual.probabilities(sides.theirs, batches, sides.device))
    batches = usual.loader(usual.Images(images, labels, usual.FOR_SCORING), workers)
    scorer, placed = Scorer(sides.ours, sides.runtime, synthetic.SIDE), sides.runtime.place(images)
    seconds = in_turn(
        {
            "both": lambda: scorer.predict(placed, features=True),
            "probabilities": lambda: scorer.predict(placed),
            "their probabilities": lambda: usual.probabilities(sides.theirs, batches, sides.device),
            "their features": lambda: usual.features(sides.theirs, batches, sides.device),
        },
        options.repeats,
    )
    two_passes = measuring.Spread(*map(sum, zip(seconds["their probabilities"], seconds["their features"])))
    rates = {name: spread.rate(len(images)) for name, spread in (seconds | {"two passes": two_passes}).items()}
    conditions = f"{len(images):,} images of 32x32, {sides.runtime.precision}, usual: {workers} workers"
    common = {"unit": "images/s", "conditions": conditions, "checked": checked}
    target = Target("ratio", 10, 15)
    return [
        Measurement(
            "scoring: probabilities and features",
            "images/s",
            rates["both"],
            rates["two passes"],
            target,
            conditions,
            checked,
        ),
        Measurement(
            "scoring: probabilities, pass against pass",
            ours=rates["probabilities"],
            usual=rates["their probabilities"],
            **common,
        ),
    ]


def main(arguments: list[str]) -> None:
    parser = measuring.options(__doc__, "scoring")
    parser.add_argument("--images", type=int, default=4000, help="the table asks for 50,000")
    options = parser.parse_args(arguments)
    measuring.report(measure(options), options.csv, options.device)


if __name__ == "__main__":
    main(sys.argv[1:])
