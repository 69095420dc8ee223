"""Look at a folder of images before it is used: classes, counts, sizes, broken files, images that are there twice."""

import hashlib
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from al.errors import UserError
from data_prep.progress import Progress, show_progress
from data_prep.sources.decoding import decode_image, workers
from data_prep.sources.imagefolder import SPLITS, images_in, visible

EXAMPLES = 3  # of what there is many of, that are shown
WHOLE = ""
"""The only split of a folder that has its classes directly in it."""


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
    """An image and the first one of the same pixels; paths begin with the split, if there is one, and the class."""

    path: str
    original: str

    @property
    def another_class(self) -> bool:
        return Path(self.path).parent.name != Path(self.original).parent.name


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
    """Files that are no images by their names."""
    test_in_train: tuple[Copy, ...]
    """Test images that are training images too."""
    in_train: tuple[Copy, ...]
    """Training images, or images of a folder without splits, that repeat an earlier one."""
    in_test: tuple[Copy, ...]
    """Test images that repeat an earlier one, and no training image."""

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
            there = "classes in one place" if WHOLE in self.splits else f"only {self.splits[0]}"
            found.append(f"a run needs train/<class>/* and test/<class>/*, and there is {there}: split the images")
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
        if self.test_in_train:
            found.append(f"{len(self.test_in_train):,} test images are training images too: remove them")
        return tuple(found)


@dataclass(frozen=True)
class _Seen:
    """One decoded file: a digest of its pixels and its size, or why it is broken."""

    digest: bytes = b""
    size: tuple[int, int] = (0, 0)
    reason: str = ""


@dataclass(frozen=True)
class _Listing:
    """The files below a folder, split by split and class by class."""

    splits: tuple[str, ...]
    classes: tuple[ClassCount, ...]
    files: tuple[str, ...]
    ignored: int


def inspect_folder(path: Path, progress: Progress = show_progress) -> FolderReport:
    """Decode every image below `path` once, in parallel, and report what is there. Nothing is written.

    Args:
        path: holds `{train,test}/<class>/*`, one of the two, or `<class>/*`.

    Raises:
        UserError: no such folder, or one that cannot be read or has no folders.
    """
    listing = _list(path)
    seen: list[_Seen] = []
    total = len(listing.files)
    for _ in progress(_collected(_looked_at(path, listing.files), seen), total, "looking at images"):
        pass
    broken = (Broken(_shown(file), one.reason) for file, one in zip(listing.files, seen) if one.reason)
    sizes = Counter(one.size for one in seen if not one.reason)
    pairs: dict[tuple[str, str], list[Copy]] = {}
    for copy in _copies(listing.files, seen):
        pairs.setdefault((_split_of(copy.path), _split_of(copy.original)), []).append(copy)
    return FolderReport(
        path,
        listing.splits,
        listing.classes,
        tuple(SizeCount(*size, images) for size, images in sizes.most_common()),
        tuple(broken),
        listing.ignored,
        test_in_train=tuple(pairs.get(("test", "train"), ())),
        in_train=tuple(pairs.get(("train", "train"), pairs.get((WHOLE, WHOLE), ()))),
        in_test=tuple(pairs.get(("test", "test"), ())),
    )


def _list(path: Path) -> _Listing:
    if not path.is_dir():
        raise UserError(f"{str(path)!r}: no such folder; name one with a folder of images for each class")
    splits = tuple(split for split in SPLITS if (path / split).is_dir()) or (WHOLE,)
    names = sorted({entry.name for split in splits for entry in visible(path / split) if entry.is_dir()})
    if not names:
        raise UserError(f"{str(path)!r}: has no class folders; put the images of each class into a folder there")
    found = {(split, name): images_in(path / split / name) for split in splits for name in names}
    beside = sum(not entry.is_dir() for split in splits for entry in visible(path / split))
    return _Listing(
        splits,
        tuple(ClassCount(name, tuple(len(found[split, name][0]) for split in splits)) for name in names),
        tuple(str(Path(split, name, file)) for (split, name), (images, _) in found.items() for file, _ in images),
        beside + sum(others for _, others in found.values()),
    )


def _looked_at(root: Path, files: Sequence[str]) -> Iterator[_Seen]:
    """Decode the files in parallel, in their order."""
    pool = ThreadPoolExecutor(workers())
    waiting: deque[Future[_Seen]] = deque()
    try:
        for file in files:
            waiting.append(pool.submit(_look_at, root / file))
            if len(waiting) > 4 * workers():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _look_at(file: Path) -> _Seen:
    try:
        picture = decode_image(file, None)  # [H, W, 3]
    except UserError as error:
        return _Seen(reason=str(error).partition("not a whole image (")[2].rpartition(")")[0])
    digest = hashlib.blake2b(repr(picture.shape).encode(), digest_size=16)
    digest.update(picture.tobytes())
    return _Seen(digest.digest(), (picture.shape[1], picture.shape[0]))


def _collected(looked_at: Iterable[_Seen], seen: list[_Seen]) -> Iterator[int]:
    for one in looked_at:
        seen.append(one)
        yield 1


def _copies(files: Sequence[str], seen: Sequence[_Seen]) -> list[Copy]:
    """Each image that repeats an earlier one; training images come before test images."""
    first: dict[bytes, str] = {}
    pairs = ((file, first.setdefault(one.digest, file)) for file, one in zip(files, seen) if not one.reason)
    return [Copy(_shown(file), _shown(original)) for file, original in pairs if file != original]


def _split_of(path: str) -> str:
    first = Path(path).parts[0]
    return first if first in SPLITS else WHOLE


def _shown(path: str) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


def lines(report: FolderReport) -> Iterator[str]:
    """What there is to say besides the table of classes, a line each."""
    sizes = [f"{size.width}x{size.height} ({size.images:,})" for size in report.sizes]
    yield f"sizes: {_first(sizes, 'sizes') or 'none'}"
    yield f"broken: {_first([f'{one.path} ({one.reason})' for one in report.broken], 'files') or 'none'}"
    groups = (
        ("test images that are training images", report.test_in_train),
        ("repeated in train" if WHOLE not in report.splits else "repeated", report.in_train),
        ("repeated in test", report.in_test),
    )
    for what, copies in groups:
        if copies:
            other = sum(copy.another_class for copy in copies)
            classes = f", {other:,} of them under another class" if other else ""
            shown = _first([f"{copy.path} = {copy.original}" for copy in copies], "pairs")
            yield f"{what}: {len(copies):,}{classes}: {shown}"
    if not any(copies for _, copies in groups):
        yield "exact duplicates: none"
    if report.ignored:
        yield f"ignored: {report.ignored:,} entries that are no images by their names"
    yield from (f"problem: {problem}" for problem in report.problems)


def _first(items: Sequence[str], what: str) -> str:
    more = f" and {len(items) - EXAMPLES:,} other {what}" if len(items) > EXAMPLES else ""
    return ", ".join(items[:EXAMPLES]) + more
