"""Which images are labelled, for what use, and with which label. Pure NumPy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass
class Labelled:
    """Which training-set rows are labelled, for what use, and with which label. Rows are in order of acquisition."""

    train: NDArray[np.int64]
    """[n] rows trained on."""
    val: NDArray[np.int64]
    """[m] rows held out for validation."""
    given: NDArray[np.int64]
    """[N] label of every labelled row as training believes it, -1 where unlabelled."""
    free: NDArray[np.int64]
    """[f] rows whose label is a machine's, not a person's."""

    @classmethod
    def none(cls, size: int) -> "Labelled":
        """No label yet for any of `size` images."""
        nothing = np.empty(0, np.int64)
        return cls(nothing, nothing, np.full(size, -1), nothing)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[N] True where labelled."""
        return self.given >= 0

    @property
    def count(self) -> int:
        return len(self.train) + len(self.val)

    def counts_by_class(self, classes: int) -> NDArray[np.int64]:
        """[C] labels of each class, as given."""
        return np.bincount(self.given[self.mask], minlength=classes)
