"""Which images are labelled, for what use, and with which label. Pure NumPy.

Training images, validation images and the pool are disjoint by construction, and checked each time labels come in.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
"""Rows of the training set."""


@dataclass
class LabelledSet:
    """The labelled images of a training set of N. Rows are in order of acquisition."""

    train: Rows
    """[n] rows trained on."""
    val: Rows
    """[m] rows held out for validation."""
    assigned_labels: NDArray[np.int64]
    """[N] label of every labelled row as training believes it, -1 where unlabelled."""
    machine_labelled: Rows
    """[f] rows whose label is a machine's, not a person's."""

    @classmethod
    def empty(cls, size: int) -> "LabelledSet":
        """No label yet for any of `size` images."""
        nothing = np.empty(0, np.int64)
        return cls(nothing, nothing, np.full(size, -1), nothing)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[N] True where labelled."""
        return self.assigned_labels >= 0

    @property
    def count(self) -> int:
        return len(self.train) + len(self.val)

    def counts_by_class(self, classes: int) -> NDArray[np.int64]:
        """[C] labels of each class, as assigned."""
        return np.bincount(self.assigned_labels[self.mask], minlength=classes)

    def add(
        self, rows: Rows, labels: NDArray[np.int64], *, val_fraction: float, pool: Rows, rng: np.random.Generator
    ) -> None:
        """Add labels; hold out `val_fraction` of all labels for validation, taken from the new ones.

        Args:
            rows: i64[k] distinct unlabelled rows.
            labels: i64[k] their labels as assigned.
            pool: i64[S] rows that may be labelled; what is left of it must not overlap with what is used.
            rng: draws which of the new rows are held out.

        Raises:
            RuntimeError: one of the rows is labelled already, or a row is in two places.
        """
        if self.mask[rows].any():
            raise RuntimeError("a strategy picked an image that is labelled already")
        lacking = round(val_fraction * (self.count + len(rows))) - len(self.val)
        train, val = hold_out(labels, rows, max(lacking, 0), rng)
        self.assigned_labels[rows] = labels
        self.train = np.concatenate([self.train, train])
        self.val = np.concatenate([self.val, val])
        check_disjoint(self.train, self.val, pool[~self.mask[pool]], len(self.assigned_labels))


def hold_out(labels_of_new: NDArray[np.int64], rows: Rows, count: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Splits newly labelled rows into (train, validation), both ascending; `count` of them go to validation.

    Stratified by largest remainders, ties broken by `rng`. Of a class with two or more new images one at least
    stays for training, and where that asks for it fewer than `count` are held out. The result does not depend
    on the order of `rows`.

    Args:
        labels_of_new: i64[n], the class of each of `rows`.
        rows: i64[n], distinct.
    """
    order = np.argsort(rows)
    rows, labels = np.asarray(rows, dtype=np.int64)[order], np.asarray(labels_of_new)[order]
    _, of_row, counts = np.unique(labels, return_inverse=True, return_counts=True)
    available = np.where(counts > 1, counts - 1, counts)
    held = np.zeros(len(rows), dtype=bool)
    held[draw(of_row, apportion(counts, min(count, int(available.sum())), available, rng), rng)] = True
    return rows[~held], rows[held]


def check_disjoint(train: Rows, val: Rows, pool: Rows, size: int) -> None:
    """Makes sure that no row is in two of the three parts, twice in one, or outside [0, size). O(size).

    Raises:
        RuntimeError: names the row and the parts.
    """
    parts = {"train": np.asarray(train), "val": np.asarray(val), "pool": np.asarray(pool)}
    uses = np.zeros(size, dtype=np.int64)
    for name, rows in parts.items():
        if len(rows) and not 0 <= rows.min() <= rows.max() < size:
            raise RuntimeError(f"{name} has rows from {rows.min()} to {rows.max()}; the training set has {size}")
        uses += np.bincount(rows, minlength=size)
    if uses.max(initial=0) > 1:
        row = int(uses.argmax())
        places = [name for name, rows in parts.items() for _ in range(np.count_nonzero(rows == row))]
        raise RuntimeError(f"row {row} is in {' and in '.join(places)}; every row must be in one place only")


def apportion(
    counts: NDArray[np.int64], size: int, available: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """`size` seats for classes of `counts` images by largest remainders, at most `available` to each.

    In whole numbers, so that equal remainders are equal; such ties are broken by `rng`.
    """
    total = int(counts.sum())
    seats = np.minimum(size * counts // max(total, 1), available)
    tie_break = rng.permutation(len(counts))
    for _ in range(size - int(seats.sum())):
        lacking = np.where(seats < available, size * counts - seats * total, np.iinfo(np.int64).min)
        seats[np.lexsort((tie_break, lacking))[-1]] += 1
    return seats


def draw(of_row: NDArray[np.int64], seats: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Ascending positions: of each class as many as it has `seats`."""
    members = (rng.permutation(np.flatnonzero(of_row == index))[:count] for index, count in enumerate(seats))
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *members]))
