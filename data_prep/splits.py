"""Which rows are labelled before the first round."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError
from al.labels import Rows, apportion, draw


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
    return rows[draw(of_row, _with_one_each(apportion(counts, size, counts, rng)), rng)]


def _with_one_each(seats: NDArray[np.int64]) -> NDArray[np.int64]:
    """Moves seats from the largest classes to those without one."""
    for index in np.flatnonzero(seats == 0):
        seats[seats.argmax()] -= 1
        seats[index] += 1
    return seats
