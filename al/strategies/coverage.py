"""Strategies that cover the feature space: farthest-first, and the most uncovered samples within a radius."""

import numpy as np
from numpy.typing import NDArray

from al.storage.blocks import gather
from al.strategies.base import Picks, Pool
from al.strategies.clustering import kmeans, nearest, nearest_stranger, squared_distances

FRONT_ROWS = 8192
"""Samples farthest from all that is labelled, which `coreset` keeps at hand."""
GRAPH_SAMPLES = 60_000
"""probcover looks at a seeded sample of the unlabelled beyond this many, which bounds its edges to 450 MB."""
PURITY_BALLS = 2048
"""Balls whose purity is looked at; all of them where there are no more samples."""
BALL_ROWS = 512
"""Rows of a block; whole bytes of bits."""
BALL_COLUMNS = 8192
BALL_SKETCH = 128
"""Directions by which far pairs are told, at a tenth of the products that 1,280 dimensions would take."""
SKETCH_SAMPLES = 8192
SKETCH_ROUNDING = 1e-4
"""Relative error that float32 products stay well below."""
ORDER_CLUSTERS = 16
"""Clusters by which samples are ordered, so that near ones share blocks."""


def coreset(pool: Pool, k: int, rng: np.random.Generator) -> Picks:
    """Farthest-first traversal, the greedy k-centre algorithm (Sener & Savarese, ICLR 2018).

    Repeatedly the u of largest min_l |f_u - f_l| over l in L and the picks so far; that distance is the score. With
    nothing labelled the first is any (score NaN). These distances only fall, so while one of the `FRONT_ROWS`
    farthest samples stays above all the others it is the farthest of all: passes over the features are few.
    """
    rows = pool.unlabelled
    picks, scores = [], []
    if pool.labelled.any():
        gap = nearest(pool.features, gather(pool.features, np.flatnonzero(pool.labelled)), rows=rows)[0]
    else:
        picks, scores, gap = [int(rng.integers(len(rows)))], [np.nan], np.full(len(rows), np.inf, np.float32)
    settled = 0
    while len(picks) < k:
        if new := picks[settled:]:
            gap = np.minimum(gap, nearest(pool.features, gather(pool.features, rows[new]), rows=rows)[0])
        gap[picks], settled = -1, len(picks)
        found, distances = _farthest(pool.features, rows, gap, k - len(picks))
        picks, scores = picks + found, scores + distances
    return Picks(rows[picks], np.array(scores, dtype=np.float32))


