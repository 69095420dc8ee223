"""Image files that stand where decoded arrays would: for folders that are too large to decode into a cache."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError
from data_prep.checksums import Damaged, read_info, write_info
from data_prep.duplicates import pixel_hashes
from data_prep.locks import exclusive
from data_prep.progress import Progress
from data_prep.sources.decoding import CHUNK_IMAGES, centre, check_size, decode_image, decode_images, workers
from data_prep.sources.image_cache import INFO, LOCK, LOOKED, cache_key, cache_places, digest_of_names, writable

if TYPE_CHECKING:
    from data_prep.sources.imagefolder import Listing

PART_IMAGES = 16
"""Decoded by one thread one after another, at most."""
NOT_KEPT = "what the look at all images found cannot be kept, so each start looks at all of them again"
OTHERS = 8
"""Listings besides, as of other split files, whose finds are kept: a few bytes of each image."""


@dataclass(frozen=True, eq=False)
class ImagesOnDemand:
    """Images of one size, decoded by threads when they are read; see `al.data.ImageFiles`."""

    folder: Path
    names: tuple[str, ...]
    """[N] where every image lies in `folder`; not as paths, of which a million take 300 MB."""
    hashes: NDArray[np.uint64]
    """[N] of the pixels of their centre squares."""
    like: Path
    """The image whose size is that of all."""
    whole: tuple[int, ...]
    """Height, width and channels of an image as it is decoded."""
    image_size: int | None
    cut: bool = False
    """Whether only the centre square is taken."""

    dtype = np.dtype(np.uint8)
    ndim = 4

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        height, width = (side.stop - side.start for side in self._window)
        return len(self.names), height, width, self.whole[2]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def _window(self) -> tuple[slice, slice]:
        height, width = self.whole[:2]
        return centre(height, width) if self.cut else (slice(0, height), slice(0, width))

    def centred(self) -> "ImagesOnDemand":
        """The centre squares of the images."""
        return replace(self, cut=True)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(self), CHUNK_IMAGES):
            yield from np.asarray(self[start : start + CHUNK_IMAGES])

    def __getitem__(self, rows: int | slice | NDArray[np.int64]) -> "NDArray[np.uint8] | ImagesOnDemand":
        if isinstance(rows, slice):
            return replace(self, names=self.names[rows], hashes=self.hashes[rows])
        chosen = np.arange(len(self))[rows]
        out = np.empty((chosen.size, *self.shape[1:]), np.uint8)
        self.read(chosen.reshape(-1), out)
        return out.reshape(*chosen.shape, *self.shape[1:])

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> NDArray[np.uint8]:
        return self[np.arange(len(self))].astype(dtype or self.dtype, copy=False)

    def read(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Decode those rows into `out` [n, H, W, 3].

        Raises:
            UserError: a file is no whole image any more, or of another size.
        """
        window, step = self._window, max(1, min(PART_IMAGES, len(rows) // (2 * workers())))

        def decode(start: int) -> None:
            for number in range(start, min(start + step, len(rows))):
                path = self.folder / self.names[rows[number]]
                image = decode_image(path, self.image_size)
                check_size(self.like, self.whole, path, image.shape)
                out[number] = image[window]

        for _ in _threads().map(decode, range(0, len(rows), step)):
            pass


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers(), thread_name_prefix="decoding")


def images_on_demand(
    data_dir: Path, splits: Sequence["Listing"], image_size: int | None, progress: Progress
) -> tuple[tuple[ImagesOnDemand, ...], str]:
    """The images of each split, and their fingerprint: that of the same images in the cache.

    The first time all of them are decoded once, as the fingerprint follows from the pixels, and so that what is broken
    or of another size is found before a run begins. What that finds is kept where the cache would be, if it can be.

    Raises:
        UserError: a broken image, or images of several sizes.
    """
    hashes, fingerprint = _looked_at(data_dir, splits, image_size, progress)
    like = splits[0].folder / splits[0].names[0]
    whole = decode_image(like, image_size).shape
    sets = [
        ImagesOnDemand(split.folder, split.names, found, like, whole, image_size)
        for split, found in zip(splits, hashes, strict=True)
    ]
    return tuple(sets), fingerprint


Found = tuple[list[NDArray[np.uint64]], str]
"""Hashes of the images of each split, and the fingerprint."""


def _looked_at(data_dir: Path, splits: Sequence["Listing"], image_size: int | None, progress: Progress) -> Found:
    """What a pass over all images finds; kept from an earlier pass where there was one."""
    places, name = cache_places(data_dir), cache_key(splits, image_size) + LOOKED
    for place in places:
        if (found := _read(place / name, splits)) is not None:
            return found
    try:
        place = writable(places)
    except UserError:
        print(f"{data_dir}: {NOT_KEPT}", file=sys.stderr, flush=True)
        return _look(splits, image_size, progress)
    with exclusive(place / LOCK, f"looking at the images of {data_dir}"):
        if (found := _read(place / name, splits)) is None:
            found = _look(splits, image_size, progress)
            _keep(place, name, splits, found)
    return found


def _look(splits: Sequence["Listing"], image_size: int | None, progress: Progress) -> Found:
    """Decode all images once, and keep nothing of them but their hashes and the fingerprint."""
    digest, hashes = digest_of_names(splits), []
    like = splits[0].folder / splits[0].names[0]

    def passing() -> Iterator[int]:
        for split in splits:
            found = []
            for chunk in decode_images([split.folder / name for name in split.names], like, image_size):
                digest.update(chunk)
                found.append(pixel_hashes(chunk[:, *centre(*chunk.shape[1:3])]))
                yield len(chunk)
            hashes.append(np.concatenate(found))

    for _ in progress(passing(), sum(len(split.names) for split in splits), "looking at images"):
        pass
    return hashes, digest.hexdigest()


def _read(folder: Path, splits: Sequence["Listing"]) -> Found | None:
    """What was kept, or None where there is nothing, or not what was written."""
    try:
        info = read_info(folder / INFO)
        hashes = [np.load(folder / f"{split.split}.npy") for split in splits]
        return hashes, str(info["fingerprint"])
    except (Damaged, OSError, ValueError, EOFError, KeyError):
        return None


def _keep(place: Path, name: str, splits: Sequence["Listing"], found: Found) -> None:
    """Keep it for the next time, whole or not at all; of what was found of other listings the latest is kept too."""
    partial, listing = place / f"partial-{name}", name.split("-")[0]
    try:
        others = [old for old in place.glob(f"*{LOOKED}") if not old.name.startswith(f"{listing}-")]
        for old in sorted(others, key=lambda old: old.stat().st_mtime_ns)[:-OTHERS]:
            shutil.rmtree(old, ignore_errors=True)
        partial.mkdir()
        for split, hashes in zip(splits, found[0], strict=True):
            np.save(partial / f"{split.split}.npy", hashes)
        write_info(partial / INFO, {"fingerprint": found[1]})
        partial.rename(place / name)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        print(f"{place}: {NOT_KEPT} ({error.strerror or error})", file=sys.stderr, flush=True)
