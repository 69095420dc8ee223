"""Checksums of cached arrays, so that a damaged file is noticed before anything is learnt from it."""

import json
import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from al.errors import UserError
from al.storage.files import write_atomically

BLOCK = 4 << 20
THREADS = 8

Info = dict[str, object]
"""What a folder of arrays is about, as in its JSON file."""


class Damaged(Exception):
    """A cached file is missing, cannot be read, or is not what was written; the text says which and why."""


def checksum(path: Path) -> str:
    """16 hex digits that follow from the content; of an unchanged file it is computed once a process."""
    status = path.stat()
    return _checksum(path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=256)
def _checksum(path: Path, size: int, changed: int, inode: int) -> str:
    """CRC-32 over the CRC-32 of each block: it finds what a disk spoils, and keeps no attacker out.

    It is quick, needs no package, and runs in threads, as zlib works without Python's lock.
    """
    with path.open("rb") as file, ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        starts = range(0, size, BLOCK)
        crcs = pool.map(lambda start: zlib.crc32(os.pread(file.fileno(), BLOCK, start)), starts)
        together = b"".join(crc.to_bytes(4, "big") for crc in crcs)
    return f"{zlib.crc32(together):08x}{size & 0xFFFFFFFF:08x}"


def write_info(path: Path, info: Mapping[str, object]) -> None:
    """Write `info` as JSON, with the checksums of the arrays beside it and one of its own."""
    content = {**info, "checksums": {file.name: checksum(file) for file in sorted(path.parent.glob("*.npy"))}}
    write_atomically(path, json.dumps(content | {"checksum": _own_checksum(content)}, indent=1))


def read_info(path: Path) -> Info:
    """What `write_info` wrote, once it and the arrays beside it have been found to be what was written then.

    Of a folder from before there were checksums nothing is checked, and the result has no `checksums`.

    Raises:
        Damaged: something is missing or was changed.
    """
    try:
        info = json.loads(path.read_bytes())
        expected = info.pop("checksum", None)
    except OSError as error:
        raise Damaged(f"{path.name}: {error.strerror}") from None
    except (ValueError, AttributeError, TypeError):
        raise Damaged(f"{path.name}: not what was written") from None
    if expected is None and "checksums" not in info:
        return info
    if expected != _own_checksum(info):
        raise Damaged(f"{path.name}: another checksum")
    for name, known in info["checksums"].items():
        try:
            found = checksum(path.with_name(name))
        except OSError as error:
            raise Damaged(f"{name}: {error.strerror}") from None
        if found != known:
            raise Damaged(f"{name}: another checksum")
    return info


def _own_checksum(info: Mapping[str, object]) -> str:
    return f"{zlib.crc32(json.dumps(info, sort_keys=True).encode()):08x}"


def no_room(place: Path, what: str, error: OSError, needed: int | None, remedy: str) -> UserError:
    """One line for a cache that cannot be written: where, why, and how much room it takes."""
    room = "" if needed is None else f"; all of them take {size(needed)}"
    return UserError(f"{place}: {what} cannot be written there ({error.strerror or error}){room}; {remedy}")


def size(count: int) -> str:
    """A number of bytes, to be read by people."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{max(count / 2**20, 0.1):.1f} MiB"
