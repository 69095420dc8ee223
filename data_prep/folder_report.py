"""Look at a folder of images before it is used: classes, counts, sizes, broken files, images that are there twice."""

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError
from data_prep.looking import Seen, look_at_files, thumbnails
from data_prep.near_duplicates import alike_by_pixels
from data_prep.progress import Progress, show_progress
from data_prep.sources.decoding import EXTENSIONS
from data_prep.sources.imagefolder import is_folder, visible
from data_prep.split_file import SPLITS

EXAMPLES = 3  # of what there is many of, that are shown
WHOLE = ""
"""The only split of a folder that has its classes directly in it."""
OTHER_IMAGES = (".avif", ".gif", ".heic", ".heif", ".raw", ".tif", ".tiff")
"""Endings of images that are not read, which is worth a line."""


@dataclass(frozen=True)
class ClassCount:
    """How many files of images a class has."""

    name: str
    """Of its folder."""
    counts: tuple[int, ...]
    """By split, as in `FolderReport.splits`."""


@dataclass(frozen=True)
class SizeCount:
    """How many images have a size in pixels."""

    width: int
    height: int
    images: int


@dataclass(frozen=True)
class Broken:
    """A file that is no whole image."""

    path: str
    reason: str


@dataclass(frozen=True)
class Copy:
    """An image and an earlier one like it; paths begin with the split, if there is one, and the class."""

    path: str
    original: str

    @property
    def another_class(self) -> bool:
        return Path(self.path).parent.name != Path(self.original).parent.name


@dataclass(frozen=True)
class Copies:
    """Pairs of images that are alike, by the sides that they are on."""

    test_in_train: tuple[Copy, ...] = ()
    """Test images that are training images too."""
    in_train: tuple[Copy, ...] = ()
    """Training images, or images of a folder without splits, that repeat an earlier one."""
    in_test: tuple[Copy, ...] = ()
    """Test images that repeat an earlier one, and no training image."""

    @classmethod
    def of(cls, copies: Iterable[Copy]) -> "Copies":
        pairs: dict[tuple[str, str], list[Copy]] = {}
        for copy in copies:
            pairs.setdefault((_split_of(copy.path), _split_of(copy.original)), []).append(copy)
        return cls(
            test_in_train=tuple(pairs.get(("test", "train"), ())),
            in_train=tuple(pairs.get(("train", "train"), pairs.get((WHOLE, WHOLE), ()))),
            in_test=tuple(pairs.get(("test", "test"), ())),
        )

    @property
    def all(self) -> tuple[Copy, ...]:
        return self.test_in_train + self.in_train + self.in_test


