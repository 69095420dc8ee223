"""What a strategy sees and what it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Pool:
    """The images of one round as arrays; row i is the same image in each of them.

    A strategy gets what its `needs` name; the rest is None. Arrays are read-only by convention and may be
    memory-mapped, so a strategy streams over them where N is large.
    """

    labelled: NDArray[np.bool_]
    """[N] True where the label is already known."""
    classes: int
    """C, the number of classes."""
    probs: NDArray[np.float32] | None = None
    """[N, C] class probabilities from unaugmented images."""
    features: NDArray[np.float32] | None = None
    """[N, D] what to cluster in: penultimate activations, or the frozen embeddings that a run names instead."""
    activations: NDArray[np.float32] | None = None
    """[N, H] penultimate activations, which the model's head sees."""
    mc_probs: NDArray[np.float32] | None = None
    """[T, N, C] probabilities from T passes with dropout on and everything else in evaluation mode."""
    drop_votes: NDArray[np.int64] | None = None
    """[M, N] classes predicted by the head from features with dropout 0.75, M passes."""

    @property
    def unlabelled(self) -> NDArray[np.int64]:
        """[U] rows without a label, ascending."""
        return np.flatnonzero(~self.labelled)


class Picks(NamedTuple):
    """What a round labels: distinct unlabelled rows in order of preference, and the score of each."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    """[k] the strategy's own score, higher is wanted more; NaN where a strategy has no score per image."""


Select = Callable[..., Picks]
"""(pool, k, rng, **options) -> exactly k picks, with 1 <= k <= U: `Strategy.select` sees to that."""


@dataclass(frozen=True)
class Strategy:
    """A way of choosing what to label next."""

    choose: Select
    """Takes a pool, k in [1, U] and a generator; returns exactly k picks."""
    needs: tuple[str, ...] = ()
    """Arrays of `Pool` it reads: probs, features, activations, mc_probs, drop_votes. None: no pass over the pool."""
    options: tuple[str, ...] = ()
    """Fields of `RunConfig` passed to `select` by keyword."""
    needs_labelled: bool = False
    """Whether it compares with what is labelled: the arrays then hold those rows too, else they may lack them."""
    baseline: bool = False
    """Labels the whole variant before the first epoch and acquires nothing after it."""
    summary: str = ""
    """One line for tables and help: what it picks, and who proposed it."""

    def select(self, pool: Pool, k: int, rng: np.random.Generator, **options: Any) -> Picks:
        """Exactly min(k, U) distinct unlabelled rows; the same inputs and generator give the same.

        Raises:
            ValueError: k < 0, an array that the strategy needs is missing, or holds NaN where it matters.
        """
        if k < 0:
            raise ValueError(f"k={k}: cannot pick fewer than 0 images")
        missing = [name for name in self.needs if getattr(pool, name) is None]
        if missing:
            raise ValueError(f"the pool lacks {', '.join(missing)}, which this strategy needs")
        k = min(k, len(pool.unlabelled))
        if k == 0:
            return Picks(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
        return self.choose(pool, k, rng, **options)
