"""Strategies that take uncertain samples, spread over the clusters of their features."""

import numpy as np
from numpy.typing import NDArray

from al.strategies.base import Picks, Pool
from al.strategies.clustering import hierarchical_clusters, kmeans
from al.strategies.scores import scored, smallest_margin, top_k


def round_robin(groups: NDArray[np.int64], turns: NDArray[np.int64], wanted: NDArray[np.floating]) -> NDArray[np.int64]:
    """Order n samples as their groups take turns, each giving the most wanted that it has left. -> i64[n] indices

    Args:
        groups: [n] group of each sample.
        turns: the groups in the order of their turns; an exhausted group is passed over.
        wanted: [n] higher is given first; ties go to the lower index.
    """
    inside = np.lexsort((-wanted, groups))  # [n] group after group, each from its most wanted down
    starts = np.searchsorted(groups[inside], groups[inside])  # [n] where the group of each begins in that order
    nth = np.empty(len(groups), dtype=np.int64)
    nth[inside] = np.arange(len(groups)) - starts  # [n] in which round a sample is given
    turn = np.empty(len(turns), dtype=np.int64)
    turn[turns] = np.arange(len(turns))
    return np.lexsort((turn[groups], nth))  # by round, and inside a round by the turn of the group


def cluster_margin(
    pool: Pool,
    k: int,
    rng: np.random.Generator,
    *,
    cluster_margin_candidates: int = 10,
    cluster_margin_size: int = 20,
) -> Picks:
    """Pick small margins from many clusters (Citovsky et al., NeurIPS 2021, Algorithm 1).

    Clusters are those of `hierarchical_clusters` over the whole pool, labelled images too: the same in each round
    where the features are (frozen embeddings), made anew where they change (the model's own activations, or a new
    `pool_sample`). The `cluster_margin_candidates` x k unlabelled of smallest p_1 - p_2 are grouped by cluster. The
    groups take turns from the smallest up, each giving its smallest margin. The score is -(p_1 - p_2).
    """
    unlabelled = pool.unlabelled  # [U]
    candidates = top_k(scored(smallest_margin, pool.probs, unlabelled), unlabelled, cluster_margin_candidates * k)
    order = np.argsort(candidates.positions)
    positions, margins = candidates.positions[order], candidates.scores[order]  # [n] by position
    cluster = hierarchical_clusters(pool.features, cluster_margin_size)[positions]  # [n]
    groups, sizes = np.unique(cluster, return_inverse=True, return_counts=True)[1:]
    smallest_first = np.argsort(sizes, kind="stable")
    picks = round_robin(groups, smallest_first, margins)[:k]
    return Picks(positions[picks], margins[picks])


def dropquery(pool: Pool, k: int, rng: np.random.Generator) -> Picks:
    """Pick samples whose predicted class is not robust to dropped features (Gupte et al., TMLR 2024).

    Of the unlabelled whose predicted class differs from argmax p in more than half of the M passes, the nearest to
    each centre of a k-means into k. Where these are fewer than k all are taken, and the others fill up in the same
    way. The score is the share of passes that differ.
    """
    unlabelled = pool.unlabelled  # [U]
    predicted = scored(_predicted, pool.probs, unlabelled)  # [U]
    changed = (pool.drop_votes[:, unlabelled] != predicted).mean(axis=0)  # [U] share of the M passes
    fragile, robust = np.flatnonzero(changed > 0.5), np.flatnonzero(changed <= 0.5)  # indices into `unlabelled`
    picks = fragile if len(fragile) <= k else fragile[_one_of_each(pool.features, unlabelled[fragile], k, rng)]
    if len(picks) < k:
        picks = np.append(picks, robust[_one_of_each(pool.features, unlabelled[robust], k - len(picks), rng)])
    return Picks(unlabelled[picks], changed[picks].astype(np.float32))


def _predicted(probs: NDArray[np.float32]) -> NDArray[np.int64]:
    """The class of highest probability. [n, C] -> [n]"""
    if not np.isfinite(probs).all():
        raise ValueError("probabilities hold NaN or infinite values: the model has diverged; lower lr")
    return probs.argmax(axis=1)


def _one_of_each(
    features: NDArray, positions: NDArray[np.int64], k: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The nearest to the centre of each of k clusters, largest first, and round again. -> [k] indices"""
    clustering = kmeans(features, k, int(rng.integers(2**31)), positions=positions)
    largest_first = np.argsort(-clustering.sizes, kind="stable")
    # clusters are fewer than k where samples are equal: then some give a second one
    return round_robin(clustering.assignment, largest_first, -clustering.distance)[:k]
