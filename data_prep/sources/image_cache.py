"""A cache of decoded image folders: .npy files, written once, found again while the folder is unchanged.

The cache of a folder lies in the folder itself (`.cache-al`), or where that cannot be written in the user's cache.
Each entry is a folder named after what was decoded: `<digest of the listing>-<image size>`. A folder has one entry a
size: where its images or their split are others, what the earlier entry has is copied, and the rest decoded.
"""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError, first_line
from al.storage.blocks import BLOCK_ROWS, release
from data_prep.checksums import Damaged, no_room, read_info, size, write_info
from data_prep.locks import exclusive
from data_prep.progress import Progress
from data_prep.sources.decoding import check_size, decode_image, decode_images, images_at_a_time

if TYPE_CHECKING:
    from data_prep.sources.imagefolder import Listing

FORMAT = 1
"""Raise it when the same files would be decoded to other pixels."""

IN_DATA = ".cache-al"
WHAT = "the decoded images"
INFO, STAMPS = "info.json", "stamps.npy"
LOCK = ".lock"
LOOKED = "-looked-at"
"""Ends the name of a folder that keeps what a look at the images found where they are not cached."""
OFF = "use cache=off, which decodes images whenever they are read"
Arrays = tuple[NDArray[np.uint8], ...]


class CacheTooLarge(UserError):
    """The decoded images take more room than is free where the cache lies."""

    def __init__(self, said: str):
        super().__init__(f"{said}; make room there, or {OFF}")
        self.said = said
        """The complaint without its remedy, for those who have another one."""


def cached_arrays(
    data_dir: Path, splits: Sequence["Listing"], image_size: int | None, progress: Progress
) -> tuple[Arrays, str]:
    """The images of each split as u8[N, H, W, 3], memory-mapped from the cache, and their fingerprint.

    Images are decoded first if the cache lacks them; where another process is decoding them, this one waits for it.

    Raises:
        UserError: a broken image, images of several sizes, or nowhere to write the cache.
        CacheTooLarge: the images take more than is free there.
    """
    places, key = cache_places(data_dir), cache_key(splits, image_size)
    for place in places:
        if (found := _open(place / key, splits)) is not None:
            return found
    place = writable(places)
    try:
        with exclusive(place / LOCK, f"decoding the images of {data_dir}"):
            if (found := _open(place / key, splits, complain=True)) is None:
                _fill(place, key, splits, image_size, progress)
                found = _open(place / key, splits)
    except OSError as error:
        raise no_room(place, WHAT, error, _bytes(splits, image_size), f"make room there, or {OFF}") from error
    if found is None:
        raise UserError(f"{place / key}: was changed while it was written; start again")
    return found


def _bytes(splits: Sequence["Listing"], image_size: int | None) -> int:
    """How much room the decoded images take."""
    pixels = decode_image(splits[0].folder / splits[0].names[0], image_size).size
    return pixels * sum(len(split.names) for split in splits)


def cache_places(data_dir: Path) -> tuple[Path, Path]:
    """Where the cache of a folder may lie: in the folder, or in the user's cache."""
    home = Path(os.environ.get("HOME") or tempfile.gettempdir())
    user = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    name = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    return data_dir / IN_DATA, user / "al-suite" / name


def cache_key(splits: Sequence["Listing"], image_size: int | None) -> str:
    listings = " ".join([str(FORMAT), *(split.digest for split in splits)])
    return f"{hashlib.sha256(listings.encode()).hexdigest()[:16]}-{image_size or 'native'}"


def _open(entry: Path, splits: Sequence["Listing"], *, complain: bool = False) -> tuple[Arrays, str] | None:
    """Open a cache entry; None where it is missing or damaged.

    Args:
        complain: say so where it is there and damaged.
    """
    if not entry.exists():
        return None
    try:
        return _read(entry, splits)
    except Damaged as damage:
        if complain:
            print(f"{entry}: {WHAT} are damaged ({damage}); they are made again", file=sys.stderr, flush=True)
        return None


def _read(entry: Path, splits: Sequence["Listing"]) -> tuple[Arrays, str]:
    """The arrays and the fingerprint of a cache entry.

    Raises:
        Damaged: something is missing, or is not what was written.
    """
    info = read_info(entry / INFO)
    try:
        fingerprint = str(info["fingerprint"])
        arrays = tuple(np.load(entry / f"{split.split}.npy", mmap_mode="r") for split in splits)
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise Damaged(first_line(error)) from None
    if any(len(array) != len(split.names) for array, split in zip(arrays, splits, strict=True)):
        raise Damaged("another number of images")
    if "checksums" not in info:  # from before there were any: the fingerprint is a digest of the pixels too
        if _fingerprint(splits, arrays) != fingerprint:
            raise Damaged("another fingerprint")
        with suppress(OSError):
            write_info(entry / INFO, info)
    return arrays, fingerprint


def _fingerprint(splits: Sequence["Listing"], arrays: Arrays) -> str:
    """The digest that `_decode` takes while it writes, of arrays that are there."""
    digest = digest_of_names(splits)
    for array in arrays:
        for start in range(0, len(array), BLOCK_ROWS):
            digest.update(np.ascontiguousarray(array[start : start + BLOCK_ROWS]))
            release(array)
    return digest.hexdigest()


def writable(places: Sequence[Path]) -> Path:
    """The first of `places` that files can be written in.

    Raises:
        UserError: none of them.
    """
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            (place / LOCK).touch()
        except OSError as error:
            last = error
        else:
            return place
    remedy = f"set XDG_CACHE_HOME to a folder that can be written, or {OFF}"
    raise no_room(places[-1], WHAT, last, None, remedy)


