"""BADGE: diverse and uncertain by the gradients that the last layer would see."""

import numpy as np
from numpy.typing import NDArray

from al.neighbours import resident, squared_distances
from al.strategies.base import Picks, Pool


def badge(pool: Pool, k: int, rng: np.random.Generator) -> Picks:
    """k-means++ seeding over the gradient embeddings g = a outer f, a = p - onehot(argmax p) (Ash et al., ICLR 2020).

    The first pick is any, each further one is drawn with probability proportional to its squared distance to the
    nearest pick; where all of these are 0, uniformly from the rest. g [U, C x D] is never formed:
    |g_i - g_j|^2 = |a_i|^2 |f_i - f_j|^2 + |a_i - a_j|^2 |f_j|^2 + 2 a_i.(a_i - a_j) f_j.(f_i - f_j),
    the textbook |a_i|^2|f_i|^2 + |a_j|^2|f_j|^2 - 2 (a_i.a_j)(f_i.f_j) written so that equal samples give exactly 0.
    f are the model's own activations, whatever the run clusters in. Each pick costs one pass over them. No score.
    """
    rows = pool.unlabelled
    errors = pool.probs[rows].astype(np.float64)
    if not np.isfinite(errors).all():
        raise ValueError("probabilities hold NaN or infinite values: the model has diverged")
    errors[np.arange(len(rows)), errors.argmax(axis=1)] -= 1
    features, among = resident(pool.activations, rows)
    lengths = squared_distances(features, np.zeros(features.shape[1]), among).astype(np.float64)
    picks = [int(rng.integers(len(rows)))]
    weight = np.full(len(rows), np.inf)
    while len(picks) < k:
        newest = picks[-1]
        apart = squared_distances(features, features[newest if among is None else among[newest]], among)
        weight = np.minimum(weight, gradient_distances(errors, lengths, apart, newest))
        picks.append(_draw(weight, picks, rng))
    return Picks(rows[picks], np.full(len(picks), np.nan, dtype=np.float32))


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


def _draw(weight: NDArray[np.float64], picks: list[int], rng: np.random.Generator) -> int:
    """An index with probability proportional to `weight` [U], which is 0 at `picks`; if all are 0, any but these."""
    total = np.cumsum(weight)
    if total[-1] > 0:
        return int(np.searchsorted(total, rng.random() * total[-1], side="right"))
    return int(rng.choice(np.setdiff1d(np.arange(len(weight)), picks)))