@dataclass(frozen=True)
class Listing:
    """The files below a folder, split by split and class by class."""

    root: Path
    splits: tuple[str, ...]
    """`train` and `test`, or one of them, or `WHOLE`."""
    classes: tuple[ClassCount, ...]
    files: tuple[str, ...]
    """Where each image lies below `root`."""
    ignored: int
    """Entries that are no images."""
    unread: tuple[tuple[str, int], ...] = ()
    """Endings of images that are not read, with how many files have each."""
    nested: int = 0
    """Folders inside class folders, which are not looked into."""


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen of each file of a folder."""

    listing: Listing
    seen: tuple[Seen, ...]
    same: NDArray[np.int64]
    """[N] the first file of the same pixels: mostly its own number, and always that of a broken file."""
    near: NDArray[np.int64]
    """[m, 2] pairs of files, the earlier one first, that are nearly the same; enough to connect all that are."""


@dataclass(frozen=True)
class FolderReport:
    """What a folder of images holds. Every image was decoded for it."""

    path: Path
    splits: tuple[str, ...]
    """`train` and `test`, or one of them, or `WHOLE`."""
    classes: tuple[ClassCount, ...]
    sizes: tuple[SizeCount, ...]
    """The most frequent first."""
    broken: tuple[Broken, ...]
    ignored: int
    """Entries that are no images."""
    same: Copies
    """Images of the same pixels."""
    near: Copies = Copies()
    """Images of nearly the same pixels."""
    unread: tuple[tuple[str, int], ...] = ()
    """Endings of images that are not read, with how many files have each."""
    nested: int = 0
    """Folders inside class folders, which are not looked into."""

    @property
    def images(self) -> int:
        """Files of images, broken ones included."""
        return sum(sum(row.counts) for row in self.classes)

    @property
    def image_size(self) -> int | None:
        """The shortest side of any image, to which all can be brought; None where all are squares of one size."""
        if len(self.sizes) == 1 and self.sizes[0].width == self.sizes[0].height:
            return None
        return min((min(size.width, size.height) for size in self.sizes), default=None)

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps a run from starting or spoils its result, each with the remedy."""
        found = []
        if set(self.splits) != set(SPLITS):
            there = f"there is only {self.splits[0]}: split the images"
            if WHOLE in self.splits:
                there = "these are not split: do so, name a --split_file, or use `make compare`, which makes one"
            found.append(f"a run needs train/<class>/* and test/<class>/*, and {there}")
        if len(self.classes) < 2:
            found.append(f"{len(self.classes)} class: a classifier needs two or more folders")
        for row in self.classes:
            if row.name != _shown(row.name):
                found.append(f"class {_shown(row.name)!r}: its name is not UTF-8: rename the folder")
            found += [
                f"class {_shown(row.name)!r}: no images in {split or self.path}: put some there, or remove the class"
                for split, count in zip(self.splits, row.counts)
                if not count
            ]
        if self.broken:
            found.append(f"{len(self.broken):,} broken files stop a run: replace or remove them")
        if len(self.sizes) > 1:
            found.append(f"{len(self.sizes):,} sizes: use for example --image_size={self.image_size}")
        if self.same.test_in_train:
            found.append(f"{len(self.same.test_in_train):,} test images are training images too: remove them")
        return tuple(found)


def inspect_folder(path: Path, progress: Progress = show_progress) -> FolderReport:
    """Decode every image below `path` once, in parallel, and report what is there. Nothing is written.

    Args:
        path: holds `{train,test}/<class>/*`, one of the two, or `<class>/*`.

    Raises:
        UserError: no such folder, or one that cannot be read or has no folders.
    """
    return report_on(look_at_folder(path, progress))


def look_at_folder(path: Path, progress: Progress = show_progress, memory: Path | None = None) -> Look:
    """Decode every image below `path` once, and find those that are the same or nearly so.

    Args:
        memory: file that remembers what was seen, so that the next look decodes only what is new.

    Raises:
        UserError: as `inspect_folder`.
    """
    listing = list_folder(path)
    seen = look_at_files(path, listing.files, progress, memory)
    same = _first_of_same(seen)
    rows = np.array([i for i, one in enumerate(seen) if same[i] == i and not one.reason], np.int64)
    near = rows[alike_by_pixels(thumbnails([seen[i] for i in rows]))]
    return Look(listing, tuple(seen), same, near)


def list_folder(path: Path) -> Listing:
    """The images below a folder, by split, class and name; training images come before test images.

    Raises:
        UserError: as `inspect_folder`.
    """
    if not path.is_dir():
        raise UserError(f"{str(path)!r}: no such folder; name one with a folder of images for each class")
    splits = tuple(split for split in SPLITS if (path / split).is_dir()) or (WHOLE,)
    names = sorted({entry.name for split in splits for entry in visible(path / split) if is_folder(entry)})
    if not names:
        raise UserError(f"{str(path)!r}: has no class folders; put the images of each class into a folder there")
    found = {(split, name): _images_in(path / split / name) for split in splits for name in names}
    beside = sum(not is_folder(entry) for split in splits for entry in visible(path / split))
    inside = [entry for split, name in found for entry in _entries(path / split / name)]
    return Listing(
        path,
        splits,
        tuple(ClassCount(name, tuple(len(found[split, name][0]) for split in splits)) for name in names),
        tuple(str(Path(split, name, file)) for (split, name), (images, _) in found.items() for file in images),
        beside + sum(others for _, others in found.values()),
        _unread(inside),
        sum(is_folder(entry) for entry in inside),
    )


def _images_in(folder: Path) -> tuple[list[str], int]:
    """Names of images in a folder, those that cannot be read among them, and how many other entries there are."""
    entries = _entries(folder)
    images = [entry.name for entry in entries if entry.name.lower().endswith(EXTENSIONS) and _may_be_read(entry)]
    return sorted(images), len(entries) - len(images)


