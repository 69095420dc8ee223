"""Variants of a data set, balanced or imbalanced: a percentage of each class, drawn at random."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError, nearest
from al.variant import Shares


def draw_variant(
    labels: NDArray[np.int64],
    classes: Sequence[str],
    shares: Shares,
    minority_classes: Sequence[str] | None,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw the rows of a variant, ascending: of each class its share, rounded, and at least one image.

    Each class is shuffled once and a prefix of it taken. So with generators of the same seed a smaller share is a
    subset of a larger one, and the classes that two variants keep equally much of are the same images.

    Args:
        labels: i64[N], indices into `classes`.
        shares: percent of the majority and of the minority classes.
        minority_classes: names or indices; None: the last two classes (of two classes, the last).

    Raises:
        UserError: a minority class that does not exist, or no class left over for the majority.
    """
    labels = np.asarray(labels)
    minority = set() if shares.balanced else minority_indices(classes, minority_classes)
    rows = []
    for index in range(len(classes)):
        members = rng.permutation(np.flatnonzero(labels == index))
        percent = shares.minority if index in minority else shares.majority
        rows.append(members[: max(1, int(len(members) * percent / 100 + 0.5))])
    return np.sort(np.concatenate(rows)).astype(np.int64)


def minority_indices(classes: Sequence[str], minority_classes: Sequence[str] | None) -> set[int]:
    """The indices of the minority classes, from names or indices; a name goes first: "3" is the class called 3.

    Raises:
        UserError: as `draw_variant`.
    """
    if not minority_classes:
        return set(range(len(classes))[-min(2, len(classes) - 1) :])
    chosen = {_class_index(classes, name) for name in minority_classes}
    if len(chosen) == len(classes):
        raise UserError(
            f"minority_classes={','.join(minority_classes)}: these are all the classes; leave one or more out"
        )
    return chosen


def _class_index(classes: Sequence[str], name: str) -> int:
    if name in classes:
        return list(classes).index(name)
    if name.isascii() and name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise UserError(
        f"minority_classes={name!r}: no such class, nor an index from 0 to {len(classes) - 1}; {nearest(name, classes)}"
    )
