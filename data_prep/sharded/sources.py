"""Where the images are: a folder in any nesting, or tar files as WebDataset has them."""

import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Protocol

from al.errors import UserError, first_line
from data_prep.sources.decoding import EXTENSIONS
from data_prep.sources.imagefolder import is_folder, visible

Read = Callable[[], bytes]
"""The content of an image's file."""
EXTRA = "pip install 'active-learning-swept[webdataset]'"
META = re.compile(r"__[^/]*__($|/)")
"""Members of a tar file that WebDataset passes over."""


class Source(Protocol):
    """Images in a fixed order."""

    tars: tuple[str, ...]
    """The tar files that they lie in; none where they are files."""

    def groups(self) -> Iterator[tuple[str, Iterable[str]]]:
        """The names of all images, tar file by tar file; a folder is one group without a name."""

    def contents(self, tar: str, first: int, names: Sequence[str]) -> Iterator[Read]:
        """What reads each of these images, which are those from number `first` on of a tar file.

        Raises:
            UserError: the tar file holds others.
        """

    def lacks(self, names: Iterable[str]) -> str | None:
        """The first of `names` that is no file any more; of tar files that is not asked."""


def source_of(data: str) -> Source:
    """The images that `--data` names.

    Raises:
        UserError: there are none.
    """
    if data.endswith(".tar"):
        return TarFiles.of(data)
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise UserError(f"--data={data}: no such folder; name one with images, or tar files, 'shards-{{000..099}}.tar'")
    return Folder(folder)


@dataclass(frozen=True)
class Folder:
    """Image files in any nesting, in the order of their paths, part by part."""

    path: Path
    tars = ()

    def groups(self) -> Iterator[tuple[str, Iterable[str]]]:
        yield "", _below(self.path, "", ())

    def contents(self, tar: str, first: int, names: Sequence[str]) -> Iterator[Read]:
        yield from (partial(Path.read_bytes, self.path / name) for name in names)

    def lacks(self, names: Iterable[str]) -> str | None:
        return next((name for name in names if not (self.path / name).is_file()), None)


def _below(folder: Path, prefix: str, left: tuple[Path, ...]) -> Iterator[str]:
    """Names of the images below a folder. Only names are asked for, as to ask about each file would take hours.

    Args:
        left: folders that links were followed from on the way here; a link back to one of them leads in a circle.
    """
    for entry in sorted(visible(folder), key=lambda entry: entry.name):
        if is_folder(entry):
            path, here = Path(entry.path), left
            if entry.is_symlink():
                here, target = (*left, folder.resolve()), path.resolve()
                if any(place.is_relative_to(target) for place in here):
                    continue
            yield from _below(path, f"{prefix}{entry.name}/", here)
        elif entry.name.lower().endswith(EXTENSIONS):
            yield prefix + entry.name


@dataclass(frozen=True)
class TarFiles:
    """WebDataset's shards: of each sample the first member that is an image, in the order of the file."""

    folder: Path
    """What their names begin at."""
    tars: tuple[str, ...]

    @classmethod
    def of(cls, pattern: str) -> "TarFiles":
        """The files of a pattern such as `shards-{000..099}.tar`.

        Raises:
            UserError: WebDataset is not installed, or one of the files is not there.
        """
        _library()
        from braceexpand import UnbalancedBracesError, braceexpand

        try:
            paths = [Path(path).expanduser().absolute() for path in braceexpand(pattern)]
        except UnbalancedBracesError:
            raise UserError(f"--data={pattern}: braces that do not close; write 'shards-{{000..099}}.tar'") from None
        for path in paths:
            if not path.is_file():
                raise UserError(f"--data={pattern}: {path} is not there; name tar files that are, or a folder")
        if len(set(paths)) < len(paths):
            raise UserError(f"--data={pattern}: names a file twice; name each once")
        folder = Path(os.path.commonpath([path.parent for path in paths]))
        return cls(folder, tuple(str(path.relative_to(folder)) for path in paths))

    def groups(self) -> Iterator[tuple[str, Iterable[str]]]:
        for tar in self.tars:
            yield tar, (f"{tar}/{member}" for member, _ in self._samples(tar, self._headers(tar)))

    def contents(self, tar: str, first: int, names: Sequence[str]) -> Iterator[Read]:
        found = islice(self._samples(tar, self._members(tar)), first, first + len(names))
        for name in names:
            member, content = next(found, ("fewer of them", b""))
            if name != f"{tar}/{member}":
                raise self._other(tar, member)
            yield partial(bytes, content)

    def lacks(self, names: Iterable[str]) -> str | None:
        return None

    def _headers(self, tar: str) -> Iterator[tuple[str, bytes]]:
        """Names of the members, without their contents."""
        with tarfile.open(self.folder / tar) as opened:
            for member in opened:
                if member.isreg() and not META.match(member.name):
                    yield member.name, b""

    def _members(self, tar: str) -> Iterator[tuple[str, bytes]]:
        """Names and contents."""
        with (self.folder / tar).open("rb") as stream:
            for member in _library().tar_file_expander([{"url": tar, "stream": stream}], eof_value=None):
                yield member["fname"], member["data"]

    def _samples(self, tar: str, members: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        """Name and content of the image of each sample, as WebDataset groups members.

        Raises:
            UserError: no tar file, or one that is damaged.
        """
        grouped = ({"fname": name, "data": (name, content), "__url__": tar} for name, content in members)
        try:
            for sample in _library().group_by_keys(grouped):
                image = next((found for end, found in sample.items() if f".{end}" in EXTENSIONS), None)
                if image is not None:
                    yield image
        except (OSError, tarfile.TarError, ValueError) as error:
            raise UserError(
                f"{self.folder / tar}: cannot be read ({first_line(error)}); put a whole one there"
            ) from None

    def _other(self, tar: str, found: str) -> UserError:
        return UserError(
            f"{self.folder / tar}: holds other images than it did when they were listed ({found}); put the file back, "
            "or name another --out"
        )


def _library() -> ModuleType:
    try:
        from webdataset import tariterators
    except ImportError:
        raise UserError(f"--data: tar files are read by WebDataset, which is not here; {EXTRA}") from None
    return tariterators
