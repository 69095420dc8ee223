"""Strategies that cover the feature space: farthest-first, and the most uncovered samples within a radius."""

import numpy as np
from numpy.typing import NDArray

from al.storage.blocks import gather
from al.strategies.base import Picks, Pool
from al.strategies.clustering import ROUNDING, by_subtraction, kmeans, nearest, nearest_stranger, squared_distances
from al.strategies.feature_cache import once_per_features

FRONT_ROWS = 8192
"""Samples farthest from all that is labelled that `coreset` keeps in memory."""
GRAPH_SAMPLES = 60_000
"""probcover looks at a seeded sample of the unlabelled beyond this many, which bounds its edges to 450 MB."""
PURITY_BALLS = 2048
"""Balls whose purity is looked at, drawn from the samples: the quantile that is wanted varies little with more."""
BALL_ROWS = 512
"""Samples whose balls are found at once; a multiple of 8, so that blocks of bits are whole bytes."""
BALL_COLUMNS = 8192
"""Samples that they are compared with at once."""
BALL_SKETCH = 128
"""Directions by which far pairs are told, at a tenth of the products that 1,280 dimensions would take."""
SKETCH_SAMPLES = 8192
"""Samples from which those directions are found."""
SKETCH_ROUNDING = 1e-4
"""Relative error that float32 products stay well below."""
ORDER_CLUSTERS = 16
"""Clusters by which samples are ordered, so that near ones share blocks."""


def coreset(pool: Pool, k: int, rng: np.random.Generator) -> Picks:
    """Pick the farthest from all that is labelled: greedy k-centre (Sener & Savarese, ICLR 2018).

    Repeatedly the u of largest min_l |f_u - f_l| over l in L and the picks so far; that distance is the score. With
    nothing labelled the first is any (score NaN). These distances only fall, so while one of the `FRONT_ROWS`
    farthest samples stays above all the others it is the farthest of all: passes over the features are few.
    """
    unlabelled = pool.unlabelled  # [U]
    picks, scores = [], []  # picks are indices into `unlabelled`
    if pool.labelled.any():
        centres = gather(pool.features, np.flatnonzero(pool.labelled))
        gap = nearest(pool.features, centres, positions=unlabelled)[0]  # [U] distance to the nearest centre
    else:
        picks, scores = [int(rng.integers(len(unlabelled)))], [np.nan]
        gap = np.full(len(unlabelled), np.inf, np.float32)
    settled = 0  # picks that `gap` knows of
    while len(picks) < k:
        if new := picks[settled:]:
            centres = gather(pool.features, unlabelled[new])
            gap = np.minimum(gap, nearest(pool.features, centres, positions=unlabelled)[0])
        gap[picks], settled = -1, len(picks)
        found, distances = _farthest(pool.features, unlabelled, gap, k - len(picks))
        picks, scores = picks + found, scores + distances
    return Picks(unlabelled[picks], np.array(scores, dtype=np.float32))


def _farthest(
    features: NDArray, unlabelled: NDArray[np.int64], gap: NDArray[np.float32], k: int
) -> tuple[list[int], list[float]]:
    """1 to k samples, each the farthest from what is labelled and found before it, and how far each is.

    Args:
        gap: [U] distance to what is labelled, negative for samples that are picked already.

    Returns:
        Indices into `unlabelled` [U], and the distances.
    """
    by_gap = np.argsort(-gap, kind="stable")
    front, others = np.sort(by_gap[:FRONT_ROWS]), by_gap[FRONT_ROWS:]
    points, near = gather(features, unlabelled[front]), gap[front]  # [F, D], [F]
    found, scores = [], []
    while len(found) < k:
        best = int(np.argmax(near))
        if found and len(others) and near[best] <= gap[others[0]]:  # one outside the front may be as far
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
    """Pick what covers most uncovered samples by a ball of radius delta (Yehuda et al., NeurIPS 2022).

    Features are scaled to length 1, as by its authors. Edge x -> y iff |f_x - f_y| < delta; L covers what it reaches;
    repeatedly the u that reaches most uncovered samples, their number being the score. Once all are covered the rest
    are any (score 0). Ties go by chance: a ball of high purity holds few samples where dimensions are many, so that
    soon every sample covers only itself, and the first rows of a data set in order of class would be one class.

    Args:
        pool: its features; unlabelled samples are both what covers and what is to be covered.
        k: at most the number of the unlabelled.
        rng: draws the sample of a large pool, decides ties, and draws the rest.
        probcover_delta: radius; None: `pure_radius`.
        probcover_purity: share of balls that `pure_radius` leaves pure.
    """
    delta = probcover_delta or pure_radius(pool.features, pool.classes, probcover_purity)
    positions = pool.unlabelled
    if len(positions) > GRAPH_SAMPLES:
        positions = np.sort(rng.choice(positions, GRAPH_SAMPLES, replace=False))
    covered = np.zeros(len(positions), dtype=bool)
    if pool.labelled.any():
        centres = gather(pool.features, np.flatnonzero(pool.labelled), unit=True)
        covered = nearest(pool.features, centres, positions=positions, unit=True)[0] < delta
    positions = np.concatenate([positions[~covered], positions[covered]])
    rank = rng.permutation(len(pool.labelled))  # [N]
    picks, gains = _greedy_cover(Balls(pool.features, positions, int((~covered).sum()), delta), rank, k)
    rest = np.setdiff1d(pool.unlabelled, picks)  # what is left once all is covered
    rest = rest[np.argsort(rank[rest])][: k - len(picks)]
    return Picks(
        np.concatenate([picks, rest]).astype(np.int64), np.concatenate([gains, np.zeros(len(rest))]).astype(np.float32)
    )


