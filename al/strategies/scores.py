"""Strategies that rank the unlabelled images by a score of their class probabilities; the highest are picked."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from al.storage.blocks import release
from al.strategies.base import Picks, Pool, Select

BLOCK_BYTES = 16 * 2**20
"""Probabilities scored at a time: a pool of millions needs no second copy of them."""


def top_k(scores: NDArray[np.floating], positions: NDArray[np.int64], k: int) -> Picks:
    """The k highest of `scores` [U], which belong to `positions` [U]; ties go to the lower position.

    Raises:
        ValueError: a score is NaN.
    """
    if np.isnan(scores).any():  # NaN would rank first in a reversed sort
        raise ValueError(
            f"{int(np.isnan(scores).sum())} of {len(scores)} scores are NaN: the model has diverged; lower lr"
        )
    best = np.lexsort((positions, -scores))[:k]  # the last key sorts first
    return Picks(positions[best], scores[best].astype(np.float32))


def least_confidence(probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """How unsure the model is of its first choice (Lewis & Gale 1994). [U, C] -> [U]"""
    return 1 - probs.max(axis=1)  # 1 - max_c p_c


def smallest_margin(probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """How close the two most probable classes are, at most 0 (Scheffer et al. 2001). [U, C] -> [U]"""
    second, first = np.partition(probs, -2, axis=1)[:, -2:].T
    return second - first  # -(p_1 - p_2)


def predictive_entropy(probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The entropy of the class probabilities (Shannon 1948; Settles 2009). [U, C] -> [U]"""
    # H[p] = -sum_c p_c log p_c; the clamp makes 0 log 0 = 0 rather than NaN
    return -np.sum(probs * np.log(np.maximum(probs, np.finfo(np.float32).tiny)), axis=1)


def mutual_information(mc_probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much the dropout passes disagree (Gal, Islam & Ghahramani 2017). [T, U, C] -> [U]"""
    # H[mean_t p_t] - mean_t H[p_t]: unsure on average, though each pass is sure
    return predictive_entropy(mc_probs.mean(axis=0)) - np.mean([predictive_entropy(p) for p in mc_probs], axis=0)


def scored(score: Callable[[NDArray], NDArray], array: NDArray, positions: NDArray[np.int64]) -> NDArray:
    """`score` at those positions, one at least, of probs [N, C] or mc_probs [T, N, C], block by block. -> [n]"""
    step = max(1, BLOCK_BYTES // max(1, array[..., :1, :].nbytes))
    parts = []
    for start in range(0, len(positions), step):
        parts.append(score(array[..., positions[start : start + step], :]))
        release(array)
    return np.concatenate(parts)


NOISE_OPTIONS = ("batch_noise", "batch_beta")
"""Fields of `RunConfig` that every strategy takes that ranks scores."""


def noisy_top_k(
    scores: NDArray[np.floating],
    positions: NDArray[np.int64],
    k: int,
    rng: np.random.Generator,
    least: float = 0.0,
    *,
    batch_noise: str = "none",
    batch_beta: float = 1.0,
) -> Picks:
    """Pick by scores with Gumbel noise, so that a batch is not k copies of one image (Kirsch et al., TMLR 2023).

    The k highest of s (none), log s + G / beta (power), s + G / beta (softmax) or -log rank + G / beta (softrank), G
    being drawn from the standard Gumbel distribution: for power, that is to draw k without replacement with chances
    proportional to s^beta. The larger beta, the nearer to the k highest of s. The scores returned are without noise.

    Args:
        scores: [U] s
        positions: [U] whose scores they are, ascending.
        least: what scores are at least, which power takes away, as it wants scores from 0 up.
    """
    best = top_k(scores, positions, len(scores) if batch_noise == "softrank" else k)
    if batch_noise == "none":
        return best
    if batch_noise == "softrank":
        sure = np.empty(len(scores))
        sure[np.searchsorted(positions, best.positions)] = -np.log(1 + np.arange(len(scores)))  # the first has rank 1
    elif batch_noise == "power":
        sure = np.log(np.maximum(scores - least, np.finfo(np.float32).tiny))  # s = 0 comes last, by chance
    else:
        sure = scores
    noisy = sure + rng.gumbel(size=len(scores)) / batch_beta  # [U]
    chosen = np.lexsort((positions, -noisy))[:k]
    return Picks(positions[chosen], scores[chosen].astype(np.float32))


def ranking(score: Callable[[NDArray], NDArray], of: str = "probs", least: float = 0.0) -> Select:
    """The strategy that picks the highest `score` of an array of the pool: probs [N, C] or mc_probs [T, N, C].

    Args:
        least: the lowest value that the score can have.
    """

    def choose(pool: Pool, k: int, rng: np.random.Generator, **noise: Any) -> Picks:
        unlabelled = pool.unlabelled
        scores = scored(score, getattr(pool, of), unlabelled)
        return noisy_top_k(scores, unlabelled, k, rng, least, **noise)

    return choose


def uniform(pool: Pool, k: int, rng: np.random.Generator) -> Picks:
    """Any unlabelled images, each as likely as the next."""
    picks = rng.choice(pool.unlabelled, size=k, replace=False)
    return Picks(picks, np.full(k, np.nan, dtype=np.float32))
