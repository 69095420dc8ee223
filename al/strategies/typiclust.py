"""TypiClust twice: the study's hybrid of uncertainty and distance, and the published method."""

from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from al.storage.blocks import gather
from al.strategies.base import Picks, Pool
from al.strategies.clustering import Clustering, kmeans, neighbour_distances
from al.strategies.diverse import round_robin
from al.strategies.scores import noisy_top_k, predictive_entropy, scored

SMALL = 5
"""Clusters of this many samples or fewer are outliers to `typiclust_typical`, as in its authors' code."""
NEIGHBOURS = 20
"""Nearest neighbours that typicality is measured by, as published."""
MEMBERS = 20_000
"""Samples of a cluster that `typiclust_typical` compares with each other at most: their pairs grow with the square."""


def unit_interval(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Scale to [0, 1]; all 0 where the values are all equal. [U] -> [U]"""
    low, high = values.min(), values.max()
    return np.zeros_like(values) if high == low else (values - low) / (high - low)


def typiclust(pool: Pool, k: int, rng: np.random.Generator, **noise: Any) -> Picks:
    """Pick the uncertain and atypical: the study's hybrid (Petersen 2024), not the TypiClust of Hacohen et al. 2022.

    The score is the mean of the entropy of p and of the distance of f to the centre of its k-means cluster, both
    scaled to [0, 1]; there are min(100, floor(sqrt(U))) clusters of the unlabelled.
    """
    unlabelled = pool.unlabelled  # [U]
    entropy = scored(predictive_entropy, pool.probs, unlabelled)  # [U] H[p]
    clusters = min(100, isqrt(len(unlabelled)))
    distance = kmeans(pool.features, clusters, int(rng.integers(2**31)), positions=unlabelled).distance  # [U] |f - c|
    return noisy_top_k((unit_interval(entropy) + unit_interval(distance)) / 2, unlabelled, k, rng, **noise)


def typiclust_typical(
    pool: Pool,
    k: int,
    rng: np.random.Generator,
    *,
    typiclust_max_clusters: int = 500,
    typiclust_members: int = MEMBERS,
) -> Picks:
    """Pick the most typical sample of each cluster without labels (Hacohen, Dekel & Weinshall, ICML 2022).

    k-means of all features, scaled to length 1, into min(|L| + k, `typiclust_max_clusters`) clusters. Those with
    the fewest labels take turns first, of these the larger; outliers only once the others are exhausted.
    Each gives its unlabelled sample of highest typicality, which is the score:
    1 / mean distance to its min(20, size // 2) nearest neighbours in the cluster, or in a seeded part of a cluster that
    has more than `typiclust_members`, from which it then gives.
    """
    count = min(int(pool.labelled.sum()) + k, typiclust_max_clusters)
    clustering = kmeans(pool.features, count, int(rng.integers(2**31)), unit=True)
    sizes = clustering.sizes  # [K]
    labels = np.bincount(clustering.assignment[pool.labelled], minlength=len(sizes))  # [K]
    turns = np.lexsort((-sizes, labels))  # [K] fewest labels first, then the larger
    large, small = turns[sizes[turns] > SMALL], turns[sizes[turns] <= SMALL]
    positions, scores = _most_typical(pool, clustering, large, k, typiclust_members, rng)
    if len(positions) < k:
        more = _most_typical(pool, clustering, small, k - len(positions), typiclust_members, rng)
        positions, scores = np.append(positions, more.positions), np.append(scores, more.scores)
    return Picks(positions, scores)


def _most_typical(
    pool: Pool, clustering: Clustering, turns: NDArray[np.int64], k: int, most: int, rng: np.random.Generator
) -> Picks:
    """Up to k unlabelled samples, the most typical left of one cluster of `turns` after another, and round again."""
    unlabelled = ~pool.labelled  # [N]
    has_any = np.bincount(clustering.assignment[unlabelled], minlength=len(clustering.centres)) > 0  # [K]
    turns = turns[has_any[turns]][:k]  # each gives one before any gives two, so k clusters are enough
    typical = np.zeros(len(unlabelled), dtype=np.float32)  # [N]
    by_cluster = np.argsort(clustering.assignment, kind="stable")  # [N] cluster after cluster
    ends = np.cumsum(clustering.sizes)  # [K]
    for cluster in turns:
        members = by_cluster[ends[cluster - 1] if cluster else 0 : ends[cluster]]
        if len(members) > most:
            members = np.sort(rng.choice(members, most, replace=False))
        typical[members] = typicality(gather(pool.features, members, unit=True))
    positions = np.flatnonzero(unlabelled & np.isin(clustering.assignment, turns))
    known = np.sort(turns)  # clusters numbered 0, 1, ... among those that take turns
    groups = np.searchsorted(known, clustering.assignment[positions])
    positions = positions[round_robin(groups, np.searchsorted(known, turns), typical[positions])[:k]]
    return Picks(positions, typical[positions])


def typicality(members: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / mean distance to the min(20, n // 2) nearest others; of a single sample 0. [n, D] -> [n]"""
    neighbours = min(NEIGHBOURS, len(members) // 2)
    if neighbours == 0:
        return np.zeros(len(members), dtype=np.float32)
    mean = neighbour_distances(members, neighbours).mean(axis=1)
    return 1 / np.maximum(mean, np.finfo(np.float32).eps)  # equal samples are at distance 0 of each other
