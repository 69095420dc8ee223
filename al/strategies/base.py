"""What a strategy reads (`Pool`) and returns (`Picks`), how it is declared (`Strategy`), and two of them in turn."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from al.storage.blocks import RowsOf


@dataclass(frozen=True)
class Pool:
    """The images that one round scores and chooses from; position i is the same image in every array.

    This is the one declaration of the arrays that a strategy can ask for: what it `needs` is there, the rest is None.
    The learner computes them. They are read-only and may be memory-mapped, so strategies stream over large ones.
    """

    labelled: NDArray[np.bool_]
    """[N] whether the label is known already."""
    classes: int
    """C, the number of classes."""
    labels: NDArray[np.int64] | None = None
    """[N] the labels that are known, -1 elsewhere; where the strategy compares with the labelled images."""
    probs: NDArray[np.float32] | None = None
    """[N, C] class probabilities of the unaugmented images."""
    features: NDArray[np.float32] | RowsOf | None = None
    """[N, D] what to cluster in: penultimate activations, or the frozen embeddings that the run names instead, perhaps
    float16."""
    activations: NDArray[np.float32] | None = None
    """[N, H] penultimate activations, the input of the model's head."""
    head: NDArray[np.float32] | None = None
    """[C, H] weights of the model's head: logits = activations @ head.T + biases."""
    mc_probs: NDArray[np.float32] | None = None
    """[T, N, C] class probabilities from T passes with dropout on, and everything else in evaluation mode."""
    drop_votes: NDArray[np.int64] | None = None
    """[M, N] classes that the head predicts in M passes from features with dropout 0.75."""

    @property
    def unlabelled(self) -> NDArray[np.int64]:
        """[U] positions without a label, ascending."""
        return np.flatnonzero(~self.labelled)


ARRAYS = tuple(field.name for field in fields(Pool) if field.name not in ("labelled", "classes", "labels"))
"""The names that `Strategy.needs` may hold."""


class Picks(NamedTuple):
    """The images that a round labels, the most wanted first."""

    positions: NDArray[np.int64]
    """[k] distinct unlabelled positions of the pool; not rows of the training set, of which the pool may be a part."""
    scores: NDArray[np.float32]
    """[k] the strategy's own score, higher is wanted more; NaN where a strategy has no score per image."""


Select = Callable[..., Picks]
"""(pool, k, rng, **options) -> exactly k picks. `Strategy.select` has made sure that 1 <= k <= U."""


@dataclass(frozen=True)
class Strategy:
    """One way of choosing what to label next: a function of arrays, and what it has to be given."""

    choose: Select
    """Picks exactly k of a pool, 1 <= k <= U."""
    needs: tuple[str, ...] = ()
    """Arrays of `Pool` that it reads. Without any, no pass over the pool is made."""
    options: tuple[str, ...] = ()
    """Fields of `RunConfig` that are passed to `choose` by keyword."""
    needs_labelled: bool = False
    """Whether it compares with the labelled images. The pool then holds them too; otherwise it may lack them."""
    baseline: bool = False
    """Whether it labels the whole variant before the first epoch, and acquires nothing after it."""
    version: int = 1
    """To be raised when the same arrays give other picks: part of the digest of the runs it concerns."""
    summary: str = ""
    """One line for tables and help: what it picks, and who proposed it."""

    def __post_init__(self) -> None:
        for name in self.needs:
            if name not in ARRAYS:
                raise ValueError(f"needs={name}: a pool has no such array; use one of {', '.join(ARRAYS)}")

    @property
    def rounds(self) -> int:
        """Rounds that a run needs at least, for all of it to have an effect."""
        return 1

    def in_round(self, number: int) -> "Strategy":
        """The strategy that chooses in round `number`, from 1: this one in each."""
        return self

    def select(self, pool: Pool, k: int, rng: np.random.Generator, **options: Any) -> Picks:
        """Pick exactly min(k, U) distinct unlabelled positions; the same inputs and generator give the same picks.

        Raises:
            ValueError: k < 0, an array that the strategy needs is missing, or one holds NaN where that matters.
        """
        if k < 0:
            raise ValueError(f"k={k}: cannot pick fewer than 0 images; use 0 or more")
        missing = [name for name in self.needs if getattr(pool, name) is None]
        if missing:
            raise ValueError(f"{', '.join(missing)}: missing from the pool, and this strategy needs it; compute it")
        k = min(k, len(pool.unlabelled))
        if k == 0:
            return Picks(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
        return self.choose(pool, k, rng, **options)


@dataclass(frozen=True)
class StrategySchedule:
    """Two strategies one after the other: `first` chooses in rounds 1 to `switch_after`, `second` in all later ones.

    With typical samples first and small margins then it is TCM (Doucet et al. 2024). It declares what both declare
    together, as a `Strategy` does; a round asks `in_round` for its own.
    """

    first: Strategy
    second: Strategy
    switch_after: int
    baseline: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.first.needs + self.second.needs))

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.first.options, *self.second.options, "switch_after")))

    @property
    def version(self) -> int:
        """Rises whenever that of one of the two does."""
        return self.first.version + self.second.version - 1

    @property
    def rounds(self) -> int:
        return self.switch_after + 1

    def in_round(self, number: int) -> Strategy:
        return self.first if number <= self.switch_after else self.second
