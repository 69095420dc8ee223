"""BADGE: diverse and uncertain by the gradients that the last layer would see."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from al.storage.blocks import blocks, gather
from al.strategies.base import Picks, Pool

REJECTED = 1000
"""Draws in vain after which the distances of all samples are brought up to date."""
CLOSE = 1e-3
"""Squared distances below this share of the squared lengths are taken by subtraction, lest rounding decide them."""


class Gradients(NamedTuple):
    """Gradient embeddings g = a outer f of n samples, never formed: [n, C x D] would not fit into memory.

    Their products need only the parts: g_i.g_j = (a_i.a_j)(f_i.f_j).
    """

    errors: NDArray[np.float64]
    """[n, C] a = p - onehot(argmax p)."""
    features: NDArray[np.float32]
    """[n, D] f"""
    lengths: NDArray[np.float64]
    """[n] |f|^2"""

    @classmethod
    def of(cls, probs: NDArray, features: NDArray[np.float32]) -> "Gradients":
        """From probabilities [n, C] and features [n, D], with the predicted class as the label."""
        errors = probs.astype(np.float64)
        if not np.isfinite(errors).all():
            raise ValueError("probabilities hold NaN or infinite values: the model has diverged; lower lr")
        errors[np.arange(len(errors)), errors.argmax(axis=1)] -= 1
        return cls(errors, features, np.einsum("nd,nd->n", features, features, dtype=np.float64))

    def take(self, indices: NDArray[np.int64] | list[int]) -> "Gradients":
        return Gradients(*(array[indices] for array in self))

    def append(self, others: "Gradients") -> "Gradients":
        return Gradients(*(np.append(*pair, axis=0) for pair in zip(self, others)))

    @property
    def squared(self) -> NDArray[np.float64]:
        """[n] |g|^2 = |a|^2 |f|^2"""
        return (self.errors**2).sum(axis=1) * self.lengths

    def to_nearest(self, picked: "Gradients") -> NDArray[np.float64]:
        """[n] squared distance to the nearest of `picked`, infinite without any; exactly 0 for an equal sample."""
        product = (self.errors @ picked.errors.T) * (self.features @ picked.features.T)  # [n, m] g.h
        both = self.squared[:, None] + picked.squared  # [n, m] |g|^2 + |h|^2
        found = both - 2 * product  # [n, m] |g - h|^2, all rounding where g is near h
        close = found < CLOSE * both
        for j in np.flatnonzero(close.any(axis=0)):
            indices = np.append(np.flatnonzero(close[:, j]), len(self.features))  # the last is the picked one
            near = self.append(picked.take([j])).take(indices)
            apart = ((near.features - near.features[-1]) ** 2).sum(axis=1)
            found[indices[:-1], j] = gradient_distances(near.errors, near.lengths, apart, -1)[:-1]
        return np.maximum(found.min(axis=1, initial=np.inf), 0)


def badge(pool: Pool, k: int, rng: np.random.Generator) -> Picks:
    """Draw by k-means++ over the gradient embeddings g = a outer f, a = p - onehot(argmax p) (Ash et al., ICLR 2020).

    The first pick is any, each further one is drawn with probability proportional to its squared distance to the
    nearest pick; where all of these are 0, uniformly from the rest. Distances only fall, so it can be drawn by those
    to some of the picks and kept with probability new / old: passes over the features are few instead of k.
    f are the model's own activations, whatever the run clusters in. No score.
    """
    unlabelled = pool.unlabelled  # [U]
    picks = [int(rng.integers(len(unlabelled)))]  # indices into `unlabelled`
    weight, settled = np.full(len(unlabelled), np.inf), 0  # [U] squared distance to the nearest of picks[:settled]
    while len(picks) < k:
        picked = _gradients(pool, unlabelled[picks[settled:]])
        for where, block in blocks(pool.activations, unlabelled):
            ours = Gradients.of(pool.probs[unlabelled[where]], block)
            weight[where] = np.minimum(weight[where], ours.to_nearest(picked))
        settled = len(picks)
        if not weight.any():
            rest = rng.permutation(np.setdiff1d(np.arange(len(unlabelled)), picks))
            picks += rest[: k - len(picks)].tolist()
        else:
            picks += _draws(pool, unlabelled, weight, k - len(picks), rng)
    return Picks(unlabelled[picks], np.full(k, np.nan, dtype=np.float32))


def _gradients(pool: Pool, positions: NDArray[np.int64]) -> Gradients:
    return Gradients.of(pool.probs[positions], gather(pool.activations, positions))


def _draws(
    pool: Pool, unlabelled: NDArray[np.int64], weight: NDArray[np.float64], k: int, rng: np.random.Generator
) -> list[int]:
    """Draw 1 to k indices into `unlabelled` by rejection from `weight` [U], squared distances to the picks so far."""
    total = np.cumsum(weight)
    picks: list[int] = []
    picked, rejected = _gradients(pool, unlabelled[:0]), 0
    while len(picks) < k and rejected < REJECTED:
        drawn = int(np.searchsorted(total, rng.random() * total[-1], side="right"))  # chance ~ weight[drawn]
        new = _gradients(pool, unlabelled[[drawn]])
        # kept with chance min(weight, distance to the new picks) / weight; a pick itself is at 0 and never kept again
        if rng.random() * weight[drawn] < min(weight[drawn], new.to_nearest(picked)[0]):
            picked = picked.append(new)
            picks.append(drawn)
        else:
            rejected += 1
    return picks


def gradient_distances(
    errors: NDArray[np.float64], lengths: NDArray[np.float64], apart: NDArray[np.float32], newest: int
) -> NDArray[np.float64]:
    """|g_i - g_j|^2 to j = `newest`, exact where both are near: no difference of large products is taken. -> [U]

    |g_i - g_j|^2 = |a_i|^2 |f_i - f_j|^2 + |a_i - a_j|^2 |f_j|^2 + 2 (a_i.(a_i - a_j)) (f_j.(f_i - f_j))

    Args:
        errors: [U, C] a
        lengths: [U] |f|^2
        apart: [U] |f_i - f_j|^2
    """
    difference = errors - errors[newest]  # [U, C]
    along = (lengths - lengths[newest] - apart) / 2  # [U] f_j.(f_i - f_j)
    squared = (
        (errors**2).sum(axis=1) * apart
        + (difference**2).sum(axis=1) * lengths[newest]
        + 2 * (errors * difference).sum(axis=1) * along
    )
    return np.maximum(squared, 0)
