"""A folder of images, listed, decoded once into a cache, memory-mapped.

`data_dir/{train,test}/<class>/*`; or `data_dir/<class>/*` and a file that says what is for testing.
"""

import hashlib
import os
import stat
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al.data import DataSet, ImageFiles, ImageSet
from al.errors import UserError
from data_prep.progress import Progress, show_progress
from data_prep.sources.decoding import EXTENSIONS, centre
from data_prep.sources.image_cache import CacheTooLarge, cached_arrays
from data_prep.sources.on_demand import ImagesOnDemand, images_on_demand
from data_prep.split_file import SPLITS, Placed, read_split_file

LABELLING = "al-labels"
"""The folder of what `python -m al` knows of the labels: no class, and its pictures are links to images."""
FALLBACK = "so they are decoded whenever they are read, as with cache=off, which takes longer: make room there"


@dataclass(frozen=True)
class Listing:
    """The images of one split, by class and then by name."""

    split: str
    folder: Path
    within: str
    """Where `folder` lies in the data folder: empty where it is the data folder itself."""
    classes: tuple[str, ...]
    names: tuple[str, ...]
    """Where every image lies in `folder`, mostly `<class>/<file>`."""
    counts: NDArray[np.int64]
    """[C] images of each class."""
    digest: str
    """Follows from the names, sizes and times of change of the files."""
    stamps: NDArray[np.bytes_]
    """[N] 16 bytes for each file that are others once it is written to, replaced, moved or renamed."""
    ignored: int
    """Files that are no images."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Where every image lies in the data folder."""
        return tuple(f"{self.within}/{name}" for name in self.names) if self.within else self.names

    @property
    def labels(self) -> NDArray[np.int64]:
        """[N] indices into `classes`."""
        return np.repeat(np.arange(len(self.classes)), self.counts)


def load_imagefolder(
    data_dir: Path,
    image_size: int | None = None,
    progress: Progress = show_progress,
    split_file: Path | None = None,
    cache: str = "auto",
) -> DataSet:
    """Load the images below `data_dir`, in the order of torchvision's ImageFolder.

    Args:
        split_file: names the training and the test images; None: the folders `train` and `test` hold them.
        cache: `on` decodes them once, into a file; `off` whenever they are read; `auto`: off where there is no room.

    Models take squares: an image that is not square is cut to its centre square, for every model alike. The fingerprint
    follows from the relative paths and the decoded pixels, not from where the folder lies.

    Raises:
        UserError: no such folder or file, no images of a class in one of the splits, a broken image, mixed sizes, or no
            room for a cache that is wanted.
    """
    train, test = list_images(data_dir) if split_file is None else list_placed(data_dir, split_file)
    _report_ignored(data_dir, train.ignored + test.ignored)
    arrays, fingerprint = _pixels(data_dir, (train, test), image_size, progress, cache)
    height, width = arrays[0].shape[1:3]
    if height != width:
        _report_cropped(data_dir, height, width)
        arrays = tuple(_centre(array) for array in arrays)
        fingerprint = hashlib.sha256(f"{fingerprint} centre".encode()).hexdigest()
    sets = [
        ImageSet(images, listing.labels, listing.classes, listing.paths, listing.split)
        for images, listing in zip(arrays, (train, test), strict=True)
    ]
    return DataSet("imagefolder", *sets, fingerprint)


def _pixels(
    data_dir: Path, splits: tuple[Listing, Listing], image_size: int | None, progress: Progress, cache: str
) -> tuple[tuple[NDArray[np.uint8] | ImageFiles, ...], str]:
    """The images of each split, from the cache or as files that are decoded when they are read; the fingerprint."""
    if cache != "off":
        try:
            return cached_arrays(data_dir, splits, image_size, progress)
        except CacheTooLarge as full:
            if cache == "on":
                raise
            print(f"{full.said}; {FALLBACK}", file=sys.stderr, flush=True)
    return images_on_demand(data_dir, splits, image_size, progress)


def _centre(images: NDArray[np.uint8] | ImageFiles) -> NDArray[np.uint8] | ImageFiles:
    """The centre squares of images [N, H, W, 3], as a view."""
    if isinstance(images, ImagesOnDemand):
        return images.centred()
    return images[:, *centre(*images.shape[1:3])]  # [N, side, side, 3]


def _report_cropped(data_dir: Path, height: int, width: int) -> None:
    side = min(height, width)
    print(
        f"{data_dir}: the images are {width}x{height} pixels; of each the centre square of {side}x{side} is used "
        f"(--image_size=N resizes it to NxN)",
        file=sys.stderr,
        flush=True,
    )


def list_images(data_dir: Path) -> tuple[Listing, Listing]:
    """List the images of the train and the test folder.

    Raises:
        UserError: as `load_imagefolder`, but for what needs decoding.
    """
    if not data_dir.is_dir():
        raise UserError(f"data_dir={str(data_dir)!r}: no such folder; it must hold train/<class>/* and test/<class>/*")
    classes = {split: _class_names(data_dir, split) for split in SPLITS}
    together = tuple(sorted(set().union(*classes.values())))
    listings = [_list_split(data_dir / split, together) for split in SPLITS]
    if len(together) < 2:
        raise UserError(f"{data_dir}: {len(together)} class; a classifier needs two or more folders train/<class>")
    return tuple(listings)


