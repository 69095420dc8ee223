"""What can be said of a model without a test set: intervals, a power law of its curve, when to stop. Pure NumPy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
STOP_SET = 2000
"""Images on which successive models are compared; Bloodgood & Vijay-Shanker 2009 used as many."""
STOP_KAPPA, STOP_ROUNDS = 0.99, 3
"""They stop when kappa, averaged over so many rounds, is at least this."""
RESAMPLES = 1000
FEWEST_POINTS = 3
"""Of a learning curve, for a law of two parameters to say anything."""


@dataclass(frozen=True)
class Interval:
    """An estimate in percent, with a 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1f} % (95 % interval {self.low:.1f} to {self.high:.1f})"


def proportion(hits: int, count: int) -> Interval:
    """`hits` of `count` as a percentage with the interval of Clopper and Pearson, which never covers too seldom."""
    from scipy.stats import beta

    tail = (1 - LEVEL) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, count - hits + 1))
    high = 1.0 if hits == count else float(beta.ppf(1 - tail, hits + 1, count - hits))
    return Interval(100 * hits / max(count, 1), 100 * low, 100 * high)


def in_stop_order(digests: Iterable[str]) -> list[str]:
    """Images by a digest of their digests: the first `STOP_SET` are the same random ones whatever is added."""
    return sorted(digests, key=lambda digest: sha256(f"stop set {digest}".encode()).digest())


def kappa(first: NDArray[np.int64], second: NDArray[np.int64], classes: int) -> float:
    """Cohen's kappa of two labellings [n] of the same images: (p - e) / (1 - e), e being agreement by chance.

    1 where both say one and the same class of everything.
    """
    table = np.bincount(first * classes + second, minlength=classes**2).reshape(classes, classes) / max(len(first), 1)
    chance = float(table.sum(0) @ table.sum(1))
    return 1.0 if chance >= 1 else float((np.trace(table) - chance) / (1 - chance))


@dataclass(frozen=True)
class PowerLaw:
    """error(n) = scale * n ** -exponent, as a fraction."""

    scale: float
    exponent: float

    def accuracy(self, labels: float) -> float:
        """In percent."""
        return 100 * (1 - min(self.scale * labels**-self.exponent, 1))

    def labels_for(self, accuracy: float) -> float:
        """Labels that an accuracy in percent takes; infinite where the error does not fall."""
        error = 1 - accuracy / 100
        if error <= 0 or self.exponent <= 0:
            return np.inf
        exponent = np.log(self.scale / error) / self.exponent
        return float(np.exp(exponent)) if exponent < 700 else np.inf


def fit_power_laws(labels: NDArray[np.float64], errors: NDArray[np.float64], images: int) -> list[PowerLaw]:
    """Straight lines through log errors [B, R] over log labels [R], each point weighted by how well it is known.

    var(log e) ~ (1 - e) / (e m) for m images; an error of 0 counts as half an image.
    """
    errors = np.maximum(errors, 0.5 / images)
    weights = errors / np.maximum(1 - errors, 0.5 / images)  # [B, R], 1 / variance
    x, y = np.log(labels), np.log(errors)
    total = weights.sum(1)
    mean_x, mean_y = (weights * x).sum(1) / total, (weights * y).sum(1) / total  # [B]
    away = x - mean_x[:, None]
    slope = (weights * away * (y - mean_y[:, None])).sum(1) / (weights * away**2).sum(1)
    return [PowerLaw(float(np.exp(b)), float(-a)) for a, b in zip(slope, mean_y - slope * mean_x)]


@dataclass(frozen=True)
class Projection:
    """Where the learning curve goes if it goes on as a power law: a guess."""

    law: PowerLaw
    others: tuple[PowerLaw, ...]
    """Fitted to the audit's images drawn again with replacement."""

    def accuracy(self, labels: float) -> Interval:
        return self._interval(self.law.accuracy(labels), [law.accuracy(labels) for law in self.others])

    def labels_for(self, accuracy: float) -> Interval:
        """Labels, not percent; infinite where a law never gets there."""
        return self._interval(self.law.labels_for(accuracy), [law.labels_for(accuracy) for law in self.others])

    @staticmethod
    def _interval(value: float, others: Sequence[float]) -> Interval:
        ordered = np.sort(others)  # not np.quantile, which would interpolate between infinities
        low, high = ordered[int(0.025 * len(ordered))], ordered[min(int(0.975 * len(ordered)), len(ordered) - 1)]
        return Interval(value, float(low), float(high))


def project(labels: Sequence[int], hits: NDArray[np.bool_], rng: np.random.Generator) -> Projection | None:
    """The power law of a curve and its bootstrap over images.

    The models are judged on the same images, so an image is drawn with the outcomes of all of them.

    Args:
        labels: [R] that each model was trained on.
        hits: [R, m] whether each model is right on each image of the audit.

    Returns:
        None for too few points, and where every model is right on every image, or wrong: then all resamples are the
        same, and an interval without width would claim certainty.
    """
    if len(set(labels)) < FEWEST_POINTS or hits.all() or not hits.any():
        return None
    x, images = np.asarray(labels, float), hits.shape[1]
    (law,) = fit_power_laws(x, 1 - hits.mean(1)[None], images)
    drawn = np.array([hits[:, rng.integers(images, size=images)].mean(1) for _ in range(RESAMPLES)])  # [B, R]
    return Projection(law, tuple(fit_power_laws(x, 1 - drawn, images)))


def paired_difference(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Interval:
    """Difference of two accuracies on the same images [m], in percentage points, normal interval over images."""
    difference = first.astype(float) - second
    error = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else np.inf
    mean = difference.mean()
    return Interval(100 * mean, 100 * (mean - error), 100 * (mean + error))
