"""What crosses from the data to the run: images with labels, embeddings of them, and the labels to begin with."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class ImageFiles(Protocol):
    """Images that are decoded when they are read; used in place of an array u8[N, H, W, 3].

    Taking a slice decodes nothing, as taking one of a memory map reads nothing. Taking rows or one row decodes them,
    and `numpy.asarray` decodes all.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype
    nbytes: int
    """What all of them would take in memory."""
    hashes: NDArray[np.uint64]
    """[N] equal for equal images."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[NDArray[np.uint8]]: ...

    def __getitem__(self, rows: int | slice | NDArray[np.int64]) -> "NDArray[np.uint8] | ImageFiles": ...

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> NDArray[np.uint8]: ...

    def read(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Decode those rows into `out` [n, H, W, 3]."""
        ...


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size with their labels; arrays are read-only, the images perhaps memory-mapped, or still files."""

    images: NDArray[np.uint8] | ImageFiles
    """[N, H, W, 3] RGB"""
    labels: NDArray[np.int64]
    """[N] indices into `classes`"""
    classes: tuple[str, ...]
    paths: tuple[str, ...] | None = None
    """[N] where each image lies in the data folder; None for images that are no files of their own."""
    split: str = "train"
    """`train` or `test`: what the names of images without a path begin with."""

    def __post_init__(self) -> None:
        if isinstance(self.images, np.ndarray):
            self.images.setflags(write=False)
        self.labels.setflags(write=False)

    def __len__(self) -> int:
        return len(self.labels)

    def path_of(self, row: int) -> str:
        """The image's path within the data folder, or a name such as `train/00042`; always printable."""
        if self.paths is None:
            return f"{self.split}/{row:05d}"
        return os.fsencode(self.paths[row]).decode(errors="backslashreplace")


@dataclass(frozen=True)
class DataSet:
    """A training and a test set with the same classes; `fingerprint` is a hex digest of their content."""

    name: str
    train: ImageSet
    test: ImageSet
    fingerprint: str


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of the images of a data set, row for row; float32 or float16, perhaps memory-mapped."""

    train: NDArray
    """[N, D]"""
    test: NDArray
    """[M, D]"""
    seconds: float | None = None
    """What computing them took, whichever run did; None where that is not known."""
    cached: bool = False
    """Whether they had been computed before and were only read."""


@dataclass(frozen=True, eq=False)
class FirstLabels:
    """The labels that a run begins with, and where they come from."""

    rows: NDArray[np.int64]
    """[n] rows of the training set."""
    labels: NDArray[np.int64]
    """[n] their labels as training will believe them: a person's, or a machine's."""
    machine_labelled: NDArray[np.int64]
    """[f] those of `rows` whose label is a machine's that no person has checked."""
    guesses: NDArray[np.int64] | None = None
    """[n] the zero-shot model's labels."""
    confidence: NDArray[np.float32] | None = None
    """[n] the zero-shot model's probability of each guess."""
    source: dict[str, str] | None = None
    """The zero-shot model, and the key of its outputs in the cache."""


def content_fingerprint(sets: Sequence[ImageSet]) -> str:
    """64 hex digits that follow from the class names, labels, shapes and pixels of `sets`, in this order."""
    digest = hashlib.sha256()
    for part in sets:
        digest.update(repr((part.classes, part.images.shape)).encode())
        digest.update(np.ascontiguousarray(part.labels, dtype="<i8"))
        digest.update(np.ascontiguousarray(part.images))
    return digest.hexdigest()