def _class_names(data_dir: Path, split: str) -> list[str]:
    if not (data_dir / split).is_dir():
        found = sorted(entry.name for entry in data_dir.iterdir() if entry.is_dir() and entry.name[0] != ".")
        raise UserError(
            f"data_dir={str(data_dir)!r}: has no folder {split!r}; it must hold train/<class>/* and test/<class>/*, "
            f"and holds {', '.join(found[:5]) or 'no folders'}; or name a split_file"
        )
    names = [entry.name for entry in visible(data_dir / split) if is_folder(entry)]
    for name in names:
        check_name(data_dir / split, name)
    if not names:
        raise UserError(f"{data_dir / split}: has no class folders; put the images of each class into a folder there")
    return names


def check_name(folder: Path, name: str) -> None:
    """Refuse a class folder whose name cannot be written into results, figures and W&B."""
    shown = os.fsencode(name).decode(errors="backslashreplace")
    if name != shown:
        raise UserError(f"{folder}: the name of the class folder {shown!r} is not UTF-8; rename it")
    if not name.isprintable():
        raise UserError(f"{folder}: the name of the class folder {name!r} has characters without a form; rename it")


def _list_split(folder: Path, classes: tuple[str, ...]) -> Listing:
    names, counts, ignored = [], [], sum(not is_folder(entry) for entry in visible(folder))
    split, digest, stamps = folder.name, hashlib.sha256(), bytearray()
    for name in classes:
        images, others = images_in(folder / name)
        if not images:
            raise UserError(
                f"class {name!r}: no images in {folder / name}; put some there ({', '.join(EXTENSIONS)}), "
                "or remove the class from train and test"
            )
        names += [f"{name}/{file}" for file, _ in images]
        counts.append(len(images))
        ignored += others
        for file, status in images:
            digest.update(_stamp(f"{name}/{file}", status))
            stamps += _exact_stamp(f"{split}/{name}/{file}", status)
    sizes, packed = np.array(counts), np.frombuffer(bytes(stamps), "S16")
    return Listing(split, folder, split, classes, tuple(names), sizes, digest.hexdigest(), packed, ignored)


def list_placed(data_dir: Path, split_file: Path) -> tuple[Listing, Listing]:
    """List the training and the test images that a split file names.

    Raises:
        UserError: as `load_imagefolder`, but for what needs decoding.
    """
    if not data_dir.is_dir():
        raise UserError(f"data_dir={str(data_dir)!r}: no such folder; it must hold the images that split_file names")
    images = read_split_file(split_file)
    classes = tuple(sorted({image.class_name for image in images}))
    for name in classes:
        check_name(data_dir, name)
    if len(classes) < 2:
        raise UserError(f"{split_file}: {len(classes)} class; a classifier needs images of two or more")
    return tuple(
        _list_side(data_dir, split_file, split, classes, (image for image in images if image.split == split))
        for split in SPLITS
    )


def _list_side(
    data_dir: Path, split_file: Path, split: str, classes: tuple[str, ...], images: Iterable[Placed]
) -> Listing:
    of_class: dict[str, list[str]] = defaultdict(list)
    for image in images:
        of_class[image.class_name].append(image.path)
    names, digest, stamps = [], hashlib.sha256(), bytearray()
    for name in classes:
        if not of_class[name]:
            raise UserError(
                f"{split_file}: class {name!r}: no {split} images; give it some, or take the class out of the file"
            )
        for path in sorted(of_class[name]):
            status = _status(data_dir / path, f"which {split_file} names")
            digest.update(_stamp(path, status))
            stamps += _exact_stamp(path, status)
            names.append(path)
    counts, packed = np.array([len(of_class[name]) for name in classes]), np.frombuffer(bytes(stamps), "S16")
    return Listing(split, data_dir, "", classes, tuple(names), counts, digest.hexdigest(), packed, ignored=0)


def _status(path: Path, which: str) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}), {which}; put it back, or make the file anew"
        ) from None


def _stamp(name: str, status: os.stat_result) -> bytes:
    """What the digest of a listing holds of a file."""
    return b"%b\0%d\0%d\0" % (os.fsencode(name), status.st_size, status.st_mtime_ns)


def _exact_stamp(name: str, status: os.stat_result) -> bytes:
    """16 bytes by which one image is known to be what it was.

    Also by what a renaming changes: files unpacked from an archive may have one size and one time, and be renumbered.
    """
    exact = b"%b%d\0%d" % (_stamp(name, status), status.st_ctime_ns, status.st_ino)
    return hashlib.blake2b(exact, digest_size=16).digest()


def images_in(folder: Path) -> tuple[list[tuple[str, os.stat_result]], int]:
    """List the images in `folder` by name, each with its status, and count what else is there.

    Raises:
        UserError: one of them cannot be read, such as a link to nowhere.
    """
    images, others = [], 0
    for entry in visible(folder) if folder.is_dir() else ():
        if not entry.name.lower().endswith(EXTENSIONS):
            others += 1
            continue
        try:
            status = entry.stat()
        except OSError as error:
            raise UserError(f"{entry.path}: cannot be read ({error.strerror}); replace or remove the file") from error
        if stat.S_ISREG(status.st_mode):
            images.append((entry.name, status))
        else:
            others += 1
    return sorted(images, key=lambda image: image[0]), others


def visible(folder: Path) -> Iterator[os.DirEntry]:
    """What lies in a folder, but for hidden things and the state of a labelling."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith(".") and entry.name != LABELLING)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error


def is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder or a link to one; a link to itself, of which `is_dir` raises, is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _report_ignored(data_dir: Path, count: int) -> None:
    if count:
        known = ", ".join(EXTENSIONS)
        print(f"{data_dir}: ignored {count} entries that are no images ({known})", file=sys.stderr, flush=True)
