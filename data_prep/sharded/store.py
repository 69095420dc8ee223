"""The folder of sharded embeddings: one array that many processes write shards of, and what is known of each shard.

`embeddings.npy` [N, D] and `contents.npy` [N, 32], the SHA-256 of each image's file, have their full length from the
beginning, and a shard is a range of their rows: nothing is copied to join them. `images.txt` names the image of each
row. A shard counts once `shards/NNNNNN.json` is there, which is written when its rows are on disk; what a process
that is killed before has written does not count, and is written again. `complete.json` comes last of all.
"""

import errno
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from al.errors import UserError
from al.identity import SEAL
from al.storage.files import write_atomically
from al.storage.locks import claimed
from data_prep.checksums import THREADS, no_room
from data_prep.locks import exclusive
from data_prep.sharded.records import Done, Manifest, Recipe, Seal, Shard
from data_prep.sharded.row_file import RowFile

if TYPE_CHECKING:
    from data_prep.sharded.sources import Source

MANIFEST = "manifest.json"
IMAGES = "images.txt"
SHARDS = "shards"
LOCK = ".lock"
DIGEST_BYTES = 32
WHAT = "the embeddings"
REMEDY = "make room there and give the same command again to go on; what is done is kept"
LARGE = 2**30
"""Bytes that take a while to read."""
SAMPLE = 16
"""Images that are looked for to see that a folder is the one that was listed."""

Written = TypeVar("Written", bound=BaseModel)


