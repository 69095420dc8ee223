"""What every data set is once it is loaded: arrays of images and labels, with the names of the classes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size with their labels; both arrays are read-only, the images perhaps mapped from a file.

    images: u8[N, H, W, 3], RGB. labels: i64[N], indices into classes.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        self.images.setflags(write=False)
        self.labels.setflags(write=False)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class DataSet:
    """A training and a test set with the same classes; `fingerprint` is a hex digest of their content."""

    name: str
    train: ImageSet
    test: ImageSet
    fingerprint: str


def content_fingerprint(sets: Sequence[ImageSet]) -> str:
    """64 hex digits that follow from the class names, labels, shapes and pixels of `sets`, in this order."""
    digest = hashlib.sha256()
    for part in sets:
        digest.update(repr((part.classes, part.images.shape)).encode())
        digest.update(np.ascontiguousarray(part.labels, dtype="<i8"))
        digest.update(np.ascontiguousarray(part.images))
    return digest.hexdigest()
