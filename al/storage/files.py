"""Files that a kill leaves whole: written atomically, or line by line."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from al.records import Record

Kind = TypeVar("Kind", bound=Record)


def write_atomically(path: Path, data: bytes | str) -> None:
    """The file holds the old contents or all of the new, whenever the process dies."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
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
        with self.path.open("a") as file:
            file.write(_line(record))
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Kind]:
        """All whole lines; what a killed process left of its last one is passed over.

        Raises:
            ValueError: a line is no record of this kind.
        """
        if not self.path.exists():
            return []
        return [self.kind.model_validate_json(line) for line in self.path.read_text().split("\n")[:-1]]

    def keep(self, count: int) -> list[Kind]:
        """Cut the file to its first `count` records and return them."""
        records = self.read()[:count]
        write_atomically(self.path, "".join(map(_line, records)))
        return records


def _line(record: Record) -> str:
    return json.dumps(record.written(), allow_nan=False) + "\n"
