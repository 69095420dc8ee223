"""Strategies that take uncertain samples, spread over the clusters of their features."""

import numpy as np
from numpy.typing import NDArray

from al.strategies.base import Picks, Pool
from al.strategies.clustering import kmeans
from al.strategies.scores import scored, smallest_margin, top_k


def round_robin(groups: NDArray[np.int64], turns: NDArray[np.int64], wanted: NDArray[np.floating]) -> NDArray[np.int64]:
    """[n] positions in the order in which the groups take turns, each giving its most wanted that is left.

    Args:
        groups: [n] group of each position.
        turns: the groups in the order of their turns; an exhausted group is passed over.
        wanted: [n] higher is given first; ties go to the lower position.
    """
    inside = np.lexsort((-wanted, groups))
    starts = np.searchsorted(groups[inside], groups[inside])
    nth = np.empty(len(groups), dtype=np.int64)
    nth[inside] = np.arange(len(groups)) - starts
    turn = np.empty(len(turns), dtype=np.int64)
    turn[turns] = np.arange(len(turns))
    return np.lexsort((turn[groups], nth))


def cluster_margin(pool: Pool, k: int, rng: np.random.Generator, *, cluster_margin_candidates: int = 10) -> Picks:
    """Small margins from many clusters (after Citovsky et al., NeurIPS 2021, with k-means for their HAC).

    The `cluster_margin_candidates` x k samples of smallest p_1 - p_2 are clustered into k; the clusters take turns
    from the smallest up, each giving its smallest margin. The score is -(p_1 - p_2).
    """
    unlabelled = pool.unlabelled
    candidates = top_k(scored(smallest_margin, pool.probs, unlabelled), unlabelled, cluster_margin_candidates * k)
    order = np.argsort(candidates.rows)
    rows, margins = candidates.rows[order], candidates.scores[order]
    clustering = kmeans(pool.features, k, int(rng.integers(2**31)), rows=rows)
    smallest_first = np.argsort(clustering.sizes, kind="stable")
    picks = round_robin(clustering.assignment, smallest_first, margins)[:k]
    return Picks(rows[picks], margins[picks])


def dropquery(pool: Pool, k: int, rng: np.random.Generator) -> Picks:
    """Samples whose class is not robust to dropped features (Gupte et al., TMLR 2024).

    Of the unlabelled whose predicted class differs from argmax p in more than half of the M passes, the nearest to
    each centre of a k-means into k. Where these are fewer than k all are taken, and the others fill up in the same
    way. The score is the share of passes that differ.
    """
    rows = pool.unlabelled
    changed = (pool.drop_votes[:, rows] != scored(_predicted, pool.probs, rows)).mean(axis=0)
    fragile, steady = np.flatnonzero(changed > 0.5), np.flatnonzero(changed <= 0.5)
    picks = fragile if len(fragile) <= k else fragile[_one_of_each(pool.features, rows[fragile], k, rng)]
    if len(picks) < k:
        picks = np.append(picks, steady[_one_of_each(pool.features, rows[steady], k - len(picks), rng)])
    return Picks(rows[picks], changed[picks].astype(np.float32))


def _predicted(probs: NDArray[np.float32]) -> NDArray[np.int64]:
    """[n, C] -> [n] class of highest probability."""
    if not np.isfinite(probs).all():
        raise ValueError("probabilities hold NaN or infinite values: the model has diverged")
    return probs.argmax(axis=1)


def _one_of_each(features: NDArray, rows: NDArray[np.int64], k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """k positions in `rows`: nearest to the centres of k clusters, largest first; again round where clusters lack."""
    clustering = kmeans(features, k, int(rng.integers(2**31)), rows=rows)
    largest_first = np.argsort(-clustering.sizes, kind="stable")
    return round_robin(clustering.assignment, largest_first, -clustering.distance)[:k]
