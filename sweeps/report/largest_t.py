"""How large the largest |t| of a family of comparisons gets by chance: what corrects for their number."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.special import ndtr

Shape = Literal["control", "pairs"]
"""What a family compares: each of `count` strategies with one control, or every pair of `count` strategies."""


@dataclass(frozen=True)
class Null:
    """Distribution, where nothing differs, of the largest |t| of a family."""

    count: int
    """Strategies beside the control, or strategies of which every pair is compared."""
    df: float
    shape: Shape
    correlation: float = 0.5
    """Of two comparisons with the control: 1/2 with all seeds; less, which errs on the safe side, where some miss."""

    @property
    def comparisons(self) -> int:
        return self.count if self.shape == "control" else self.count * (self.count - 1) // 2

    def among(self, count: int) -> "Null":
        """The same for `count` of the strategies."""
        return Null(count, self.df, self.shape, self.correlation)

    def tail(self, t: float) -> float:
        """Probability that the largest |t| is at least `t`, by quadrature over the shared strategy and the variance.

        Sources: Dunnett, JASA 50, 1955 (control); Tukey's studentised range (pairs).
        """
        if self.comparisons == 1:
            return float(2 * stats.t.sf(abs(t), self.df))
        s, density = _scales(self.df)
        z, normal = _normal_nodes()
        reach = (abs(t) * s)[:, None]  # [S, 1]
        if self.shape == "control":
            common, own = self.correlation**0.5, (1 - self.correlation) ** 0.5
            inside = (ndtr((reach - common * z) / own) - ndtr((-reach - common * z) / own)) ** self.count
        else:  # the lowest of `count` at z, the others at most the range above it
            inside = self.count * (ndtr(z + 2**0.5 * reach) - ndtr(z)) ** (self.count - 1)
        return float(np.clip(density @ (1 - inside @ normal), 1e-12, 1.0))

    def critical(self, level: float) -> float:
        """The value that the largest |t| exceeds with probability `level`."""
        return _critical(self.count, self.df, self.shape, self.correlation, level)


@lru_cache(maxsize=4096)
def _critical(count: int, df: float, shape: Shape, correlation: float, level: float) -> float:
    null = Null(count, df, shape, correlation)
    if null.comparisons == 1:
        return float(stats.t.isf(level / 2, df))
    log_t = optimize.brentq(lambda log_t: null.tail(np.exp(log_t)) - level, -7.0, 14.0, xtol=1e-9)
    return float(np.exp(log_t))


@lru_cache(maxsize=512)
def _scales(df: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimated over true standard deviation, chi_df / sqrt(df), at nodes [S] even in its logarithm; their weights."""
    low, high = np.log(stats.chi.ppf([1e-9, 1 - 1e-9], df))
    nodes, weights = np.polynomial.legendre.leggauss(40)
    chi = np.exp(low + (nodes + 1) / 2 * (high - low))
    density = stats.chi.pdf(chi, df) * chi * weights
    return chi / df**0.5, density / density.sum()


@lru_cache(maxsize=1)
def _normal_nodes() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    z, weights = np.polynomial.hermite_e.hermegauss(48)
    return z, weights / weights.sum()
