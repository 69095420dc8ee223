"""What the bounds of methods that are not linear cost and save: candidates of herding, members of a cluster.

    python -m benchmarks.candidates                                # 20,000 x 1,280 that look like a network's features
    python -m benchmarks.candidates --features=FILE.npy            # others, [N, D]
    python -m benchmarks.candidates --strategy=typiclust_typical --rows=100000 --labelled=0 --k=10

`maxherding`: coverage is the mean over the pool of the largest Gaussian kernel to a labelled or picked sample, less
what the labelled cover without picks; the first share of the pool as candidates is 100 %. `random` is as many samples
drawn by chance.

`typiclust_typical`: which share of its cluster is less typical than the mean pick; the most typical of all members is
100 %, a member drawn by chance 50 %.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al.storage.blocks import gather
from al.strategies import REGISTRY, Pool
from al.strategies.clustering import kmeans, nearest
from al.strategies.typiclust import typicality
from benchmarks import synthetic

SHARES = (1.0, 0.5, 0.25, 0.1)
"""Of the unlabelled that are candidates; the first is what the others are held against."""


def coverage(features: NDArray[np.float32], chosen: NDArray[np.int64]) -> float:
    """Mean over all samples of max exp(-|x - y|^2) to the chosen y, features being scaled to length 1."""
    distance = nearest(features, gather(features, chosen, unit=True), unit=True)[0]
    return float(np.exp(-(distance**2)).mean())


def measure(
    features: NDArray[np.float32], labelled: int, k: int, seed: int, shares: Sequence[float] = SHARES
) -> list[tuple[str, float, float]]:
    """(candidates, coverage gained, processor seconds) of each share, and of random sampling."""
    rng = np.random.default_rng(seed)
    known = np.isin(np.arange(len(features)), rng.choice(len(features), labelled, replace=False))
    pool, before, found = Pool(known, 1, features=features), coverage(features, np.flatnonzero(known)), []
    counts = [max(k, round(share * (len(features) - labelled))) for share in shares]
    ways = [(f"{count:,}", "maxherding", {"herding_candidates": count}) for count in counts]
    for title, strategy, options in [*ways, ("random", "random", {})]:
        start = time.process_time()
        picks = REGISTRY[strategy].select(pool, k, np.random.default_rng(seed), **options)
        seconds = time.process_time() - start
        found.append((title, coverage(features, np.append(np.flatnonzero(known), picks.positions)) - before, seconds))
    return found


MEMBERS = (10_000, 2_000, 500, 100)
"""Bounds of `typiclust_members` that are tried."""


def ranks(features: NDArray[np.float32], labelled: int, k: int, seed: int) -> list[tuple[str, float, float]]:
    """(members compared, mean share of the cluster that is less typical than its pick, processor seconds)."""
    rng = np.random.default_rng(seed)
    known = np.isin(np.arange(len(features)), rng.choice(len(features), labelled, replace=False))
    pool, found = Pool(known, 1, features=features), []
    draws = int(np.random.default_rng(seed).integers(2**31))
    clusters = kmeans(features, min(labelled + k, 500), draws, unit=True).assignment  # those of the strategy
    members = {cluster: np.flatnonzero(clusters == cluster) for cluster in np.unique(clusters)}
    typical = {cluster: typicality(gather(features, rows, unit=True)) for cluster, rows in members.items()}
    largest = max(map(len, members.values()))
    for most in (largest, *(bound for bound in MEMBERS if bound < largest)):
        start = time.process_time()
        picks = REGISTRY["typiclust_typical"].select(pool, k, np.random.default_rng(seed), typiclust_members=most)
        seconds = time.process_time() - start
        shares = [
            (typical[cluster] < typical[cluster][np.searchsorted(members[cluster], row)]).sum()
            / max(len(members[cluster]) - 1, 1)
            for row, cluster in zip(picks.positions, clusters[picks.positions])
        ]
        found.append((f"{most:,}", float(np.mean(shares)), seconds))
    return found


def ranks_table(found: list[tuple[str, float, float]]) -> str:
    lines = ["| members compared | of the cluster less typical | processor seconds |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {title} | {100 * share:.2f} % | {s:.1f} |" for title, share, s in found)])


def table(found: list[tuple[str, float, float]]) -> str:
    most = found[0][1]
    lines = ["| candidates | coverage gained | processor seconds |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {title} | {100 * gain / most:.1f} % | {s:.1f} |" for title, gain, s in found)])


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.candidates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--strategy", choices=("maxherding", "typiclust_typical"), default="maxherding")
    parser.add_argument("--features", type=Path, help="a .npy file")
    parser.add_argument(
        "--shares", type=lambda text: [float(part) for part in text.split(",")], default=SHARES, help="by commas"
    )
    parser.add_argument("--rows", type=int, default=20_000, help="of the features, from the first")
    parser.add_argument("--labelled", type=int, default=1000)
    parser.add_argument("--k", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    given = np.load(options.features)[: options.rows] if options.features else synthetic.features(options.rows)
    pool = (given.astype(np.float32), options.labelled, options.k, options.seed)
    if options.strategy == "maxherding":
        print(table(measure(*pool, options.shares)))
    else:
        print(ranks_table(ranks(*pool)))


if __name__ == "__main__":
    main(sys.argv[1:])