def _may_be_read(entry: os.DirEntry) -> bool:
    """Whether an entry is a file, or a link to nowhere, which counts as a broken one. A pipe would never end."""
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True


def _entries(folder: Path) -> list[os.DirEntry]:
    return list(visible(folder)) if folder.is_dir() else []


def _unread(entries: Iterable[os.DirEntry]) -> tuple[tuple[str, int], ...]:
    endings = Counter(Path(entry.name).suffix.lower() for entry in entries)
    return tuple((ending, endings[ending]) for ending in OTHER_IMAGES if endings[ending])


def report_on(look: Look) -> FolderReport:
    """What there is to say about what was seen."""
    listing, seen = look.listing, look.seen
    sizes = Counter((one.width, one.height) for one in seen if not one.reason)
    repeats = np.flatnonzero(look.same != np.arange(len(seen)))
    return FolderReport(
        listing.root,
        listing.splits,
        listing.classes,
        tuple(SizeCount(*size, images) for size, images in sizes.most_common()),
        tuple(Broken(_shown(file), one.reason) for file, one in zip(listing.files, seen) if one.reason),
        listing.ignored,
        Copies.of(_copy(listing.files, row, look.same[row]) for row in repeats),
        Copies.of(_copy(listing.files, row, earlier) for earlier, row in look.near),
        listing.unread,
        listing.nested,
    )


def _copy(files: Sequence[str], row: int, original: int) -> Copy:
    return Copy(_shown(files[row]), _shown(files[original]))


def _first_of_same(seen: Sequence[Seen]) -> NDArray[np.int64]:
    """[N] the first file of the same pixels."""
    first: dict[str, int] = {}
    same = (i if one.reason else first.setdefault(one.content, i) for i, one in enumerate(seen))
    return np.fromiter(same, np.int64, len(seen))


def _split_of(path: str) -> str:
    first = Path(path).parts[0]
    return first if first in SPLITS else WHOLE


def _shown(path: str) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


def lines(report: FolderReport) -> Iterator[str]:
    """What there is to say besides the table of classes, a line each, with the problems that a run would have."""
    yield from findings(report)
    yield from (f"problem: {problem}" for problem in report.problems)


def findings(report: FolderReport) -> Iterator[str]:
    """What there is to say besides the table of classes and the problems, a line each."""
    sizes = [f"{size.width}x{size.height} ({size.images:,})" for size in report.sizes]
    yield f"sizes: {_first(sizes, 'sizes') or 'none'}"
    yield f"broken: {_first([f'{one.path} ({one.reason})' for one in report.broken], 'files') or 'none'}"
    whole = WHOLE in report.splits
    yield from _copies_told(report.same, "exact duplicates", "", whole)
    yield from _copies_told(report.near, "near duplicates", "nearly ", whole)
    if report.ignored:
        yield f"ignored: {report.ignored:,} entries that are no images"
    if report.nested:
        yield f"not looked into: {report.nested:,} folders inside class folders; move their images up"
    for ending, count in report.unread:
        yield f"{ending}: {count:,} images that are not read: convert them to one of {', '.join(EXTENSIONS)}"


def _copies_told(copies: Copies, name: str, nearly: str, whole: bool) -> Iterator[str]:
    groups = (
        (f"test images that are {nearly}training images", copies.test_in_train),
        (f"{nearly}repeated" if whole else f"{nearly}repeated in train", copies.in_train),
        (f"{nearly}repeated in test", copies.in_test),
    )
    for what, found in groups:
        if found:
            other = sum(copy.another_class for copy in found)
            classes = f", {other:,} of them under another class" if other else ""
            shown = _first([f"{copy.path} = {copy.original}" for copy in found], "pairs")
            yield f"{what}: {len(found):,}{classes} ({shown})"
    if not copies.all:
        yield f"{name}: none"


def _first(items: Sequence[str], what: str) -> str:
    more = f" and {len(items) - EXAMPLES:,} other {what}" if len(items) > EXAMPLES else ""
    return ", ".join(items[:EXAMPLES]) + more
