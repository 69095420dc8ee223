"""Strategies that cover the feature space: farthest-first, and the most uncovered samples within a radius."""

import numpy as np
from numpy.typing import NDArray

from al.neighbours import gather, kmeans, nearest, nearest_stranger, read, resident, squared_distances
from al.strategies.base import Picks, Pool

GRAPH_SAMPLES = 60_000
"""probcover looks at a seeded sample of the unlabelled beyond this many, which bounds its edges to 450 MB."""
PURITY_BALLS = 2048
"""Balls whose purity is looked at; all of them where there are no more samples."""
BALL_ROWS = 1024


def coreset(pool: Pool, k: int, rng: np.random.Generator) -> Picks:
    """Farthest-first traversal, the greedy k-centre algorithm (Sener & Savarese, ICLR 2018).

    Repeatedly the u of largest min_l |f_u - f_l| over l in L and the picks so far; that distance is the score. With
    nothing labelled the first is any (score NaN). Each pick costs one pass over the features, and O(U) memory.
    """
    rows = pool.unlabelled
    features, among = resident(pool.features, rows)
    if pool.labelled.any():
        gap = nearest(features, gather(pool.features, np.flatnonzero(pool.labelled)), rows=among)[0]
    else:
        gap = np.full(len(rows), np.nan, dtype=np.float32)
    picks, scores = [], []
    while len(picks) < k:
        best = int(rng.integers(len(rows))) if np.isnan(gap[0]) else int(np.argmax(gap))
        picks.append(best)
        scores.append(gap[best])
        newest = squared_distances(features, read(pool.features, rows[[best]])[0], among)
        gap = np.fmin(gap, np.sqrt(newest))
        gap[picks] = -1
    return Picks(rows[picks], np.array(scores, dtype=np.float32))


def probcover(
    pool: Pool,
    k: int,
    rng: np.random.Generator,
    *,
    probcover_delta: float | None = None,
    probcover_purity: float = 0.95,
) -> Picks:
    """Greedy maximum coverage by balls of radius delta (Yehuda et al., NeurIPS 2022).

    Edge x -> y iff |f_x - f_y| < delta; L covers what it reaches; repeatedly the u that reaches most uncovered
    samples, their number being the score. Once all are covered the rest are any (score 0).

    Args:
        pool: its features; unlabelled samples are both what covers and what is to be covered.
        k: at most the number of the unlabelled.
        rng: seeds the clustering behind delta, and the rest.
        probcover_delta: radius; None: `pure_radius`.
        probcover_purity: share of balls that `pure_radius` leaves pure.
    """
    delta = probcover_delta or pure_radius(pool.features, pool.classes, probcover_purity, rng)
    rows = pool.unlabelled
    if len(rows) > GRAPH_SAMPLES:
        rows = np.sort(rng.choice(rows, GRAPH_SAMPLES, replace=False))
    covered = np.zeros(len(rows), dtype=bool)
    if pool.labelled.any():
        covered = nearest(pool.features, gather(pool.features, np.flatnonzero(pool.labelled)), rows=rows)[0] < delta
    rows = np.concatenate([rows[~covered], rows[covered]])
    best, gains = _greedy_cover(Balls(gather(pool.features, rows), int((~covered).sum()), delta), rows, k)
    rest = rng.permutation(np.setdiff1d(pool.unlabelled, rows[best]))[: k - len(best)]
    return Picks(np.concatenate([rows[best], rest]), np.concatenate([gains, np.zeros(len(rest))]).astype(np.float32))


def pure_radius(features: NDArray, classes: int, purity: float, rng: np.random.Generator) -> float:
    """The largest delta for which the share `purity` of the balls holds one pseudo-label only.

    Pseudo-labels are a k-means with one cluster a class. The ball of x is pure iff delta <= e(x), the distance from
    x to the nearest sample with another pseudo-label; so delta is the quantile of e at 1 - purity, here over at
    most 2,048 seeded x. It is returned a hair smaller, lest rounding let the stranger in. Infinite for one cluster.
    """
    pseudo = kmeans(features, classes, int(rng.integers(2**31))).assignment
    sample = np.sort(rng.choice(len(features), min(len(features), PURITY_BALLS), replace=False))
    stranger = np.sort(nearest_stranger(features, pseudo, sample))
    impure = int((1 - purity) * len(sample) + 1e-9)
    return float(stranger[min(impure, len(sample) - 1)]) * (1 - 1e-4)


class Balls:
    """Which samples lie within a radius of which, as bits [T, N], computed with half of the N x T products.

    50,000 samples take 312 MB, and 3.2 TFLOP at 1,280 dimensions.
    """

    def __init__(self, points: NDArray[np.float32], targets: int, radius: float):
        """`points` [N, D], the first `targets` of which are to be covered; they are centred in place."""
        points -= points.mean(axis=0)
        self.count, self.targets = len(points), targets
        self.bits = np.zeros((targets, -(-self.count // 8)), dtype=np.uint8)
        half = np.einsum("nd,nd->n", points, points) / 2
        for start in range(0, targets, BALL_ROWS):
            rows = slice(start, min(start + BALL_ROWS, targets))
            for first in range(start, self.count, 4 * BALL_ROWS):
                columns = slice(first, min(first + 4 * BALL_ROWS, self.count))
                score = points[rows] @ points[columns].T  # |x - y|^2 < r^2 iff x.y - |y|^2 / 2 > (|x|^2 - r^2) / 2
                score -= half[columns]
                self._mark(rows, columns, score > (half[rows] - radius**2 / 2)[:, None])
        own = np.arange(targets)
        self.bits[own, own // 8] |= (128 >> (own % 8)).astype(np.uint8)

    def _mark(self, rows: slice, columns: slice, near: NDArray[np.bool_]) -> None:
        """Writes `near` [rows, columns], and its transpose for those columns that are targets too."""
        self.bits[rows, columns.start // 8 : -(-columns.stop // 8)] = np.packbits(near, axis=1)
        mirrored = slice(columns.start, min(columns.stop, self.targets))
        if mirrored.start < mirrored.stop:
            turned = np.packbits(near[:, : mirrored.stop - mirrored.start].T, axis=1)
            self.bits[mirrored, rows.start // 8 : rows.start // 8 + turned.shape[1]] |= turned

    def reach(self, targets: NDArray[np.int64]) -> NDArray[np.int64]:
        """[N] how many of these targets each sample has within the radius."""
        total = np.zeros(self.count, dtype=np.int64)
        for start in range(0, len(targets), 256):
            near = np.unpackbits(self.bits[targets[start : start + 256]], axis=1, count=self.count)
            total += near.sum(axis=0, dtype=np.int32)
        return total

    def around(self, sample: int) -> NDArray[np.bool_]:
        """[T] the targets within the radius of one sample."""
        return (self.bits[:, sample // 8] & (128 >> sample % 8)) > 0


def _greedy_cover(balls: Balls, rows: NDArray[np.int64], k: int) -> tuple[list[int], list[int]]:
    """Samples that cover most of what is uncovered, until k are taken or all is covered; ties to the lower row."""
    uncovered = np.ones(balls.targets, dtype=bool)
    gain = balls.reach(np.arange(balls.targets))
    picks, gains = [], []
    while len(picks) < k and uncovered.any():
        tied = np.flatnonzero(gain == gain.max())
        picks.append(int(tied[np.argmin(rows[tied])]))
        gains.append(int(gain[picks[-1]]))
        new = np.flatnonzero(balls.around(picks[-1]) & uncovered)
        uncovered[new] = False
        gain -= balls.reach(new)
    return picks, gains
