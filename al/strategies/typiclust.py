"""TypiClust twice: the study's hybrid of uncertainty and distance, and the published method."""

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from al.storage.blocks import gather
from al.strategies.base import Picks, Pool
from al.strategies.clustering import Clustering, kmeans, neighbour_distances
from al.strategies.diverse import round_robin
from al.strategies.scores import predictive_entropy, scored, top_k

SMALL = 5
"""Clusters of this many samples or fewer are outliers to `typiclust_typical`."""
NEIGHBOURS = 20
MEMBERS = 20_000
"""Of a larger cluster `typiclust_typical` looks at a random part, as all pairs of its samples are compared."""


def unit_interval(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """(x - min x) / (max x - min x); all 0 where the values are all equal. [U] -> [U]"""
    low, high = values.min(), values.max()
    return np.zeros_like(values) if high == low else (values - low) / (high - low)


def typiclust(pool: Pool, k: int, rng: np.random.Generator) -> Picks:
    """The study's hybrid: uncertain and atypical (Petersen 2024), not the TypiClust of Hacohen et al. 2022.

    score = (scaled(H[p]) + scaled(|f - c(f)|)) / 2, where c(f) is the centre of the sample's cluster among
    min(100, floor(sqrt(U))) clusters of the unlabelled, and scaled() maps to [0, 1].
    """
    rows = pool.unlabelled
    entropy = scored(predictive_entropy, pool.probs, rows)
    distance = kmeans(pool.features, min(100, isqrt(len(rows))), int(rng.integers(2**31)), rows=rows).distance
    return top_k((unit_interval(entropy) + unit_interval(distance)) / 2, rows, k)


def typiclust_typical(pool: Pool, k: int, rng: np.random.Generator, *, typiclust_max_clusters: int = 500) -> Picks:
    """The most typical sample of each uncovered cluster (Hacohen, Dekel & Weinshall, ICML 2022).

    k-means of all features, scaled to length 1, into min(|L| + k, `typiclust_max_clusters`) clusters. Those with
    the fewest labels take turns first, of these the larger; those of 5 or fewer only once the others are exhausted.
    Each gives its unlabelled sample of highest typicality, which is the score:
    1 / mean distance to its min(20, size // 2) nearest neighbours in the cluster.
    """
    count = min(int(pool.labelled.sum()) + k, typiclust_max_clusters)
    clustering = kmeans(pool.features, count, int(rng.integers(2**31)), unit=True)
    sizes = clustering.sizes
    labels = np.bincount(clustering.assignment[pool.labelled], minlength=len(sizes))
    turns = np.lexsort((-sizes, labels))
    large = turns[sizes[turns] > SMALL]
    rows, scores = _typical(pool, clustering, large, k, rng)
    if len(rows) < k:
        more = _typical(pool, clustering, turns[sizes[turns] <= SMALL], k - len(rows), rng)
        rows, scores = np.append(rows, more.rows), np.append(scores, more.scores)
    return Picks(rows, scores)


def _typical(pool: Pool, clustering: Clustering, turns: NDArray[np.int64], k: int, rng: np.random.Generator) -> Picks:
    """Up to k unlabelled samples, one cluster of `turns` after another and round again."""
    free = ~pool.labelled
    has_free = np.bincount(clustering.assignment[free], minlength=len(clustering.centres)) > 0
    turns = turns[has_free[turns]][:k]  # each gives one before any gives two, so k clusters are enough
    typical = np.zeros(len(free), dtype=np.float32)
    for cluster in turns:
        members = np.flatnonzero(clustering.assignment == cluster)
        if len(members) > MEMBERS:
            members = np.sort(rng.choice(members, MEMBERS, replace=False))
        typical[members] = typicality(gather(pool.features, members, unit=True))
    rows = np.flatnonzero(free & np.isin(clustering.assignment, turns))
    known = np.sort(turns)
    groups = np.searchsorted(known, clustering.assignment[rows])
    rows = rows[round_robin(groups, np.searchsorted(known, turns), typical[rows])[:k]]
    return Picks(rows, typical[rows])


def typicality(members: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / mean distance to the min(20, n // 2) nearest others; of a single sample 0. [n, D] -> [n]"""
    neighbours = min(NEIGHBOURS, len(members) // 2)
    if neighbours == 0:
        return np.zeros(len(members), dtype=np.float32)
    mean = neighbour_distances(members, neighbours).mean(axis=1)
    return 1 / np.maximum(mean, np.finfo(np.float32).eps)
