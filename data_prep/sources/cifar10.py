"""CIFAR-10 (Krizhevsky 2009), downloaded where it is not there.

Archive, folder and checksums are those of torchvision.datasets.CIFAR10, so either finds the other's files. The
download is our own because torchvision's has no time limit, leaves half an archive when it is cut, and goes on
without https where that fails. A run on files that are there needs neither torchvision nor a network.
"""

import hashlib
import io
import pickle
import tarfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np

from al.data import DataSet, ImageSet, content_fingerprint
from al.errors import UserError
from data_prep.locks import exclusive
from data_prep.progress import Progress, show_progress

FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
CHUNK = 1 << 20


@dataclass(frozen=True)
class Source:
    """The address of the archive, and the MD5 of it and of the batches in it."""

    url: str = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
    archive: str = "c58f30108f718f92721af3b95e74349a"
    train: tuple[tuple[str, str], ...] = (
        ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
    )
    test: tuple[tuple[str, str], ...] = (("test_batch", "40351d587109b95175f43aff81a1287e"),)
    timeout: float = 6.0
    """Seconds without an answer after which a download is given up."""


PUBLISHED = Source()


def load_cifar10(data_dir: Path, source: Source = PUBLISHED, progress: Progress = show_progress) -> DataSet:
    """Load the 50,000 training and 10,000 test images, downloading them into `data_dir` where they are not there.

    Raises:
        UserError: the files are not there and cannot be downloaded; says which to put where.
    """
    sets = _read_all(data_dir, source)
    if sets is None:
        sets = _fetch(data_dir, source, progress)
    return DataSet("cifar10", *sets, content_fingerprint(sets))


def _read_all(data_dir: Path, source: Source) -> tuple[ImageSet, ImageSet] | None:
    """The train and the test set, or None unless every batch is there and has its checksum."""
    train = _read_split(data_dir / FOLDER, "train", source.train)
    test = _read_split(data_dir / FOLDER, "test", source.test) if train else None
    return (train, test) if train and test else None


def _read_split(folder: Path, split: str, batches: tuple[tuple[str, str], ...]) -> ImageSet | None:
    """The images of some batches, one below the other; None unless each is there and has its checksum."""
    images, labels = [], []
    for name, md5 in batches:
        content = _read_checked(folder / name, md5)
        if content is None:
            return None
        batch = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        planes = batch["data"].reshape(-1, 3, SIDE, SIDE)
        images.append(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)))
        labels += batch["labels"]
    return ImageSet(np.concatenate(images), np.array(labels, dtype=np.int64), CLASSES, split=split)


def _read_checked(path: Path, md5: str) -> bytes | None:
    """The content of a file, or None unless it is there and has its checksum."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    return content if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5 else None


def _dtype(name: str, align: int, copy: int) -> np.dtype:
    """Make a dtype from the integers of an old NumPy's file, where the constructor wants booleans."""
    return np.dtype(name, bool(align), bool(copy))


ADMITTED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
}


class _Unpickler(pickle.Unpickler):
    """Admits NumPy arrays, numbers, text, lists and dicts, and nothing that could run code."""

    def find_class(self, module: str, name: str):
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a CIFAR-10 batch")
        return ADMITTED[module, name]


def _fetch(data_dir: Path, source: Source, progress: Progress) -> tuple[ImageSet, ImageSet]:
    """Unpack the archive in `data_dir`, after downloading it where needed, and read the sets."""
    archive = data_dir / ARCHIVE
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with exclusive(data_dir / ".cifar10.lock", "downloading CIFAR-10"):
            sets = _read_all(data_dir, source)  # another process may have fetched them meanwhile
            if sets is None:
                if not archive.is_file() or _md5(archive) != source.archive:
                    _download(source, archive, progress)
                _unpack(archive, data_dir, {name for name, _ in source.train + source.test})
                sets = _read_all(data_dir, source)
            if sets is None:
                raise OSError("the archive lacks some of its batches")
            return sets
    except (OSError, HTTPException, EOFError, tarfile.TarError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise UserError(
            f"data_dir={str(data_dir)!r}: CIFAR-10 is not there whole and could not be downloaded ({reason}); "
            f"put {ARCHIVE} (MD5 {source.archive}, from {source.url}) at {archive}, "
            f"or its unpacked folder at {data_dir / FOLDER}, or use --dataset=digits, which needs no files"
        ) from error


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(source: Source, archive: Path, progress: Progress) -> None:
    """Download `archive`; it gets its name only once it is whole and has its checksum."""
    partial = archive.with_name(f"{archive.name}.part")
    try:
        with urllib.request.urlopen(source.url, timeout=source.timeout) as answer, partial.open("wb") as file:
            total = int(answer.headers.get("Content-Length") or 1)
            for _ in progress(_copied(answer, file), total, "downloading CIFAR-10 (bytes)"):
                pass
        if _md5(partial) != source.archive:
            raise OSError("what came has another checksum")
        partial.replace(archive)
    finally:
        partial.unlink(missing_ok=True)


def _copied(answer, file) -> Iterator[int]:
    while chunk := answer.read(CHUNK):
        file.write(chunk)
        yield len(chunk)


def _unpack(archive: Path, data_dir: Path, names: set[str]) -> None:
    """Unpack the batches `names`, each written atomically, and nothing else that the archive holds."""
    (data_dir / FOLDER).mkdir(exist_ok=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member) if Path(member.name).name in names else None
            if content is not None:
                target = data_dir / FOLDER / Path(member.name).name
                partial = target.with_suffix(".part")
                partial.write_bytes(content.read())
                partial.replace(target)
