"""A folder of images, `data_dir/{train,test}/<class>/*`: listed, decoded once into a cache, memory-mapped."""

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al.data import DataSet, ImageSet
from al.errors import UserError
from data_prep.progress import Progress, show_progress
from data_prep.sources.decoding import EXTENSIONS
from data_prep.sources.image_cache import cached_arrays

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Listing:
    """The images of one split, by class and then by name."""

    folder: Path
    classes: tuple[str, ...]
    names: tuple[str, ...]
    """`<class>/<file>` of every image."""
    counts: NDArray[np.int64]
    """[C] images of each class."""
    digest: str
    """Follows from the names, sizes and times of change of the files."""
    ignored: int
    """Files that are no images."""

    @property
    def split(self) -> str:
        return self.folder.name

    @property
    def paths(self) -> tuple[str, ...]:
        """`<split>/<class>/<file>` of every image."""
        return tuple(f"{self.split}/{name}" for name in self.names)

    @property
    def labels(self) -> NDArray[np.int64]:
        """[N] indices into `classes`."""
        return np.repeat(np.arange(len(self.classes)), self.counts)


def load_imagefolder(data_dir: Path, image_size: int | None = None, progress: Progress = show_progress) -> DataSet:
    """Load the images below `data_dir`, in the order of torchvision's ImageFolder.

    Models take squares: of images that are none the centre square is used, whoever looks at them. The fingerprint
    follows from the relative paths and the decoded pixels, not from where the folder lies.

    Raises:
        UserError: no such folder, no images of a class in one of the splits, a broken image, mixed sizes.
    """
    train, test = list_images(data_dir)
    _report_ignored(data_dir, train.ignored + test.ignored)
    arrays, fingerprint = cached_arrays(data_dir, (train, test), image_size, progress)
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


def _centre(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The centre squares of images [N, H, W, 3], as a view."""
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, top : top + side, left : left + side]  # [N, side, side, 3]


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
            f"and holds {', '.join(found[:5]) or 'no folders'}"
        )
    names = [entry.name for entry in visible(data_dir / split) if entry.is_dir()]
    for name in names:
        _check_name(data_dir / split, name)
    if not names:
        raise UserError(f"{data_dir / split}: has no class folders; put the images of each class into a folder there")
    return names


def _check_name(folder: Path, name: str) -> None:
    """Refuse a class folder whose name cannot be written into results, figures and W&B."""
    shown = os.fsencode(name).decode(errors="backslashreplace")
    if name != shown:
        raise UserError(f"{folder}: the name of the class folder {shown!r} is not UTF-8; rename it")
    if not name.isprintable():
        raise UserError(f"{folder}: the name of the class folder {name!r} has characters without a form; rename it")


def _list_split(folder: Path, classes: tuple[str, ...]) -> Listing:
    names, counts, ignored = [], [], sum(not entry.is_dir() for entry in visible(folder))
    digest = hashlib.sha256()
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
            digest.update(b"%b\0%d\0%d\0" % (os.fsencode(f"{name}/{file}"), status.st_size, status.st_mtime_ns))
    return Listing(folder, classes, tuple(names), np.array(counts), digest.hexdigest(), ignored)


def images_in(folder: Path) -> tuple[list[tuple[str, os.stat_result]], int]:
    """List the images in `folder` by name, each with its status, and count what else is there."""
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
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from error


def _report_ignored(data_dir: Path, count: int) -> None:
    if count:
        known = ", ".join(EXTENSIONS)
        print(f"{data_dir}: ignored {count} entries that are no images ({known})", file=sys.stderr, flush=True)
