"""Strategies that take uncertain samples, spread over the clusters of their features."""

import numpy as np
from numpy.typing import NDArray

from al.storage.blocks import blocks, gather
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


ALFA_CAPS = np.arange(1, 33) / 32
"""Caps of the mix that `alfa_mix` tries one after another, as published."""


def alfa_mix(pool: Pool, k: int, rng: np.random.Generator) -> Picks:
    """Pick samples whose class changes when a little of a labelled class is mixed in (Parvaneh et al., CVPR 2022).

    Anchors are the mean activations of each class over the labelled (of all, for a class without labels). The
    published closed form of the mix under a cap e moves z by (e / sqrt(H)) |anchor - z| along the gradient g of the
    loss, so a sample is a candidate where that flips its class for some anchor: see `flipping_step`. The cap grows
    until there are more than k candidates; the nearest to each centre of a k-means of these, scaled to length 1, are
    picked. Where they are too few, and with nothing labelled, the others are any. No score.
    """
    unlabelled = pool.unlabelled  # [U]
    picks = np.empty(0, dtype=np.int64)  # indices into `unlabelled`
    if pool.labelled.any():
        step = scored(lambda probs: flipping_step(probs, pool.head), pool.probs, unlabelled)  # [U]
        cap = step * np.sqrt(pool.activations.shape[1]) / _farthest_anchor(pool, unlabelled)  # [U] above which it flips
        candidates = [np.flatnonzero(cap < tried) for tried in ALFA_CAPS]
        picks = next((found for found in candidates if len(found) > k), candidates[-1])
        if len(picks) > k:
            picks = picks[_one_of_each(pool.activations, unlabelled[picks], k, rng, unit=True)]
    rest = rng.permutation(np.setdiff1d(np.arange(len(unlabelled)), picks))[: k - len(picks)]
    return Picks(unlabelled[np.append(picks, rest)], np.full(k, np.nan, dtype=np.float32))


def flipping_step(probs: NDArray[np.float32], head: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far activations have to go along the gradient of the loss until the predicted class changes. -> [n]

    g = W^T (p - onehot(argmax p)) for head W [C, H]. A step t changes the logits by t W g / |g|, a straight line: class
    c overtakes the predicted y at t = (z_y - z_c) / ((W g)_c - (W g)_y) |g|. Infinite where none does.

    Args:
        probs: [n, C] p; their logarithms are the logits, up to a constant for each sample.
        head: [C, H]
    """
    if not np.isfinite(probs).all():
        raise ValueError("probabilities hold NaN or infinite values: the model has diverged; lower lr")
    p = probs.astype(np.float64)
    rows, predicted = np.arange(len(p)), p.argmax(axis=1)
    logits = np.log(np.maximum(p, np.finfo(np.float32).tiny))  # [n, C]
    p[rows, predicted] -= 1  # [n, C] p - onehot
    w = head.astype(np.float64)
    slope = p @ (w @ w.T)  # [n, C] W g
    length = np.sqrt(np.maximum(np.einsum("nc,nc->n", slope, p), 0))  # [n] |g|, as g.g = (p - onehot).(W g)
    ahead = logits[rows, predicted][:, None] - logits  # [n, C]
    closing = slope - slope[rows, predicted][:, None]  # [n, C]
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.where(closing > 0, ahead / closing, np.inf) * length[:, None]
    step[rows, predicted] = np.inf
    return np.where(length > 0, np.nan_to_num(step, nan=np.inf, posinf=np.inf).min(axis=1), np.inf)


def _farthest_anchor(pool: Pool, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distance of the activations at those positions to the farthest mean of a class. -> [n]"""
    known = np.flatnonzero(pool.labelled)
    labels, activations = pool.labels[known], gather(pool.activations, known).astype(np.float64)
    members = [activations[labels == c] for c in range(pool.classes)]
    anchors = np.array([(found if len(found) else activations).mean(axis=0) for found in members])  # [C, H]
    farthest = np.empty(len(positions))
    for where, block in blocks(pool.activations, positions):
        centred, others = block - anchors.mean(axis=0), anchors - anchors.mean(axis=0)
        squares = np.einsum("nd,nd->n", centred, centred)[:, None] + np.einsum("cd,cd->c", others, others)
        farthest[where] = np.sqrt(np.maximum(squares - 2 * centred @ others.T, 0)).max(axis=1)
    return np.maximum(farthest, np.finfo(np.float32).tiny)


def _one_of_each(
    features: NDArray, positions: NDArray[np.int64], k: int, rng: np.random.Generator, *, unit: bool = False
) -> NDArray[np.int64]:
    """The nearest to the centre of each of k clusters, largest first, and round again. -> [k] indices"""
    clustering = kmeans(features, k, int(rng.integers(2**31)), positions=positions, unit=unit)
    largest_first = np.argsort(-clustering.sizes, kind="stable")
    # clusters are fewer than k where samples are equal: then some give a second one
    return round_robin(clustering.assignment, largest_first, -clustering.distance)[:k]
