"""Look at every image file of a folder once: is it whole, how large is it, what are its pixels?

What was seen is remembered until a file is written to, replaced or renamed, so that a second look decodes only what is
new.
"""

import hashlib
import os
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from al.errors import NoRoom, UserError
from data_prep.progress import Progress, show_progress
from data_prep.sources.decoding import decode_image, workers

SIDE = 16
"""Of a thumbnail, in pixels."""
COMMIT = 500
"""Images looked at between two writes of the memory: what a cut costs at most."""
BY_THE_SYSTEM = "[Errno "
"""Begins the reason where a file could not be opened or read, which says nothing of what is in it."""
TABLE = """CREATE TABLE IF NOT EXISTS seen (
    path BLOB PRIMARY KEY, bytes INTEGER, changed INTEGER,
    content TEXT, width INTEGER, height INTEGER, thumbnail BLOB, reason TEXT)"""


@dataclass(frozen=True)
class Seen:
    """One decoded file, upright, or why it cannot be decoded."""

    content: str = ""
    """32 hex digits that follow from its size and pixels; empty for a broken file."""
    width: int = 0
    height: int = 0
    thumbnail: bytes = b""
    """u8[SIDE, SIDE, 3], the whole image squashed."""
    reason: str = ""
    """Why the file is broken; empty for a whole one."""


def look_at_files(
    root: Path, files: Sequence[str], progress: Progress = show_progress, memory: Path | None = None
) -> list[Seen]:
    """Decode the files below `root` in parallel; what each is, in their order.

    Args:
        memory: file that remembers what was seen; None: nothing is remembered.

    Raises:
        NoRoom: the disk has no room for the memory.
        UserError: the memory cannot be written.
    """
    if memory is None:
        seen: list[Seen] = []
        for _ in progress(_collected(_looked_at(root, files), seen), len(files), "looking at images"):
            pass
        return seen
    with _one_line_for(memory), closing(_open(memory)) as database:
        stamps = {file: _stamp(root / file) for file in files}
        known = _known(database, stamps)
        new = [file for file in files if file not in known]
        if new:
            found = _remembered(database, zip(new, _looked_at(root, new)), stamps, known)
            for _ in progress(found, len(new), "looking at images"):
                pass
        return [known[file] for file in files]


def thumbnails(seen: Sequence[Seen]) -> NDArray[np.uint8]:
    """u8[N, SIDE, SIDE, 3]; black for broken files."""
    black = bytes(SIDE * SIDE * 3)
    joined = b"".join(one.thumbnail or black for one in seen)
    return np.frombuffer(joined, np.uint8).reshape(len(seen), SIDE, SIDE, 3)


def _looked_at(root: Path, files: Sequence[str]) -> Iterator[Seen]:
    """Decode the files in parallel, in their order; only a few are in memory at a time."""
    pool = ThreadPoolExecutor(workers())
    waiting: deque[Future[Seen]] = deque()
    try:
        for file in files:
            waiting.append(pool.submit(_look_at, root / file))
            if len(waiting) > 4 * workers():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _look_at(file: Path) -> Seen:
    try:
        picture = decode_image(file, None)  # [H, W, 3]
    except UserError as error:
        return Seen(reason=str(error).partition("not a whole image (")[2].rpartition(")")[0])
    content = hashlib.blake2b(repr(picture.shape).encode(), digest_size=16)
    content.update(picture.tobytes())
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2)
    height, width = picture.shape[:2]
    return Seen(content.hexdigest(), width, height, small.tobytes())


def _collected(looked_at: Iterable[Seen], seen: list[Seen]) -> Iterator[int]:
    for one in looked_at:
        seen.append(one)
        yield 1


# The memory


def _open(memory: Path) -> sqlite3.Connection:
    """The memory, empty where the file is none: it holds nothing that cannot be seen again."""
    memory.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _connected(memory)
    except sqlite3.OperationalError:  # locked, or on a full disk: the file is no worse for it
        raise
    except sqlite3.DatabaseError:
        memory.unlink()
        return _connected(memory)


@contextmanager
def _one_line_for(memory: Path) -> Iterator[None]:
    """Turn what SQLite says of a file that it cannot write into one line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise NoRoom(memory) from None
        raise UserError(
            f"{memory}: cannot be written ({error}); wait for the other process that uses it, or name another folder"
        ) from None


def _connected(memory: Path) -> sqlite3.Connection:
    database = sqlite3.connect(memory, timeout=60)
    try:
        database.execute(TABLE)
        database.execute("SELECT count(*) FROM seen")
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _stamp(file: Path) -> tuple[int, int]:
    """Size and time of change, also of its name or permissions; of a link to nowhere what no file has."""
    try:
        status = file.stat()
    except OSError:
        return -1, 0
    return status.st_size, status.st_ctime_ns


def _known(database: sqlite3.Connection, stamps: Mapping[str, tuple[int, int]]) -> dict[str, Seen]:
    """What is remembered of the files that are as they were; what the system kept from being read is tried again."""
    found = {}
    for path, size, changed, *rest in database.execute("SELECT * FROM seen"):
        file, seen = os.fsdecode(path), Seen(*rest)
        if stamps.get(file) == (size, changed) and not seen.reason.startswith(BY_THE_SYSTEM):
            found[file] = seen
    return found


def _remembered(
    database: sqlite3.Connection,
    looked_at: Iterable[tuple[str, Seen]],
    stamps: Mapping[str, tuple[int, int]],
    known: dict[str, Seen],
) -> Iterator[int]:
    """Add what is seen to `known` and to the memory, a few hundred images at a time."""
    for number, (file, seen) in enumerate(looked_at, start=1):
        known[file] = seen
        row = (os.fsencode(file), *stamps[file], seen.content, seen.width, seen.height, seen.thumbnail, seen.reason)
        database.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        if number % COMMIT == 0:
            database.commit()
        yield 1
    database.commit()
