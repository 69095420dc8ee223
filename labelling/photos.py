"""The images of a folder, in any nesting, known by path and by content.

A file is hashed once and again when it was written to, replaced or renamed. Files of the same content are one photo
with several paths. What cannot be used is set aside, each with a reason, and never stops the rest.
"""

import hashlib
import io
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from al.storage.files import write_atomically
from data_prep.progress import Progress, show_progress
from data_prep.sources.decoding import EXTENSIONS, workers
from data_prep.sources.imagefolder import is_folder
from labelling.project import PROJECT, STATE

HEIC = "HEIC, which is not read; convert it to JPEG (heif-convert A.heic A.jpg; on macOS sips -s format jpeg)"
NOT_READ = "of a format that is not read; convert it to JPEG or PNG"
NOT_UTF8 = "its name is not UTF-8; rename it"
NO_ACCESS = "cannot be opened; check its permissions, or where its link leads"
TOO_LARGE = "of more pixels than are read; make it smaller"
NO_IMAGE = "not an image, whatever its name says; replace or remove it"
HEIC_ENDINGS = (".heic", ".heif", ".hif")
OTHER_IMAGES = (".tif", ".tiff", ".gif", ".avif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".psd")
"""Endings of pictures that are said to be passed over; any other file is only counted."""
HEIC_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"hevc", b"heim", b"heis")
BLOCK = 4096
"""Files between two looks at how far the hashing is."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Photo:
    """One content; where several files have it, the first by name stands for them."""

    sha256: str
    paths: tuple[str, ...]
    """In the folder, with `/`; sorted."""
    size: Size
    """Width and height that the header tells."""

    @property
    def path(self) -> str:
        return self.paths[0]


@dataclass(frozen=True)
class Photos:
    """What is in the folder. Photos are in the order of their paths, part by part, as class folders are listed."""

    folder: Path
    photos: tuple[Photo, ...]
    set_aside: dict[str, str]
    """Reason by path."""
    others: int
    """Files that are no pictures."""

    @cached_property
    def by_sha256(self) -> dict[str, Photo]:
        return {photo.sha256: photo for photo in self.photos}

    @cached_property
    def by_path(self) -> dict[str, Photo]:
        return {path: photo for photo in self.photos for path in photo.paths}

    @cached_property
    def by_name(self) -> dict[str, list[Photo]]:
        """The photos of each file name, whatever folder they lie in."""
        found: dict[str, list[Photo]] = {}
        for path, photo in self.by_path.items():
            group = found.setdefault(path.rpartition("/")[2], [])
            if photo not in group:
                group.append(photo)
        return found

    @property
    def copies(self) -> int:
        return sum(len(photo.paths) - 1 for photo in self.photos)

    def without(self, broken: dict[str, str]) -> "Photos":
        """Set those aside that turned out to be broken: reason by SHA-256."""
        aside = {path: broken[photo.sha256] for photo in self.photos if photo.sha256 in broken for path in photo.paths}
        kept = tuple(photo for photo in self.photos if photo.sha256 not in broken)
        return Photos(self.folder, kept, self.set_aside | aside, self.others)

    def reasons(self) -> dict[str, int]:
        return dict(Counter(self.set_aside.values()).most_common())


@dataclass(frozen=True)
class _Known:
    """What was found out about a file while it was of this size and age."""

    size: int
    changed: int
    """Nanoseconds; of the file's entry, which another name or other permissions change too: of files that were
    unpacked together, and all are as large, the times of their contents do not tell which was renamed to which."""
    sha256: str
    width: int
    height: int
    problem: str | None = None


def find_photos(folder: Path, cache: Path, progress: Progress = show_progress) -> Photos:
    """List and hash the images below `folder`; only what is new or has changed is read.

    Args:
        cache: a folder that keeps the digests.
    """
    listed, aside, others = _list(folder)
    known = _load(cache / "files.json")
    stamps = {path: (status.st_size, status.st_ctime_ns) for path, status in listed.items()}
    new = [path for path, stamp in stamps.items() if path not in known or known[path][:2] != list(stamp)]
    found = {path: _Known(*known[path]) for path in stamps.keys() - set(new)}
    if new:
        for _ in progress(_look_at(folder, new, stamps, found), len(new), "reading the images for the first time"):
            pass
    if new or known.keys() - stamps.keys():
        _save(cache / "files.json", found)
    aside |= {path: entry.problem for path, entry in found.items() if entry.problem}
    usable = {path: entry for path, entry in found.items() if not entry.problem}
    return Photos(folder, _grouped(usable), dict(sorted(aside.items())), others)


def _grouped(files: dict[str, _Known]) -> tuple[Photo, ...]:
    paths: dict[str, list[str]] = {}
    for path in sorted(files, key=lambda path: path.split("/")):
        paths.setdefault(files[path].sha256, []).append(path)
    sizes = {entry.sha256: (entry.width, entry.height) for entry in files.values()}
    return tuple(Photo(sha, tuple(names), sizes[sha]) for sha, names in paths.items())


def _list(folder: Path) -> tuple[dict[str, os.stat_result], dict[str, str], int]:
    """Images by path with their status, pictures set aside with the reason, and how many other files there are.

    Hidden files and folders are passed over, as are states of labelling; links to folders are not followed.
    """
    listed: dict[str, os.stat_result] = {}
    aside: dict[str, str] = {}
    others = 0
    for path, entry in _files(folder, "", aside):
        ending = Path(entry.name).suffix.lower()
        if ending not in EXTENSIONS + HEIC_ENDINGS + OTHER_IMAGES:
            others += 1
        elif path != (shown := os.fsencode(path).decode(errors="backslashreplace")):
            aside[shown] = NOT_UTF8
        elif ending not in EXTENSIONS:
            aside[path] = HEIC if ending in HEIC_ENDINGS else NOT_READ
        else:
            try:
                status = entry.stat()
            except OSError:
                aside[path] = NO_ACCESS
                continue
            if stat.S_ISREG(status.st_mode):
                listed[path] = status
            else:
                aside[path] = NO_IMAGE  # such as a pipe, which would never end
    return listed, aside, others


def _files(folder: Path, prefix: str, aside: dict[str, str]) -> Iterator[tuple[str, os.DirEntry]]:
    """The files below a folder; folders that may not be read are set `aside`."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        aside[os.fsencode(prefix or folder).decode(errors="backslashreplace")] = NO_ACCESS
        return
    if any(entry.name == PROJECT for entry in entries) and any(entry.name == "labels.jsonl" for entry in entries):
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name == STATE:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), f"{prefix}{entry.name}/", aside)
        elif not is_folder(entry):
            yield f"{prefix}{entry.name}", entry