@once_per_features
def pure_radius(features: NDArray, classes: int, purity: float) -> float:
    """Find the largest delta for which the share `purity` of the balls holds one pseudo-label only.

    Pseudo-labels are a k-means with one cluster a class, of the features [N, D] scaled to length 1. The ball of x is
    pure iff delta <= e(x), the distance from x to the nearest sample with another pseudo-label; so delta is the
    quantile of e at 1 - purity, here over at most 2,048 seeded x. It is returned a hair smaller, lest rounding let the
    stranger in. Infinite for one cluster. One for the same features, whatever the round and the run's seed.
    """
    pseudo = kmeans(features, classes, seed=0, unit=True).assignment  # [N]
    sample = np.sort(np.random.default_rng(0).choice(len(features), min(len(features), PURITY_BALLS), replace=False))
    stranger = np.sort(nearest_stranger(features, pseudo, sample, unit=True))  # [n] e, ascending
    impure = int((1 - purity) * len(sample) + 1e-9)
    return float(stranger[min(impure, len(sample) - 1)]) * (1 - 1e-4)


class Balls:
    """Which samples lie within a radius of which, as bits [T, N]; 50,000 samples take 312 MB.

    Samples are kept in an order in which near ones share blocks: see `_within`.
    """

    def __init__(self, features: NDArray, positions: NDArray[np.int64], targets: int, radius: float):
        """The samples are `features` at `positions` [N], scaled to length 1; the first `targets` are to be covered."""
        points = gather(features, positions, unit=True)  # [N, D]
        points -= points.mean(axis=0)  # products of what lies far from the origin would cancel
        sketch = sketched(points)  # [N, q + 1]
        groups = kmeans(sketch, ORDER_CLUSTERS, 0).assignment
        order = np.lexsort((sketch[:, 0], groups, np.arange(len(positions)) >= targets))  # targets first
        self.positions = positions[order]
        """[N] the samples in the order in which this class counts them, those to be covered first."""
        self.targets = targets
        points = points[order]
        self.bits = _within(points, sketch[order], targets, radius)

    def reach(self, targets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count these targets within the radius of each sample. -> [N]"""
        total = np.zeros(len(self.positions), dtype=np.int64)
        for start in range(0, len(targets), 255):  # as many as a byte can count
            near = np.unpackbits(self.bits[targets[start : start + 255]], axis=1, count=len(self.positions))
            total += near.sum(axis=0, dtype=np.uint8)
        return total

    def around(self, sample: int) -> NDArray[np.bool_]:
        """Which targets lie within the radius of one sample. -> bool[T]"""
        return (self.bits[:, sample // 8] & (128 >> sample % 8)) > 0


def sketched(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shorten points [N, D] to [N, q + 1] so that distances never grow: a pair that is far here is far.

    x' = (B x, |x - B'B x|), B being up to 128 principal directions. |x'| = |x| and, by Cauchy-Schwarz for the part
    outside B, x'.y' >= x.y; so |x' - y'| <= |x - y|, whatever the directions; the better they are, the closer.
    """
    width = min(BALL_SKETCH, points.shape[1])
    sample = points[:: -(-len(points) // SKETCH_SAMPLES)]
    start = np.random.default_rng(0).standard_normal((points.shape[1], width), dtype=np.float32)
    span = np.linalg.qr(sample.T @ (sample @ start))[0]
    seen = sample @ span  # [n, q]
    coordinates = points @ (span @ np.linalg.eigh(seen.T @ seen)[1][:, ::-1])  # [N, q] B x, largest variance first
    rest = np.einsum("nd,nd->n", points, points) - np.einsum("nd,nd->n", coordinates, coordinates)  # [N] |x - B'B x|^2
    return np.c_[coordinates, np.sqrt(np.maximum(rest, 0))]


def _within(points: NDArray[np.float32], sketch: NDArray[np.float32], targets: int, radius: float) -> NDArray[np.uint8]:
    """[T, ceil(N / 8)] bit y of row x: |x - y| < radius, for the first T of `points` [N, D] and all of them.

    Half of the pairs are looked at, this being symmetric, and by their sketches [N, q + 1] first. A block then takes
    all D dimensions only for those columns that are near one of its rows so.
    """
    bits = np.zeros((targets, -(-len(points) // 8)), dtype=np.uint8)
    half = np.einsum("nd,nd->n", points, points) / 2  # [N] |x|^2 / 2
    least = half * (1 - SKETCH_ROUNDING)  # so that rounding never calls a near pair far
    tiny = radius**2 <= 4 * ROUNDING * half.max()  # even equal samples may then look farther apart than the radius
    equal = np.unique(points.view(f"V{points.shape[1] * 4}")[:, 0], return_inverse=True)[1] if tiny else None  # [N]
    for start in range(0, targets, BALL_ROWS):
        rows = slice(start, min(start + BALL_ROWS, targets))
        for first in range(start, len(points), BALL_COLUMNS):
            columns = slice(first, min(first + BALL_COLUMNS, len(points)))
            maybe = _near(sketch[rows], sketch[columns], least[rows], least[columns], radius).any(axis=0)
            if maybe.mean() > 0.5:
                maybe[:] = True  # to copy most of the columns costs more than to look at all
            found = first + np.flatnonzero(maybe)
            if tiny:
                near = _settled(points, half, equal, np.arange(rows.start, rows.stop), found, radius)
            else:
                others = points[columns] if maybe.all() else points[found]
                near = _near(points[rows], others, half[rows], half[found], radius)
            _mark(bits, rows, found, near)
    own = np.arange(targets)
    bits[own, own // 8] |= (128 >> (own % 8)).astype(np.uint8)
    return bits


def _near(x: NDArray, y: NDArray, half_x: NDArray, half_y: NDArray, radius: float) -> NDArray[np.bool_]:
    """Which pairs are nearer than the radius. x [n, D], y [m, D] and half of their |.|^2 -> bool[n, m]"""
    score = x @ y.T  # [n, m]
    score -= half_y
    return score > (half_x - radius**2 / 2)[:, None]  # |x - y|^2 < r^2  <=>  x.y - |y|^2 / 2 > (|x|^2 - r^2) / 2


def _settled(
    points: NDArray[np.float32],
    half: NDArray[np.float32],
    equal: NDArray[np.int64],
    rows: NDArray[np.int64],
    found: NDArray[np.int64],
    radius: float,
) -> NDArray[np.bool_]:
    """Which pairs are nearer than a radius that rounding hides: all equal ones, and the others by subtraction.

    Args:
        points: [N, D]
        half: [N] |x|^2 / 2
        equal: [N] the same number for equal samples.
        rows, found: [n] and [m], the samples to compare. -> bool[n, m]
    """
    same = equal[rows][:, None] == equal[found]
    margin = 4 * ROUNDING * half.max()
    maybe = _near(points[rows], points[found], half[rows], half[found], (radius**2 + margin) ** 0.5) & ~same
    i, j = np.nonzero(maybe)
    same[i, j] = by_subtraction(points, rows[i], points, found[j]) < radius**2
    return same


def _mark(bits: NDArray[np.uint8], rows: slice, found: NDArray[np.int64], near: NDArray[np.bool_]) -> None:
    """Set the bits of `near` [rows, found], and of its transpose for those found that are targets too."""
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


def _greedy_cover(balls: Balls, rank: NDArray[np.int64], k: int) -> tuple[list[int], list[int]]:
    """Take what covers most uncovered samples until k are taken or all are covered; ties go to the lower `rank` [N].

    Returns:
        The positions taken, and how many samples each covered that were not.
    """
    uncovered = np.ones(balls.targets, dtype=bool)  # [T]
    gain = balls.reach(np.arange(balls.targets))  # [N] uncovered targets within the radius
    picks, gains = [], []
    while len(picks) < k and uncovered.any():
        tied = np.flatnonzero(gain == gain.max())
        best = tied[np.argmin(rank[balls.positions[tied]])]
        picks.append(int(balls.positions[best]))
        gains.append(int(gain[best]))
        new = np.flatnonzero(balls.around(best) & uncovered)
        uncovered[new] = False
        gain -= balls.reach(new)  # only what is newly covered is counted: each target once in all rounds
    return picks, gains
