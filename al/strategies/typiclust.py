"""Strategies after TypiClust: the study's hybrid of uncertainty and distance, and the published method."""

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from al.neighbours import kmeans
from al.strategies.base import Picks, Pool
from al.strategies.scores import predictive_entropy, top_k


def unit_interval(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """(x - min x) / (max x - min x); all 0 where the values are all equal. [U] -> [U]"""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def typiclust(pool: Pool, k: int, rng: np.random.Generator) -> Picks:
    """The study's hybrid: uncertain and atypical (Petersen 2024), not the TypiClust of Hacohen et al. 2022.

    score = (scaled(H[p]) + scaled(|f - c(f)|)) / 2, where c(f) is the centre of the sample's cluster among
    min(100, floor(sqrt(U))) clusters of the unlabelled, and scaled() maps to [0, 1].
    """
    rows = pool.unlabelled
    if not len(rows):
        return Picks(rows, np.empty(0, dtype=np.float32))
    entropy = predictive_entropy(pool.probs[rows])
    clustering = kmeans(pool.features, min(100, isqrt(len(rows))), int(rng.integers(2**31)), rows=rows)
    return top_k((unit_interval(entropy) + unit_interval(clustering.distance)) / 2, rows, k)