class Store:
    """A folder that holds sharded embeddings, or is to hold them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._done: dict[int, Done] = {}

    @property
    def begun(self) -> bool:
        """Whether the images are listed and the arrays laid out."""
        return (self.folder / MANIFEST).is_file()

    @property
    def complete(self) -> bool:
        return (self.folder / SEAL).is_file()

    @cached_property
    def manifest(self) -> Manifest:
        """What the rows are of.

        Raises:
            UserError: it cannot be read.
        """
        return self._read(MANIFEST, Manifest)

    @cached_property
    def manifest_digest(self) -> str:
        return hashlib.sha256((self.folder / MANIFEST).read_bytes()).hexdigest()

    def seal(self) -> Seal:
        """What was found when all shards were done.

        Raises:
            UserError: it cannot be read, or is of another manifest.
        """
        seal = self._read(SEAL, Seal)
        if seal.manifest != self.manifest_digest:
            raise UserError(f"{self.folder}: {SEAL} is not of this {MANIFEST}; remove the folder and make it anew")
        return seal

    @property
    def vectors(self) -> RowFile:
        return _files(self.folder, self.manifest)[0]

    @property
    def contents(self) -> RowFile:
        return _files(self.folder, self.manifest)[1]

    # Beginning

    def begin(self, recipe: Recipe, dimensions: int, source: "Source") -> None:
        """List the images and lay out the arrays, unless that is done; then check that it was done for the same.

        Raises:
            UserError: other images, another model or another size than before; no images; or no room.
        """
        with self.writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            with exclusive(self.folder / LOCK, "listing the images"):
                if not self.begun:
                    self._lay_out(recipe, dimensions, source)
        self.check(recipe, source)

    def check(self, recipe: Recipe, source: "Source") -> None:
        """Refuse to go on with what was begun otherwise.

        Raises:
            UserError: names the first thing that differs.
        """
        same = f"give the same as before, or name another --out than {self.folder}"
        before = self.manifest.recipe
        for name in Recipe.model_fields:
            was, now = getattr(before, name), getattr(recipe, name)
            if was != now and not (name == "revision" and None in (was, now)):
                raise UserError(f"{name}={now}: these embeddings were begun with {name}={was}; {same}")
        if self.manifest.tars != source.tars:
            raise UserError(
                f"--data: {len(source.tars)} tar files, and these embeddings were begun with {len(self.manifest.tars)} "
                f"or with other ones; {same}"
            )
        shards = self.manifest.shards
        missing = source.lacks(name for shard in shards[:: -(-len(shards) // SAMPLE)] for name in self.names(shard, 1))
        if missing is not None:
            raise UserError(f"--data: has no {missing}, which these embeddings were begun with; {same}")

    def _lay_out(self, recipe: Recipe, dimensions: int, source: "Source") -> None:
        (self.folder / SHARDS).mkdir(exist_ok=True)
        shards, digest = self._list(source, recipe.shard_size)
        if not shards:
            raise UserError("--data: no images there (.jpg, .png, .webp, .bmp); name a folder or tar files with some")
        manifest = Manifest(
            recipe=recipe, images=shards[-1].stop, dimensions=dimensions, list_sha256=digest, tars=source.tars,
            shards=shards,
        )  # fmt: skip
        files = _files(self.folder, manifest)
        needed, status = sum(file.size for file in files), os.statvfs(self.folder)
        if status.f_bavail * status.f_frsize < needed:  # better now than after days
            raise no_room(self.folder, WHAT, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), needed, REMEDY)
        for file in files:
            file.create()
        write_atomically(self.folder / MANIFEST, manifest.model_dump_json())

    def _list(self, source: "Source", shard_size: int) -> tuple[tuple[Shard, ...], str]:
        """Write the name of each image, a line each; the shards, and the SHA-256 of the list."""
        starts, digest, row, offset = [], hashlib.sha256(), 0, 0
        with (self.folder / IMAGES).open("wb") as file:
            for tar, names in source.groups():
                first = row
                for name in names:
                    if (row - first) % shard_size == 0:
                        starts.append((row, offset, tar, row - first))
                    line = _line(name)
                    file.write(line)
                    digest.update(line)
                    row, offset = row + 1, offset + len(line)
            file.flush()
            os.fsync(file.fileno())
        stops = [start for start, *_ in starts[1:]] + [row]
        shards = (
            Shard(start=start, stop=stop, offset=offset, tar=tar, first=first)
            for (start, offset, tar, first), stop in zip(starts, stops)
        )
        return tuple(shards), digest.hexdigest()

    # Images

    def names(self, shard: Shard, count: int | None = None) -> list[str]:
        """The names of a shard's images, or of the first `count` of them."""
        count = shard.stop - shard.start if count is None else count
        with (self.folder / IMAGES).open("rb") as file:
            file.seek(shard.offset)
            return [os.fsdecode(file.readline().rstrip(b"\n")) for _ in range(count)]

    def all_names(self) -> Iterator[str]:
        """The names of all images, in the order of the rows.

        Raises:
            UserError: in the end, where the list is not what was written.
        """
        digest = hashlib.sha256()
        with (self.folder / IMAGES).open("rb") as file:
            for line in file:
                digest.update(line)
                yield os.fsdecode(line.rstrip(b"\n"))
        if digest.hexdigest() != self.manifest.list_sha256:
            raise UserError(f"{self.folder / IMAGES}: is not the list that was written; make the embeddings anew")

    # Shards

    def claim(self, number: int) -> AbstractContextManager[bool]:
        """Keep other processes from a shard, as long as this one lives; whether that went well."""
        return claimed(self.folder / SHARDS / f"{number:06}.lock")

    def pending(self) -> list[int]:
        """The shards that are not done, in order."""
        if self.complete:
            return []
        there = {entry.name for entry in os.scandir(self.folder / SHARDS)}
        return [
            number
            for number in range(len(self.manifest.shards))
            if number not in self._done and not (_marker(number) in there and self.done(number))
        ]

    def done(self, number: int) -> Done | None:
        """What is written down of a shard that is done; a damaged file is said, and counts as none."""
        if number in self._done:
            return self._done[number]
        path = self.folder / SHARDS / _marker(number)
        try:
            found = Done.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError):
            print(f"{path}: damaged; the shard is made again", file=sys.stderr, flush=True)
            return None
        if found.manifest != self.manifest_digest or found.shard != number:
            return None
        self._done[number] = found
        return found

    def rows_done(self) -> int:
        """Rows of all shards that are done, whoever made them."""
        shards = self.manifest.shards
        return self.manifest.images - sum(shards[number].stop - shards[number].start for number in self.pending())

    @contextmanager
    def writing_shard(self, number: int) -> Iterator["ShardRows"]:
        """Takes the rows of a shard, from its first one on.

        Raises:
            UserError: the folder cannot be written, as the disk is full.
        """
        with self.writing(), self.vectors.open() as vectors, self.contents.open() as contents:
            yield ShardRows(self, number, ((self.vectors, vectors), (self.contents, contents)))

    def checksum(self, shard: Shard) -> str:
        """Of a shard's rows as they are on disk: see `Done.checksum`."""
        return "".join(f"{file.checksum(shard.start, shard.stop):08x}" for file in (self.vectors, self.contents))

    def tell_changes(self, source: "Source") -> None:
        """Warn where a folder has other images by now than were listed; what a tar file holds is seen as it is read."""
        if source.tars:
            return
        now = (name for _, names in source.groups() for name in names)
        differing = (name or listed for name, listed in zip_longest(now, self.all_names()) if name != listed)
        if (first := next(differing, None)) is not None:
            print(
                f"warning: --data: holds other images than the {self.manifest.images:,} that were listed, from {first} "
                f"on; {self.folder} is of those that were listed",
                file=sys.stderr,
                flush=True,
            )

    def close(self, source: "Source") -> bool:
        """Read all shards once, and write down that they are complete; False where some are not."""
        with self.writing(), exclusive(self.folder / LOCK, "checking the shards"):
            if self.complete:
                return True
            self._done.clear()
            if self.pending() or self._undo_damaged():
                return False
            done = self._all_done()
            seal = Seal(
                manifest=self.manifest_digest,
                checksums=tuple(shard.checksum for shard in done),
                broken=tuple(row for shard in done for row in shard.broken),
            )
            self.tell_changes(source)
            write_atomically(self.folder / SEAL, seal.model_dump_json())
            return True

    def _undo_damaged(self) -> list[int]:
        """Have shards whose rows are not what was written made again, as after a power cut; their numbers."""
        if self.vectors.size > LARGE:
            print(f"{self.folder}: all shards are done; reading them once to check", file=sys.stderr, flush=True)
        damaged = self.damaged([shard.checksum for shard in self._all_done()])
        for number in damaged:
            print(f"{self.folder}: shard {number} is damaged; made again", file=sys.stderr, flush=True)
            (self.folder / SHARDS / _marker(number)).unlink()
            del self._done[number]
        return damaged

    def damaged(self, checksums: Sequence[str]) -> list[int]:
        """Numbers of the shards whose rows on disk have another checksum."""
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            found = pool.map(self.checksum, self.manifest.shards)
            return [number for number, (known, now) in enumerate(zip(checksums, found)) if known != now]

    def _all_done(self) -> list[Done]:
        return [self._done[number] for number in range(len(self.manifest.shards))]

    def _read(self, name: str, kind: type[Written]) -> Written:
        try:
            return kind.model_validate_json((self.folder / name).read_bytes())
        except (OSError, ValidationError) as error:
            reason = getattr(error, "strerror", None) or "not what was written"
            raise UserError(f"{self.folder / name}: {reason}; make the embeddings anew in another folder") from None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn what the system says while the folder is written into one line."""
        try:
            yield
        except OSError as error:
            needed = sum(file.size for file in _files(self.folder, self.manifest)) if self.begun else None
            raise no_room(self.folder, WHAT, error, needed, REMEDY) from None


class ShardRows:
    """Writes the rows of one shard to disk; none of them counts until `finish` says that all are there."""

    def __init__(self, store: Store, number: int, files: tuple[tuple[RowFile, BinaryIO], ...]):
        self.store, self.number, self.files = store, number, files
        self._row = store.manifest.shards[number].start
        self._checksums = [0 for _ in files]
        self._broken: list[int] = []

    def add(self, vectors: NDArray[np.float32], contents: Sequence[bytes]) -> None:
        """The next rows [n, D], and the SHA-256 of the images that they are of; b"" for one that is broken."""
        self._broken += [self._row + place for place, content in enumerate(contents) if not content]
        digests = np.frombuffer(b"".join(content or bytes(DIGEST_BYTES) for content in contents), np.uint8)
        for i, rows in enumerate((vectors, digests.reshape(-1, DIGEST_BYTES))):
            layout, file = self.files[i]
            self._checksums[i] = layout.write(file, self._row, rows, self._checksums[i])
        self._row += len(vectors)

    def finish(self) -> None:
        """Wait until the rows are on disk, and only then write down that the shard is done."""
        for _, file in self.files:
            os.fsync(file.fileno())
        checksum = "".join(f"{found:08x}" for found in self._checksums)
        done = Done(
            manifest=self.store.manifest_digest, shard=self.number, checksum=checksum, broken=tuple(self._broken)
        )
        write_atomically(self.store.folder / SHARDS / _marker(self.number), done.model_dump_json())


def _files(folder: Path, about: Manifest) -> tuple[RowFile, RowFile]:
    """The vectors, and the digests of the images' contents."""
    return (
        RowFile(folder / "embeddings.npy", about.recipe.dtype, (about.images, about.dimensions)),
        RowFile(folder / "contents.npy", "uint8", (about.images, DIGEST_BYTES)),
    )


def _marker(number: int) -> str:
    return f"{number:06}.json"


def _line(name: str) -> bytes:
    if "\n" in name:
        raise UserError(f"--data: the name {name!r} holds a line break; rename the file")
    return os.fsencode(name) + b"\n"
