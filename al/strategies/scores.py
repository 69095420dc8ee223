"""Strategies that rank the unlabelled images by a score of their class probabilities. Higher is picked."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from al.storage.blocks import release
from al.strategies.base import Picks, Pool, Select

BLOCK_BYTES = 16 * 2**20
"""Of probabilities scored at a time: a pool of millions needs no second copy of them."""


def top_k(scores: NDArray[np.floating], rows: NDArray[np.int64], k: int) -> Picks:
    """The k highest of `scores` [U], which belong to `rows` [U]; ties go to the lower row.

    Raises:
        ValueError: a score is NaN.
    """
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} of {len(scores)} scores are NaN: the model has diverged")
    best = np.lexsort((rows, -scores))[:k]
    return Picks(rows[best], scores[best].astype(np.float32))


def least_confidence(probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 - max_c p_c (Lewis & Gale 1994). [U, C] -> [U]"""
    return 1 - probs.max(axis=1)


def smallest_margin(probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """-(p_1 - p_2), the two largest probabilities (Scheffer et al. 2001). [U, C] -> [U]"""
    second, first = np.partition(probs, -2, axis=1)[:, -2:].T
    return second - first


def predictive_entropy(probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """-sum_c p_c log p_c, 0 log 0 being 0 (Shannon 1948; Settles 2009). [U, C] -> [U]"""
    return -np.sum(probs * np.log(np.maximum(probs, np.finfo(np.float32).tiny)), axis=1)


def mutual_information(mc_probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """H[mean_t p_t] - mean_t H[p_t] over T dropout passes (Gal, Islam & Ghahramani 2017). [T, U, C] -> [U]"""
    return predictive_entropy(mc_probs.mean(axis=0)) - np.mean([predictive_entropy(p) for p in mc_probs], axis=0)


def scored(score: Callable[[NDArray], NDArray], array: NDArray, rows: NDArray[np.int64]) -> NDArray:
    """[n] `score` of those rows, one at least, of probs [N, C] or mc_probs [T, N, C], block by block."""
    step = max(1, BLOCK_BYTES // max(1, array[..., :1, :].nbytes))
    parts = []
    for start in range(0, len(rows), step):
        parts.append(score(array[..., rows[start : start + step], :]))
        release(array)
    return np.concatenate(parts)


def ranking(score: Callable[[NDArray], NDArray], of: str = "probs") -> Select:
    """The strategy that picks the highest `score` of an array of the pool: probs [N, C] or mc_probs [T, N, C]."""

    def choose(pool: Pool, k: int, rng: np.random.Generator) -> Picks:
        rows = pool.unlabelled
        return top_k(scored(score, getattr(pool, of), rows), rows, k)

    return choose


def uniform(pool: Pool, k: int, rng: np.random.Generator) -> Picks:
    """Any unlabelled images, each as likely as the next."""
    rows = pool.unlabelled
    picks = rng.choice(rows, size=k, replace=False)
    return Picks(picks, np.full(len(picks), np.nan, dtype=np.float32))
