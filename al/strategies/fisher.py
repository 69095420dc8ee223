"""BAIT: the batch that leaves least uncertainty about the last layer, by its Fisher information."""

import numpy as np
from numpy.typing import NDArray

from al.storage.blocks import blocks, gather
from al.strategies.base import Picks, Pool

CANDIDATES = 30_000
"""Unlabelled samples that are chosen from, a seeded part of a larger pool: each is looked at for every pick."""
RANKED = 16
"""Samples of largest gain that each step looks at in float64."""
OVERSAMPLED = 2
"""Samples that are taken for one that is kept, as published."""


def bait(pool: Pool, k: int, rng: np.random.Generator, *, bait_ridge: float = 1.0) -> Picks:
    """Pick what most reduces the expected error of the last layer, in the binary, rank-one form of BAIT.

    Ash et al. (NeurIPS 2021), made quick by Huseljic et al. ("Fast Fishing", 2024): x = sqrt(p (1 - p)) f stands for a
    sample, p being its top probability, so that x x^T is the Fisher information of its last layer as if it had two
    classes. With F the mean of x x^T over the pool and M = lambda I + (sum over labelled x x^T) / (n_L + B), the trace
    of M^-1 F is made small: greedily 2 B samples are added to M, then B of them taken away. Each enters as
    B / (n_L + B) x x^T, B times a labelled one, as in the authors' code. The score is how far a sample lowered the
    trace when it was added.
    """
    labelled, unlabelled = np.flatnonzero(pool.labelled), pool.unlabelled
    most = max(CANDIDATES, OVERSAMPLED * k)
    if len(unlabelled) > most:
        unlabelled = np.sort(rng.choice(unlabelled, most, replace=False))
    share = 1 / (len(labelled) + k)
    fisher = _information(pool, np.arange(len(pool.labelled))) / len(pool.labelled)  # [D, D] F
    ridge = bait_ridge * _mean_square(pool.activations) * np.eye(len(fisher))  # [D, D] lambda I
    inverse = np.linalg.inv(ridge + _information(pool, labelled) * share)  # [D, D] M^-1
    x = gather(pool.activations, unlabelled)  # [n, D]
    x *= _weights(pool.probs[unlabelled])[:, None] * np.float32(np.sqrt(k * share))
    taken, gains, inverse = _forward(x, fisher, inverse, min(OVERSAMPLED * k, len(x)))
    kept = _backward(x[taken].astype(np.float64), fisher, inverse, k)
    return Picks(unlabelled[taken[kept]], gains[kept].astype(np.float32))


def _weights(probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """sqrt(p (1 - p)) of the top class. [n, C] -> [n]"""
    if not np.isfinite(probs).all():
        raise ValueError("probabilities hold NaN or infinite values: the model has diverged; lower lr")
    top = probs.max(axis=1)
    return np.sqrt(np.maximum(top * (1 - top), 0))


def _mean_square(activations: NDArray[np.float32]) -> float:
    """Of all entries of [N, D]; 1 where all are 0."""
    total = sum(float(np.vdot(block, block)) for _, block in blocks(activations))
    return total / np.prod(activations.shape) or 1.0


def _information(pool: Pool, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """The sum of x x^T over those positions. -> [D, D]"""
    total = np.zeros((pool.activations.shape[1],) * 2)
    for where, block in blocks(pool.activations, positions):
        x = block * _weights(pool.probs[positions[where]])[:, None]  # [b, D]
        total += x.T @ x
    return total


def _forward(
    x: NDArray[np.float32], fisher: NDArray[np.float64], inverse: NDArray[np.float64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Add `count` of x [n, D] to M, each lowering tr(M^-1 F) most. -> indices, how far each lowered it, M^-1 after it.

    Adding x lowers the trace by a / (1 + s), s = x M^-1 x^T and a = x M^-1 F M^-1 x^T. With v = M^-1 x_j of the one
    that is added, c = 1 + s_j and w = M^-1 F v (Sherman-Morrison):
        M'^-1 = M^-1 - v v^T / c        s' = s - (x.v)^2 / c        a' = a - 2 (x.v)(x.w) / c + (x.v)^2 (v.F v) / c^2
    so that a step is two products with x, and nothing larger than [D, D] is kept. In float32 these rank the samples;
    of those ranked first s and a are taken anew in float64, for what rounding adds up to over hundreds of steps.
    """
    inverse = inverse.copy()
    s, a = np.empty(len(x)), np.empty(len(x))
    half, both = inverse.astype(np.float32), (inverse @ fisher @ inverse).astype(np.float32)
    for where, block in blocks(x):
        s[where] = np.einsum("nd,nd->n", block @ half, block)
        a[where] = np.einsum("nd,nd->n", block @ both, block)
    taken, gains, left = [], [], np.ones(len(x), dtype=bool)
    for _ in range(count):
        gain = np.where(left, a / (1 + s), -np.inf)  # [n]
        ranked = min(RANKED, len(x) - len(taken))
        first = np.sort(np.argpartition(-gain, ranked - 1)[:ranked])  # [m]
        chosen = x[first].astype(np.float64)  # [m, D]
        projected = chosen @ inverse  # [m, D] x M^-1
        weighed = projected @ fisher  # [m, D] x M^-1 F
        s[first] = np.einsum("md,md->m", projected, chosen)
        a[first] = np.einsum("md,md->m", weighed, projected)
        row = int(np.argmax(a[first] / (1 + s[first])))
        best, v, fv = first[row], projected[row], weighed[row]
        c = 1 + s[best]
        taken.append(best)
        gains.append(a[best] / c)
        left[best] = False
        w = inverse @ fv  # [D]
        xv, xw = (x @ v.astype(np.float32)).astype(np.float64), (x @ w.astype(np.float32)).astype(np.float64)  # [n]
        s -= xv**2 / c
        a += -2 * xv * xw / c + xv**2 * (v @ fv) / c**2
        inverse -= np.outer(v / c, v)
    return np.array(taken), np.array(gains), inverse


def _backward(
    x: NDArray[np.float64], fisher: NDArray[np.float64], inverse: NDArray[np.float64], k: int
) -> NDArray[np.int64]:
    """Take all but k of x [m, D] out of M again, each raising tr(M^-1 F) least, by a / (1 - s). -> indices"""
    projected = x @ inverse  # [m, D] x M^-1
    s = np.einsum("md,md->m", projected, x)
    a = np.einsum("md,md->m", projected @ fisher, projected)
    left = np.ones(len(x), dtype=bool)
    for _ in range(len(x) - k):
        kept = np.flatnonzero(left)
        worst = kept[np.argmin(a[kept] / (1 - s[kept]))]  # s < 1, as M holds the sample and lambda I
        left[worst] = False
        v = inverse @ x[worst]
        c = 1 - s[worst]  # as in `_forward`, with -x x^T for x x^T
        fv = fisher @ v
        xv, xw = x @ v, x @ (inverse @ fv)
        s += xv**2 / c
        a += 2 * xv * xw / c + xv**2 * (v @ fv) / c**2
        inverse = inverse + np.outer(v / c, v)
    return np.flatnonzero(left)
