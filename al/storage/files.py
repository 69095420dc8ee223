"""Files that a kill leaves whole: written atomically, or line by line."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from al.errors import NoRoom
from al.records import Record

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

TORCH_WRITER = ("PytorchStreamWriter", "inline_container")
"""What errors of `torch.save` name."""

Kind = TypeVar("Kind", bound=Record)


@contextmanager
def writing(path: Path, size: int = 0) -> Iterator[None]:
    """Turn what a full disk raises while `path` is written into one line with what is needed.

    Args:
        size: bytes to be written; 0 where that is not known.
    """
    try:
        yield
    except NoRoom:
        raise
    except (OSError, RuntimeError) as error:
        # torch says of a short write that it failed, and not why
        full = getattr(error, "errno", None) in FULL or any(name in str(error) for name in TORCH_WRITER)
        if not full:
            raise
        raise NoRoom(path, size) from None


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replace a file: it holds the old contents or all of the new, whenever the process dies.

    Raises:
        NoRoom: the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    content = data.encode() if isinstance(data, str) else data
    with writing(path, len(content)):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping | Sequence) -> None:
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing; for the process that has the folder to itself."""
    for leftover in folder.glob(".*.*[0-9]"):
        leftover.unlink(missing_ok=True)


class RecordLines(Generic[Kind]):
    """An append-only file of one record a line, as JSON, each on disk before the next begins."""

    def __init__(self, path: Path, kind: type[Kind]):
        self.path, self.kind = path, kind

    def append(self, record: Kind) -> None:
        self.append_all([record])

    def append_all(self, records: Sequence[Kind]) -> None:
        """Add several lines with one wait for the disk; a kill leaves the first so many of them."""
        lines = "".join(map(_line, records))
        with writing(self.path, len(lines)), self.path.open("a") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Kind]:
        """All whole lines; what a killed process left of its last one is passed over.

        Raises:
            ValueError: a line is no record of this kind.
        """
        return [self.kind.model_validate_json(line) for line in self._lines()]

    def keep(self, count: int) -> list[Kind]:
        """Cut the file to its first `count` lines, which stay as they are, and return their records."""
        write_atomically(self.path, b"".join(self._lines()[:count]))
        return self.read()

    def drop_torn_line(self) -> None:
        """Remove what a killed process left of its last line, which the next one would be added to."""
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            write_atomically(self.path, b"".join(self._lines()))

    def digest(self, count: int) -> str | None:
        """SHA-256 of the first `count` lines; None where there are not so many."""
        lines = self._lines()
        return hashlib.sha256(b"".join(lines[:count])).hexdigest() if len(lines) >= count else None

    def _lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        return [line + b"\n" for line in self.path.read_bytes().split(b"\n")[:-1]]


def _line(record: Record) -> str:
    return json.dumps(record.written(), allow_nan=False) + "\n"
