"""One process's part of the work: take the next shard that nobody has, encode its images, write its rows."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError
from data_prep.sharded.pictures import Picture, batches, pictures
from data_prep.sharded.records import Shard
from data_prep.sharded.sources import Source
from data_prep.sharded.store import Store

BATCH = 256
"""Images encoded at once, counted from the beginning of a shard: whoever makes it computes the same."""
POLL = 0.5
"""Seconds between two looks whether shards that others have are done, or free again as their process has died."""
TALLY_SECONDS = 10.0
"""Between two looks at what others have done."""
FIRST = 64
"""Images in which one is looked for that tells the size of all."""
SHOWN = 20
"""Broken images that are named."""

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Images u8[n, H, W, 3] -> unit vectors f32[n, D]."""


@dataclass
class Worker:
    """Any number of them, on any number of machines, end up with all shards."""

    store: Store
    source: Source
    encode: Encode
    skip_broken: bool = False
    """Rows of images that cannot be read are zeros; otherwise their shard is left, and said at the end."""
    broken: dict[int, list[Picture]] = field(default_factory=dict)
    """By shard, the images that keep it from being done."""
    like: Picture | None = None
    """An image whose size all have: the first of all that can be read."""

    def run(self) -> Iterator[int]:
        """Work until every shard is done; yields rows done, by whomever, since the last time.

        Raises:
            UserError: images cannot be read or the model does not take them; or there is no room.
        """
        tally = _Tally(self.store)
        while not self.store.complete:
            made = False
            for number in self._open_shards():
                for rows in self.make_if_free(number):
                    yield tally.since(rows)
                    made = True
                tally.shard_is_over()
            if not self._open_shards():
                self._complain()
                self.store.close(self.source)
            elif not made:
                time.sleep(POLL)
            yield tally.since(0)

    def make_if_free(self, number: int) -> Iterator[int]:
        """Make a shard unless it is done or another process has it; yields how many of its images are through."""
        with self.store.writing(), self.store.claim(number) as mine:
            if mine and self.store.done(number) is None:
                yield from self._make(number)

    def _make(self, number: int) -> Iterator[int]:
        shard = self.store.manifest.shards[number]
        broken: list[Picture] = []
        with self.store.writing_shard(number) as rows:
            for batch in batches(self._pictures(shard), BATCH):
                broken += [picture for picture in batch if picture.pixels is None]
                rows.add(self._vectors(batch), [picture.content for picture in batch])
                yield len(batch)
            if broken and not self.skip_broken:
                self.broken[number] = broken
            else:
                rows.finish()

    def _open_shards(self) -> list[int]:
        """Shards that are not done, but for those that this process cannot do."""
        return [number for number in self.store.pending() if number not in self.broken]

    def _pictures(self, shard: Shard) -> Iterator[Picture]:
        names = self.store.names(shard)
        contents = self.source.contents(shard.tar, shard.first, names)
        return pictures(zip(names, contents), self.store.manifest.recipe.image_size)

    def _vectors(self, batch: list[Picture]) -> NDArray[np.float32]:
        """[n, D] of a batch; zeros for what could not be read."""
        whole = np.array([picture.pixels is not None for picture in batch])
        vectors = np.zeros((len(batch), self.store.manifest.dimensions), np.float32)
        if whole.any():
            vectors[whole] = self.encode(self._stacked(batch))[whole]
        if not np.isfinite(vectors).all():
            raise UserError(
                f"--features: the model makes NaN or infinite vectors of some of the images {batch[0].name} to "
                f"{batch[-1].name}; use another model"
            )
        return vectors

    def _stacked(self, batch: list[Picture]) -> NDArray[np.uint8]:
        """The pixels [n, S, S, 3], black where an image could not be read: the others' vectors are the same then.

        Raises:
            UserError: an image is of another size than the first one.
        """
        whole = [picture for picture in batch if picture.pixels is not None]
        self.like = self.like or self._first() or whole[0]
        for picture in whole:
            if picture.pixels.shape != self.like.pixels.shape:
                sides = len(self.like.pixels), len(picture.pixels)
                raise UserError(
                    f"{self.like.name} is {sides[0]} pixels high or wide and {picture.name} {sides[1]}: all must be of "
                    f"one size; use for example --image-size={min(sides)}"
                )
        black = np.zeros_like(self.like.pixels)
        return np.stack([black if picture.pixels is None else picture.pixels for picture in batch])

    def _first(self) -> Picture | None:
        """The first image of all that can be read, so that every process, whatever its shards, compares with the same.

        None where none of the first `FIRST` can.
        """
        shard = self.store.manifest.shards[0]
        some = self._pictures(shard.model_copy(update={"stop": min(shard.start + FIRST, shard.stop)}))
        return next((picture for picture in some if picture.pixels is not None), None)

    def _complain(self) -> None:
        """Say which images keep shards from being done, and end.

        Raises:
            UserError: there are some.
        """
        found = [picture for number in sorted(self.broken) for picture in self.broken[number]]
        if not found:
            return
        for picture in found[:SHOWN]:
            print(f"{picture.name}: {picture.problem}", file=sys.stderr)
        raise UserError(
            f"{len(found):,} images cannot be read, {found[0].name} first, and all else is done; put whole ones in "
            "their place and give the same command again, or have zeros for them with --skip-broken"
        )


class _Tally:
    """Rows that are done, by this process and, looked at now and then, by others."""

    def __init__(self, store: Store):
        self.store, self.told, self.here = store, 0, 0
        self.look()

    def look(self) -> None:
        self.done, self.looked = self.store.rows_done(), time.monotonic()

    def since(self, rows: int) -> int:
        """Rows done since the last call; `rows` of them in the shard that this process is at."""
        self.here += rows
        if time.monotonic() - self.looked > TALLY_SECONDS:
            self.look()
        more = max(0, self.done + self.here - self.told)
        self.told += more
        return more

    def shard_is_over(self) -> None:
        if self.here:
            self.here = 0
            self.look()
