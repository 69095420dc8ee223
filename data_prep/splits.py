"""Draw the initial pool, hold labels out for validation, and check that no row is in two places."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError

Rows = NDArray[np.int64]


def initial_pool(
    labels: NDArray[np.int64], rows: Rows, size: int, how: Literal["stratified", "random"], rng: np.random.Generator
) -> Rows:
    """Draw the `size` rows that are labelled before the first round from `rows`, without replacement; ascending.

    Stratified: in proportion to the classes among `rows` by largest remainders, and at least one of each.

    Args:
        labels: i64[N], the class of every row of the training set.
        rows: i64[n], the rows to draw from.

    Raises:
        UserError: fewer than one image for each class, or more than there are.
    """
    if size > len(rows):
        raise UserError(
            f"an initial pool of {size} labels: there are only {len(rows)} images to draw from; "
            "lower initial_min or initial_fraction, or use a larger variant"
        )
    rows = np.sort(rows)
    present, of_row, counts = np.unique(labels[rows], return_inverse=True, return_counts=True)
    if size < len(present):
        raise UserError(
            f"an initial pool of {size} labels: too small for {len(present)} classes; raise initial_min, "
            f"or the budget, to {len(present)} or more"
        )
    if how == "random":
        return np.sort(rng.choice(rows, size, replace=False))
    return rows[_draw(of_row, _with_one_each(_apportion(counts, size, counts, rng)), rng)]


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
    held[_draw(of_row, _apportion(counts, min(count, int(available.sum())), available, rng), rng)] = True
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


def _apportion(
    counts: NDArray[np.int64], size: int, available: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """`size` seats for classes of `counts` images by largest remainders, at most `available` to each.

    In whole numbers, so that equal remainders are equal; such ties are broken by `rng`.
    """
    total = int(counts.sum())
    seats = np.minimum(size * counts // max(total, 1), available)  # [C] whole parts of the quotas size * counts / total
    tie_break = rng.permutation(len(counts))
    for _ in range(size - int(seats.sum())):
        lacking = np.where(seats < available, size * counts - seats * total, np.iinfo(np.int64).min)
        seats[np.lexsort((tie_break, lacking))[-1]] += 1
    return seats


def _with_one_each(seats: NDArray[np.int64]) -> NDArray[np.int64]:
    """Moves seats from the largest classes to those without one."""
    for index in np.flatnonzero(seats == 0):
        seats[seats.argmax()] -= 1
        seats[index] += 1
    return seats


def _draw(of_row: NDArray[np.int64], seats: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Ascending positions: of each class as many as it has `seats`."""
    members = (rng.permutation(np.flatnonzero(of_row == index))[:count] for index, count in enumerate(seats))
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *members]))
