"""A file that says which images of a folder are for training and which for testing: `path,split,content`, a line each.

With it a folder of classes without a test set, `<class>/*`, is used as it lies. What it does not name is not used.
"""

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath

from al.errors import UserError

SPLITS = ("train", "test")
COLUMNS = ("path", "split", "content")


@dataclass(frozen=True)
class Placed:
    """An image and the side that it is on."""

    path: str
    """Within the data folder: `<class>/<file>`, or `<split>/<class>/<file>`."""
    split: str
    """`train` or `test`."""
    content: str = ""
    """Digest of its pixels, by which it is known under another name; empty where nobody took one."""

    @property
    def class_name(self) -> str:
        """The folder that the image lies in."""
        return PurePosixPath(self.path).parent.name


def encode_split_file(images: Iterable[Placed]) -> bytes:
    """The file's content, by path. Names that are not UTF-8 keep their bytes."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows(astuple(image) for image in sorted(images, key=lambda image: image.path))
    return text.getvalue().encode(errors="surrogateescape")


def read_split_file(path: Path) -> list[Placed]:
    """The images that a split file names, in its order.

    Raises:
        UserError: it cannot be read, or a line is no image on one side, or names one twice.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")  # spreadsheets begin with a mark
    except OSError as error:
        raise UserError(
            f"split_file={str(path)!r}: cannot be read ({error.strerror}); name a file with the columns "
            f"{', '.join(COLUMNS)}, or leave it out"
        ) from None
    lines = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next(lines, [])
        if header[:2] != list(COLUMNS[:2]):
            begun = _shown(",".join(header)[:80])
            raise UserError(f"{path}: begins with {begun!r}; a split file begins with {','.join(COLUMNS)}, in UTF-8")
        images = [_placed(path, lines.line_num, line) for line in lines if line]
    except csv.Error as error:
        raise UserError(
            f"{path}: line {lines.line_num}: not CSV ({error}); is a quotation mark there without its other one?"
        ) from None
    seen: set[PurePosixPath] = set()
    for image in images:
        if (where := PurePosixPath(image.path)) in seen:  # a/1.png and ./a/1.png are one file
            raise UserError(f"{path}: {_shown(image.path)} is named twice; name each image once")
        seen.add(where)
    return images


def _placed(file: Path, number: int, line: list[str]) -> Placed:
    path, split, content = [*line, "", ""][:3]
    parts = PurePosixPath(path).parts
    if len(parts) < 2 or ".." in parts or "\0" in path or PurePosixPath(path).is_absolute():
        raise UserError(f"{file}: line {number}: path={_shown(path)!r}; write it from the data folder on, CLASS/FILE")
    if split not in SPLITS:
        raise UserError(f"{file}: line {number}: split={split!r}; use train or test")
    return Placed(path, split, content)


def _shown(path: str) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")
