"""Strategies that cover the pool by a smooth kernel: MaxHerding, and UHerding, which weighs it by uncertainty."""

import numpy as np
from numpy.typing import NDArray

from al.storage.blocks import gather
from al.strategies.base import Picks, Pool
from al.strategies.clustering import nearest, squared_between, squared_lengths
from al.strategies.scores import smallest_margin
from al.strategies.temperature import calibrated_temperature

CANDIDATES = 20_000
"""Samples to cover and to choose from at most; the authors take 35,000, which is three times the work."""
KERNEL_ROWS = 512
"""Rows of the kernel that are computed at once."""
KEPT_BYTES = 256 * 2**20
"""Of rows of the kernel that are kept: the samples that come near the largest gain are the same ones for many picks."""
COPY = 0.01
"""Of the median distance to the nearest labelled sample: nearer ones are copies, which differ by rounding alone."""
TIED = 1e-5
"""Share by which gains differ that float32 sums cannot tell apart."""
REFRESHED = 16
"""Gains that are computed again at once; about as many are needed for a pick once some hundreds are labelled."""


def maxherding(pool: Pool, k: int, rng: np.random.Generator, *, herding_candidates: int = CANDIDATES) -> Picks:
    """Pick what raises the coverage of the pool by a Gaussian kernel most (Bae et al., ECCV 2024).

    Features are scaled to length 1, k(x, y) = exp(-|x - y|^2) and c(x) = max of k(x, l) over all labelled and picked l.
    Repeatedly argmax_u sum_x max(k(x, u) - c(x), 0) over the unlabelled x, which is the score. These are all of them
    up to `herding_candidates`, else a seeded sample. The kernel, 10 GB of 50,000, is never held: see `Kernel`.
    """
    candidates = _candidates(pool, k, herding_candidates, rng)  # [n] positions
    weight = np.ones(len(candidates), dtype=np.float32)
    return _herd(pool, candidates, weight, 1.0, k)


def uherding(pool: Pool, k: int, rng: np.random.Generator, *, herding_candidates: int = CANDIDATES) -> Picks:
    """Pick what raises the coverage of uncertain samples most, whatever the budget (Bae et al., ICLR 2025).

    As `maxherding`, with U(x) = 1 - margin of softmax(z / T) as the weight of x in the sum, and k(x, y) =
    exp(-|x - y|^2 / sigma^2). sigma is `smallest_distance` of the labelled samples: the more labels, the nearer the
    picks come to plain margin sampling. T is `calibrated_temperature`'s. With nothing labelled it is `maxherding`.
    """
    candidates = _candidates(pool, k, herding_candidates, rng)
    weight, sigma = np.ones(len(candidates), dtype=np.float32), 1.0
    if pool.labelled.any():
        temperature = calibrated_temperature(pool, rng)
        weight = uncertainty_at(pool.probs[candidates], temperature)
        sigma = smallest_distance(gather(pool.features, np.flatnonzero(pool.labelled), unit=True))
    return _herd(pool, candidates, weight, sigma, k)