def _farthest(
    features: NDArray, rows: NDArray[np.int64], gap: NDArray[np.float32], k: int
) -> tuple[list[int], list[float]]:
    """Positions in `rows` of 1 to k samples, each the farthest from what is labelled and found, and how far it is.

    `gap` [U] is the distance to what is labelled, negative for samples that are out of the question.
    """
    by_gap = np.argsort(-gap, kind="stable")
    front, others = np.sort(by_gap[:FRONT_ROWS]), by_gap[FRONT_ROWS:]
    points, near = gather(features, rows[front]), gap[front]
    found, scores = [], []
    while len(found) < k:
        best = int(np.argmax(near))
        if found and len(others) and near[best] <= gap[others[0]]:
            break
        found.append(best)
        scores.append(float(near[best]))
        near = np.minimum(near, np.sqrt(squared_distances(points, points[best])))
        near[found] = -1
    return front[found].tolist(), scores


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
    picks, gains = _greedy_cover(Balls(pool.features, rows, int((~covered).sum()), delta), k)
    rest = rng.permutation(np.setdiff1d(pool.unlabelled, picks))[: k - len(picks)]
    return Picks(
        np.concatenate([picks, rest]).astype(np.int64), np.concatenate([gains, np.zeros(len(rest))]).astype(np.float32)
    )


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
    """Which samples lie within a radius of which, as bits [T, N]; 50,000 samples take 312 MB.

    Samples are kept in an order in which near ones share blocks: see `_within`.
    """

    def __init__(self, features: NDArray, rows: NDArray[np.int64], targets: int, radius: float):
        """The samples are `features` at `rows` [N]; the first `targets` of them are to be covered."""
        points = gather(features, rows)
        points -= points.mean(axis=0)
        sketch = sketched(points)
        groups = kmeans(sketch, ORDER_CLUSTERS, 0).assignment
        order = np.lexsort((sketch[:, 0], groups, np.arange(len(rows)) >= targets))
        self.rows = rows[order]
        """[N] the samples in the order in which this class counts them, those to be covered first."""
        self.targets = targets
        points = points[order]
        self.bits = _within(points, sketch[order], targets, radius)

    def reach(self, targets: NDArray[np.int64]) -> NDArray[np.int64]:
        """[N] how many of these targets each sample has within the radius."""
        total = np.zeros(len(self.rows), dtype=np.int64)
        for start in range(0, len(targets), 255):  # as many as a byte can count
            near = np.unpackbits(self.bits[targets[start : start + 255]], axis=1, count=len(self.rows))
            total += near.sum(axis=0, dtype=np.uint8)
        return total

    def around(self, sample: int) -> NDArray[np.bool_]:
        """[T] the targets within the radius of one sample."""
        return (self.bits[:, sample // 8] & (128 >> sample % 8)) > 0


def sketched(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, q + 1] x' = (B x, |x - B'B x|), B being up to 128 principal directions: |x'| = |x| and x'.y' >= x.y.

    So |x' - y'| <= |x - y|, whatever the directions (Cauchy-Schwarz); the better they are, the closer.
    """
    width = min(BALL_SKETCH, points.shape[1])
    sample = points[:: -(-len(points) // SKETCH_SAMPLES)]
    start = np.random.default_rng(0).standard_normal((points.shape[1], width), dtype=np.float32)
    span = np.linalg.qr(sample.T @ (sample @ start))[0]
    seen = sample @ span
    coordinates = points @ (span @ np.linalg.eigh(seen.T @ seen)[1][:, ::-1])
    rest = np.einsum("nd,nd->n", points, points) - np.einsum("nd,nd->n", coordinates, coordinates)
    return np.c_[coordinates, np.sqrt(np.maximum(rest, 0))]


def _within(points: NDArray[np.float32], sketch: NDArray[np.float32], targets: int, radius: float) -> NDArray[np.uint8]:
    """[T, ceil(N / 8)] bit y of row x: |x - y| < radius, for the first T of `points` [N, D] and all of them.

    Half of the pairs are looked at, this being symmetric, and by their sketches [N, q + 1] first. A block then takes
    all D dimensions only for those columns that are near one of its rows so.
    """
    bits = np.zeros((targets, -(-len(points) // 8)), dtype=np.uint8)
    half = np.einsum("nd,nd->n", points, points) / 2
    least = half * (1 - SKETCH_ROUNDING)
    for start in range(0, targets, BALL_ROWS):
        rows = slice(start, min(start + BALL_ROWS, targets))
        for first in range(start, len(points), BALL_COLUMNS):
            columns = slice(first, min(first + BALL_COLUMNS, len(points)))
            maybe = _near(sketch[rows], sketch[columns], least[rows], least[columns], radius).any(axis=0)
            if maybe.mean() > 0.5:
                maybe[:] = True  # to copy most of the columns costs more than to look at all
            found = first + np.flatnonzero(maybe)
            others = points[columns] if maybe.all() else points[found]
            _mark(bits, rows, found, _near(points[rows], others, half[rows], half[found], radius))
    own = np.arange(targets)
    bits[own, own // 8] |= (128 >> (own % 8)).astype(np.uint8)
    return bits


def _near(x: NDArray, y: NDArray, half_x: NDArray, half_y: NDArray, radius: float) -> NDArray[np.bool_]:
    """[n, m] |x - y| < radius, as x.y - |y|^2 / 2 > (|x|^2 - radius^2) / 2. x [n, D], y [m, D] and half their |.|^2."""
    score = x @ y.T
    score -= half_y
    return score > (half_x - radius**2 / 2)[:, None]


def _mark(bits: NDArray[np.uint8], rows: slice, found: NDArray[np.int64], near: NDArray[np.bool_]) -> None:
    """Writes `near` [rows, found], and its transpose for those found that are targets too."""
    if not len(found):
        return
    first, block = found[0] // 8 * 8, near
    if found[-1] - first >= len(found):
        block = np.zeros((len(near), found[-1] + 1 - first), dtype=bool)
        block[:, found - first] = near
    packed = np.packbits(block, axis=1)
    bits[rows, first // 8 : first // 8 + packed.shape[1]] |= packed
    mirrored = np.searchsorted(found, len(bits))
    turned = np.packbits(near[:, :mirrored].T, axis=1)
    bits[found[:mirrored], rows.start // 8 : rows.start // 8 + turned.shape[1]] |= turned


def _greedy_cover(balls: Balls, k: int) -> tuple[list[int], list[int]]:
    """Samples that cover most of what is uncovered, until k are taken or all is covered; ties to the lower row.

    Returns the rows of the samples, and how many each covered that were not.
    """
    uncovered = np.ones(balls.targets, dtype=bool)
    gain = balls.reach(np.arange(balls.targets))
    picks, gains = [], []
    while len(picks) < k and uncovered.any():
        tied = np.flatnonzero(gain == gain.max())
        best = tied[np.argmin(balls.rows[tied])]
        picks.append(int(balls.rows[best]))
        gains.append(int(gain[best]))
        new = np.flatnonzero(balls.around(best) & uncovered)
        uncovered[new] = False
        gain -= balls.reach(new)
    return picks, gains
