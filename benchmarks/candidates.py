"""What a bound on the candidates of herding costs and saves: how much of the whole pool the picks cover.

    python -m benchmarks.candidates                                # 20,000 x 1,280 that look like a network's features
    python -m benchmarks.candidates --features=FILE.npy            # others, [N, D]

Coverage is the mean over the pool of the largest Gaussian kernel to a labelled or picked sample, less what the labelled
cover without picks; all of the pool as candidates is 100 %. `random` is as many samples drawn by chance.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al.storage.blocks import gather
from al.strategies import REGISTRY, Pool
from al.strategies.clustering import nearest
from benchmarks import synthetic

SHARES = (1.0, 0.5, 0.25, 0.1)
"""Of the unlabelled that are candidates, all of them first."""


def coverage(features: NDArray[np.float32], chosen: NDArray[np.int64]) -> float:
    """Mean over all samples of max exp(-|x - y|^2) to the chosen y, features being scaled to length 1."""
    distance = nearest(features, gather(features, chosen, unit=True), unit=True)[0]
    return float(np.exp(-(distance**2)).mean())


def measure(features: NDArray[np.float32], labelled: int, k: int, seed: int) -> list[tuple[str, float, float]]:
    """(candidates, coverage gained, processor seconds) of each share, and of random sampling."""
    rng = np.random.default_rng(seed)
    known = np.isin(np.arange(len(features)), rng.choice(len(features), labelled, replace=False))
    pool, before, found = Pool(known, 1, features=features), coverage(features, np.flatnonzero(known)), []
    counts = [max(k, round(share * (len(features) - labelled))) for share in SHARES]
    ways = [(f"{count:,}", "maxherding", {"herding_candidates": count}) for count in counts]
    for title, strategy, options in [*ways, ("random", "random", {})]:
        start = time.process_time()
        picks = REGISTRY[strategy].select(pool, k, np.random.default_rng(seed), **options)
        seconds = time.process_time() - start
        found.append((title, coverage(features, np.append(np.flatnonzero(known), picks.positions)) - before, seconds))
    return found


def table(found: list[tuple[str, float, float]]) -> str:
    most = found[0][1]
    lines = ["| candidates | coverage gained | processor seconds |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {title} | {100 * gain / most:.1f} % | {s:.1f} |" for title, gain, s in found)])


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, help="a .npy file")
    parser.add_argument("--rows", type=int, default=20_000, help="of the features, from the first")
    parser.add_argument("--labelled", type=int, default=1000)
    parser.add_argument("--k", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    given = np.load(options.features)[: options.rows] if options.features else synthetic.features(options.rows)
    print(table(measure(given.astype(np.float32), options.labelled, options.k, options.seed)))


if __name__ == "__main__":
    main(sys.argv[1:])