def _fill(place: Path, key: str, splits: Sequence["Listing"], image_size: int | None, progress: Progress) -> None:
    """Decode into a folder beside the entry and rename it: what has the entry's name is whole."""
    partial = place / f"partial-{key}"
    _remove(place, lambda name: name.startswith("partial-"))  # of processes that were killed: the lock is held
    _check_room(place, _bytes(splits, image_size))
    try:
        partial.mkdir()
        np.save(partial / STAMPS, np.concatenate([split.stamps for split in splits]))
        fingerprint = _decode(partial, splits, image_size, _earlier(place, key, splits), progress)
        write_info(partial / INFO, {"fingerprint": fingerprint})
        shutil.rmtree(place / key, ignore_errors=True)
        partial.rename(place / key)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    listing = key.split("-")[0]
    _remove(place, lambda name: not name.startswith(listing) and not name.endswith(LOOKED))  # of earlier listings


@dataclass(frozen=True)
class _Earlier:
    """Images that an earlier entry of the folder holds."""

    arrays: Arrays
    stamps: NDArray[np.bytes_]
    """[N] of the images of all arrays, one below the other."""

    def rows(self, stamps: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """[n] where the images of these stamps are, -1 for those that are not there."""
        order = np.argsort(self.stamps)
        places = order[np.minimum(np.searchsorted(self.stamps, stamps, sorter=order), len(order) - 1)]
        return np.where(self.stamps[places] == stamps, places, -1)

    def image(self, row: int) -> NDArray[np.uint8]:
        for array in self.arrays:
            if row < len(array):
                return array[row]
            row -= len(array)
        raise IndexError(row)


def _earlier(place: Path, key: str, splits: Sequence["Listing"]) -> _Earlier | None:
    """The latest whole entry of another listing at the same image size; None where there is none."""
    others = [entry for entry in place.glob(f"[0-9a-f]*-{key.partition('-')[2]}") if entry.name != key]
    for entry in sorted(others, key=lambda entry: entry.stat().st_mtime_ns, reverse=True):
        try:
            if "checksums" not in read_info(entry / INFO):
                continue
            arrays = tuple(np.load(entry / f"{split.split}.npy", mmap_mode="r") for split in splits)
            found = _Earlier(arrays, np.load(entry / STAMPS))
        except (Damaged, OSError, ValueError, EOFError):  # not what was written, or of before there were stamps
            continue
        if len(found.stamps) == sum(map(len, arrays)):
            return found
    return None


def _check_room(place: Path, needed: int) -> None:
    """Find out before hours are spent on decoding that there is no room for what is decoded."""
    free = shutil.disk_usage(place).free
    if free < needed:
        raise CacheTooLarge(f"{place}: no room for {WHAT}: all of them take {size(needed)}, and {size(free)} are free")


def _remove(place: Path, unwanted: Callable[[str], bool]) -> None:
    for entry in list(place.iterdir()):
        if entry.is_dir() and unwanted(entry.name):
            shutil.rmtree(entry, ignore_errors=True)


def _decode(
    folder: Path, splits: Sequence["Listing"], image_size: int | None, earlier: _Earlier | None, progress: Progress
) -> str:
    """Put each split into a .npy file in `folder`; returns the digest of all relative paths and pixels."""
    digest = digest_of_names(splits)
    nowhere = [np.full(len(split.names), -1) for split in splits]
    rows = nowhere if earlier is None else [earlier.rows(split.stamps) for split in splits]
    new = sum(int((found < 0).sum()) for found in rows)
    what = "decoding images" if new else "copying decoded images"
    done = _decoded(folder, splits, image_size, digest, earlier, rows)
    for _ in progress(done, sum(len(split.names) for split in splits), what):
        pass
    return digest.hexdigest()


def _chunks(
    split: "Listing", like: Path, image_size: int | None, earlier: _Earlier | None, rows: NDArray[np.int64]
) -> Iterator[NDArray[np.uint8]]:
    """The images u8[n, H, W, 3] of a split in its order, copied from where `rows` has them, or decoded."""
    paths = [split.folder / name for name in split.names]
    decoded = decode_images([path for path, row in zip(paths, rows) if row < 0], like, image_size)
    if earlier is None:
        yield from decoded
        return
    one_by_one, shape = (image for chunk in decoded for image in chunk), decode_image(like, image_size).shape
    step = images_at_a_time(shape)
    for start in range(0, len(rows), step):
        images = [next(one_by_one) if row < 0 else earlier.image(row) for row in rows[start : start + step]]
        for path, image in zip(paths[start:], images):
            check_size(like, shape, path, image.shape)
        yield np.stack(images)
        for array in earlier.arrays:
            release(array)


def digest_of_names(splits: Sequence["Listing"]) -> "hashlib._Hash":
    """What the fingerprint of the images begins with, before their pixels."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(b"".join(os.fsencode(f"{split.split}/{name}") + b"\0" for name in split.names))
    return digest


def _decoded(
    folder: Path,
    splits: Sequence["Listing"],
    image_size: int | None,
    digest: "hashlib._Hash",
    earlier: _Earlier | None,
    rows: Sequence[NDArray[np.int64]],
) -> Iterator[int]:
    like = splits[0].folder / splits[0].names[0]
    for split, found in zip(splits, rows):
        chunks = _chunks(split, like, image_size, earlier, found)
        with (folder / f"{split.split}.npy").open("wb") as file:
            for number, chunk in enumerate(chunks):
                if number == 0:
                    shape = (len(split.names), *chunk.shape[1:])
                    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                digest.update(chunk)
                file.write(chunk)
                yield len(chunk)
            file.flush()
            os.fsync(file.fileno())