def uncertainty_at(probs: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """1 - (q_1 - q_2) of q = softmax(log(p) / T), the two largest. [n, C] -> [n]"""
    if not np.isfinite(probs).all():
        raise ValueError("probabilities hold NaN or infinite values: the model has diverged; lower lr")
    softened = np.maximum(probs, np.finfo(np.float32).tiny) ** (1 / temperature)  # [n, C] ~ exp(z / T)
    return 1 + smallest_margin(softened / softened.sum(axis=1, keepdims=True))


def smallest_distance(points: NDArray[np.float32]) -> float:
    """The smallest distance between `points` [n, D] that are no copies; 1 where all are equal, or there is only one.

    Copies are equal, or nearer than `COPY` of the usual distance to the nearest: two labelled copies that differ by
    rounding would leave a kernel that covers nothing but the picks themselves.
    """
    centred = points - points.mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths, nearest_of = squared_lengths(centred), np.full(len(points), np.inf)  # [n], [n]
    for start in range(0, len(points), KERNEL_ROWS):
        rows = slice(start, start + KERNEL_ROWS)
        squared = squared_between(centred, lengths, rows, start)  # [b, n - start]
        apart = {"initial": np.inf, "where": squared > 0}
        nearest_of[rows] = np.minimum(nearest_of[rows], squared.min(axis=1, **apart))
        nearest_of[start:] = np.minimum(nearest_of[start:], squared.min(axis=0, **apart))
    known = np.sqrt(nearest_of[np.isfinite(nearest_of)])
    return float(known.min(where=known >= COPY * np.median(known), initial=np.inf)) if len(known) else 1.0


def _candidates(pool: Pool, k: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """[n] unlabelled positions, ascending: all, or `most` of them by chance, but never fewer than are picked."""
    unlabelled = pool.unlabelled
    count = max(most, k)
    return unlabelled if len(unlabelled) <= count else np.sort(rng.choice(unlabelled, count, replace=False))


def _herd(pool: Pool, candidates: NDArray[np.int64], weight: NDArray[np.float32], sigma: float, k: int) -> Picks:
    """Greedily pick the k of largest gain sum_x U(x) max(k(x, u) - c(x), 0); ties go to the lower position.

    Gains only fall as c rises (they are submodular), so a gain from before is a bound: only where one comes near the
    largest is it computed again. Two samples that cover nothing but each other gain exactly the same, so gains that
    rounding cannot tell apart tie.
    """
    points = gather(pool.features, candidates, unit=True)  # [n, D]
    covered = np.zeros(len(candidates), dtype=np.float32)  # [n] c(x)
    if pool.labelled.any():
        centres = gather(pool.features, np.flatnonzero(pool.labelled), unit=True)
        distance = nearest(points, centres)[0]
        covered = np.exp(-((distance / sigma) ** 2))  # the largest kernel is that of the nearest
    kernel = Kernel(points, sigma)
    gain = kernel.gains(covered, weight)  # [n]
    picks, scores, fresh = [], [], np.ones(len(gain), dtype=bool)
    while len(picks) < k:
        most = gain[fresh].max(initial=-1)
        tied = gain >= most - TIED * abs(most) - TIED / 10  # [n] what may be the largest
        if len(stale := np.flatnonzero(tied & ~fresh)):
            largest = stale[np.argsort(-gain[stale], kind="stable")[:REFRESHED]]
            gain[largest] = np.maximum(kernel.rows(largest) - covered, 0) @ weight
            fresh[largest] = True
            continue
        best = int(np.argmax(tied))  # the first
        picks.append(best)
        scores.append(gain[best])
        covered = np.maximum(covered, kernel.rows(np.array([best]))[0])
        gain[best], fresh[:] = -np.inf, False
    return Picks(candidates[picks], np.array(scores, dtype=np.float32))


class Kernel:
    """k(x, y) = exp(-|x - y|^2 / sigma^2) among n samples, exactly 1 for equal ones; computed where it is asked for."""

    def __init__(self, points: NDArray[np.float32], sigma: float):
        """Of `points` [n, D], which are centred in place."""
        points -= points.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.points, self.lengths, self.scale = points, squared_lengths(points), np.float32(-1 / sigma**2)
        self.kept: dict[int, NDArray[np.float32]] = {}

    def __len__(self) -> int:
        return len(self.points)

    def gains(self, covered: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """sum_x U(x) max(k(x, u) - c(x), 0) of every u, block by block. -> [n]"""
        gain = np.zeros(len(self), dtype=np.float32)
        for start in range(0, len(self), KERNEL_ROWS):
            end = min(start + KERNEL_ROWS, len(self))
            part = self._between(slice(start, end), start)  # [b, n - start]
            gain[start:end] += np.maximum(part - covered[start:], 0) @ weight[start:]
            part = part[:, end - start :]  # half of the products, as the kernel is symmetric: the others' gain by these
            part -= covered[start:end, None]
            gain[end:] += weight[start:end] @ np.maximum(part, 0, out=part)
        return gain

    def rows(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Those rows of the kernel, of which as many stay in memory as `KEPT_BYTES` holds. [m] -> [m, n]"""
        new = [index for index in indices.tolist() if index not in self.kept]
        if new:
            self.kept.update(zip(new, self._between(np.array(new), 0)))
        found = np.stack([self.kept[index] for index in indices.tolist()])
        while len(self.kept) * found[0].nbytes > KEPT_BYTES:
            del self.kept[next(iter(self.kept))]  # the oldest
        return found

    def _between(self, rows: slice | NDArray[np.int64], start: int) -> NDArray[np.float32]:
        """k of `rows` and all samples from `start`. -> [b, n - start]"""
        squared = squared_between(self.points, self.lengths, rows, start)
        squared *= self.scale
        return np.exp(squared, out=squared)
