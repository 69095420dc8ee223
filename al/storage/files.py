"""Files that a kill leaves whole: written atomically, or line by line."""

import json
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]


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


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed process was writing; for the process that has the folder to itself."""
    for leftover in folder.glob(".*.*[0-9]"):
        leftover.unlink(missing_ok=True)


class JsonLines:
    """An append-only file of one JSON object a line, each on disk before the next begins."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, row: Row) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[Row]:
        """All whole lines; what a killed process left of its last one is passed over."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def keep(self, count: int) -> list[Row]:
        """Cuts the file to its first `count` rows and returns them."""
        rows = self.rows()[:count]
        write_atomically(self.path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
        return rows