def _look_at(
    folder: Path, paths: list[str], stamps: dict[str, tuple[int, int]], found: dict[str, _Known]
) -> Iterator[int]:
    """Hash files and read their headers, several at a time; yields how many were done."""

    def look(path: str) -> _Known:
        return _Known(*stamps[path], *identify(folder / path))

    with ThreadPoolExecutor(workers()) as pool:
        for start in range(0, len(paths), BLOCK):
            block = paths[start : start + BLOCK]
            for path, entry in zip(block, pool.map(look, block)):
                found[path] = entry
                yield 1


def identify(path: Path) -> tuple[str, int, int, str | None]:
    """SHA-256, width and height of an image file, and what is wrong with it."""
    try:
        content = path.read_bytes()
    except OSError:
        return "", 0, 0, NO_ACCESS
    sha256 = hashlib.sha256(content).hexdigest()
    if content[4:8] == b"ftyp" and content[8:12] in HEIC_BRANDS:
        return sha256, 0, 0, HEIC
    try:
        with Image.open(io.BytesIO(content)) as image:
            return sha256, *image.size, None
    except Image.DecompressionBombError:
        return sha256, 0, 0, TOO_LARGE
    except Exception:  # PIL raises whatever it trips over
        return sha256, 0, 0, NO_IMAGE


def _load(path: Path) -> dict[str, list]:
    """What was known; nothing where the file is missing or damaged, as everything can be found out again."""
    try:
        found = json.loads(path.read_bytes())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _save(path: Path, found: dict[str, _Known]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = {name: [*vars(entry).values()] for name, entry in found.items() if entry.problem != NO_ACCESS}
    write_atomically(path, json.dumps(entries))
