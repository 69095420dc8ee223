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
    """Gradient embeddings g = a outer f of some samples, never formed."""

    errors: NDArray[np.float64]
    """[n, C] a = p - onehot(argmax p)."""
    features: NDArray[np.float32]
    """[n, D] f"""
    lengths: NDArray[np.float64]
    """[n] |f|^2"""

    @classmethod
    def of(cls, probs: NDArray, features: NDArray[np.float32]) -> "Gradients":
        errors = probs.astype(np.float64)
        if not np.isfinite(errors).all():
            raise ValueError("probabilities hold NaN or infinite values: the model has diverged")
        errors[np.arange(len(errors)), errors.argmax(axis=1)] -= 1
        return cls(errors, features, np.einsum("nd,nd->n", features, features, dtype=np.float64))

    def take(self, rows: NDArray[np.int64] | list[int]) -> "Gradients":
        return Gradients(*(array[rows] for array in self))

    def and_(self, others: "Gradients") -> "Gradients":
        return Gradients(*(np.append(*pair, axis=0) for pair in zip(self, others)))

    @property
    def squared(self) -> NDArray[np.float64]:
        """[n] |g|^2"""
        return (self.errors**2).sum(axis=1) * self.lengths

    def to_nearest(self, picked: "Gradients") -> NDArray[np.float64]:
        """[n] squared distance to the nearest of `picked`, infinite without any; exactly 0 for an equal sample."""
        product = (self.errors @ picked.errors.T) * (self.features @ picked.features.T)
        both = self.squared[:, None] + picked.squared
        found = both - 2 * product
        close = found < CLOSE * both
        for j in np.flatnonzero(close.any(axis=0)):
            rows = np.append(np.flatnonzero(close[:, j]), len(self.features))
            near = self.and_(picked.take([j])).take(rows)
            apart = ((near.features - near.features[-1]) ** 2).sum(axis=1)
            found[rows[:-1], j] = gradient_distances(near.errors, near.lengths, apart, -1)[:-1]
        return np.maximum(found.min(axis=1, initial=np.inf), 0)


def badge(pool: Pool, k: int, rng: np.random.Generator) -> Picks:
    """k-means++ seeding over the gradient embeddings g = a outer f, a = p - onehot(argmax p) (Ash et al., ICLR 2020).

    The first pick is any, each further one is drawn with probability proportional to its squared distance to the
    nearest pick; where all of these are 0, uniformly from the rest. Distances only fall, so it can be drawn by those
    to some of the picks and kept with probability new / old: passes over the features are few instead of k.
    f are the model's own activations, whatever the run clusters in. No score.
    """
    rows = pool.unlabelled
    picks = [int(rng.integers(len(rows)))]
    weight, settled = np.full(len(rows), np.inf), 0
    while len(picks) < k:
        picked = _gradients(pool, rows[picks[settled:]])
        for where, block in blocks(pool.activations, rows):
            ours = Gradients.of(pool.probs[rows[where]], block)
            weight[where] = np.minimum(weight[where], ours.to_nearest(picked))
        settled = len(picks)
        if not weight.any():
            picks += rng.permutation(np.setdiff1d(np.arange(len(rows)), picks))[: k - len(picks)].tolist()
        else:
            picks += _draws(pool, rows, weight, k - len(picks), rng)
    return Picks(rows[picks], np.full(len(picks), np.nan, dtype=np.float32))


def _gradients(pool: Pool, rows: NDArray[np.int64]) -> Gradients:
    return Gradients.of(pool.probs[rows], gather(pool.activations, rows))


def _draws(
    pool: Pool, rows: NDArray[np.int64], weight: NDArray[np.float64], k: int, rng: np.random.Generator
) -> list[int]:
    """1 to k positions in `rows`, by rejection from `weight` [U]: their squared distances to the picks before them."""
    total = np.cumsum(weight)
    picks: list[int] = []
    picked, rejected = _gradients(pool, rows[:0]), 0
    while len(picks) < k and rejected < REJECTED:
        drawn = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
        new = _gradients(pool, rows[[drawn]])
        if rng.random() * weight[drawn] < min(weight[drawn], new.to_nearest(picked)[0]):
            picked = picked.and_(new)
            picks.append(drawn)
        else:
            rejected += 1
    return picks


def gradient_distances(
    errors: NDArray[np.float64], lengths: NDArray[np.float64], apart: NDArray[np.float32], newest: int
) -> NDArray[np.float64]:
    """|g_i - g_j|^2 [U] to j = `newest`, from a [U, C], |f_i|^2 [U] and |f_i - f_j|^2 [U]."""
    difference = errors - errors[newest]
    along = (lengths - lengths[newest] - apart) / 2  # f_j.(f_i - f_j)
    squared = (
        (errors**2).sum(axis=1) * apart
        + (difference**2).sum(axis=1) * lengths[newest]
        + 2 * (errors * difference).sum(axis=1) * along
    )
    return np.maximum(squared, 0)
