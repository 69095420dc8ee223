"""Which images of a folder are for training and which for testing, drawn once and kept in a file.

Images that are the same, or nearly so, stay on one side: else a test image would have been trained on.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from al.storage.files import write_atomically
from data_prep.folder_report import Look
from data_prep.near_duplicates import groups_of
from data_prep.split_file import SPLITS, Placed, encode_split_file, read_split_file

SMALL = 5_000
"""Images below which a larger share is for testing, so that an accuracy on them says something."""
SHARE, SHARE_OF_SMALL = 0.2, 0.3
SEED = 0


@dataclass(frozen=True)
class LeftOut:
    """An image that is on neither side."""

    path: str
    reason: str


@dataclass(frozen=True)
class Placement:
    """Every image of a folder on its side, or left out."""

    images: tuple[Placed, ...]
    left_out: tuple[LeftOut, ...]
    drawn: bool
    """Whether the test set was drawn; else the folders say what is in it."""
    new: int = 0
    """Images that an earlier placement did not know, and that went to training or to the side of their duplicates."""
    gone: int = 0
    """Images of an earlier placement that are no longer there."""

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Images by class and split, classes sorted."""
        found = Counter((image.class_name, image.split) for image in self.images)
        classes = sorted({image.class_name for image in self.images})
        return {name: {split: found[name, split] for split in SPLITS} for name in classes}

    @property
    def as_it_lies(self) -> bool:
        """Whether the folders `train` and `test` say the same, so that no file is needed."""
        return not self.drawn and not self.left_out


def place(look: Look, before: Sequence[Placed] = (), seed: int = SEED) -> Placement:
    """Put each image on a side.

    Where there are folders `train` and `test` they decide, but for training images that are test images too: those are
    left out. Else a test set is drawn, stratified by class: 30 % of each class in a small folder, 20 % in a large one.
    Left out are broken images, and classes that have no image on one of the sides.

    Args:
        before: an earlier placement of this folder. What it knows, by content, keeps its side; what is new goes to
            training, but for whole new classes, of which test images are drawn.
        seed: of the drawing.
    """
    rows = [row for row, one in enumerate(look.seen) if not one.reason]
    broken = [
        LeftOut(file, f"cannot be read ({one.reason})")
        for file, one in zip(look.listing.files, look.seen)
        if one.reason
    ]
    given = set(look.listing.splits) == set(SPLITS)
    if given:
        sides, repeated = _as_given(look, rows)
    else:
        sides, repeated = _drawn(look, rows, before, seed), {}
    lacking = _lacking(look, sides)
    images = [
        Placed(look.listing.files[row], side, look.seen[row].content)
        for row, side in sides.items()
        if _class_of(look, row) not in lacking
    ]
    out = [LeftOut(look.listing.files[row], reason) for row, reason in repeated.items()]
    out += [
        LeftOut(look.listing.files[row], f"its class has no image that could be for {lacking[_class_of(look, row)]}")
        for row in sides
        if _class_of(look, row) in lacking
    ]
    new, gone = _changes(images, before)
    return Placement(tuple(images), (*broken, *out), not given, new, gone)


def keep(placement: Placement, folder: Path) -> Path:
    """Write the placement as a split file into `folder`; its name follows from its content."""
    content = encode_split_file(placement.images)
    path = folder / f"split-{hashlib.sha256(content).hexdigest()[:8]}.csv"
    if not path.is_file() or path.read_bytes() != content:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    return path


def kept(folder: Path) -> list[Placed]:
    """The latest placement that `folder` holds; empty where there is none.

    Raises:
        UserError: it is damaged.
    """
    files = sorted(folder.glob("split-*.csv"), key=lambda file: (file.stat().st_mtime_ns, file.name))
    return read_split_file(files[-1]) if files else []


def _class_of(look: Look, row: int) -> str:
    return PurePosixPath(look.listing.files[row]).parent.name


def _as_given(look: Look, rows: Sequence[int]) -> tuple[dict[int, str], dict[int, str]]:
    """Sides by the folders; and training images that are test images too, with the reason that leaves them out."""
    files = look.listing.files
    sides = {row: PurePosixPath(files[row]).parts[0] for row in rows}
    tested = {look.seen[row].content: row for row in reversed(rows) if sides[row] == "test"}
    repeated = {
        row: f"the same pixels as {files[tested[look.seen[row].content]]}"
        for row in rows
        if sides[row] == "train" and look.seen[row].content in tested
    }
    return {row: side for row, side in sides.items() if row not in repeated}, repeated


def _drawn(look: Look, rows: Sequence[int], before: Sequence[Placed], seed: int) -> dict[int, str]:
    """Sides by an earlier placement, and drawn where it knows nothing of a class."""
    known = {image.content or image.path: image.split for image in before}
    known_classes = {image.class_name for image in before}
    share = SHARE_OF_SMALL if len(rows) < SMALL else SHARE
    sides: dict[int, str] = {}
    fresh: dict[str, list[list[int]]] = defaultdict(list)
    for group in _groups(look, rows):
        found = {known.get(look.seen[row].content) or known.get(look.listing.files[row]) for row in group} - {None}
        name = _class_of(look, group[0])
        if not found and name not in known_classes:
            fresh[name].append(group)
            continue
        for row in group:
            own = known.get(look.seen[row].content) or known.get(look.listing.files[row])
            sides[row] = own or ("test" if found == {"test"} else "train")
    for name, groups in fresh.items():
        rng = np.random.default_rng([seed, *name.encode(errors="surrogateescape")])
        sides |= _draw(groups, share, rng)
    return sides


def _groups(look: Look, rows: Sequence[int]) -> Iterator[list[int]]:
    """Images that are the same or nearly so, together; in the order of their first."""
    repeats = np.stack([look.same, np.arange(len(look.same))], axis=1)
    group: NDArray[np.int64] = groups_of(len(look.seen), np.concatenate([repeats, look.near]))
    members: Mapping[int, list[int]] = defaultdict(list)
    for row in rows:
        members[int(group[row])].append(row)
    yield from members.values()


def _draw(groups: Sequence[list[int]], share: float, rng: np.random.Generator) -> dict[int, str]:
    """Draw `share` of a class's images for testing, whole groups only: one at least, and never all."""
    total = sum(map(len, groups))
    wanted, taken = max(1, round(share * total)), 0
    sides = {row: "train" for group in groups for row in group}
    if len(groups) < 2:
        return sides
    order = [groups[i] for i in rng.permutation(len(groups))]
    for group in order:
        if taken + len(group) <= wanted and taken + len(group) < total:
            taken += len(group)
            sides |= dict.fromkeys(group, "test")
    return sides if taken else sides | dict.fromkeys(min(order, key=len), "test")


def _lacking(look: Look, sides: Mapping[int, str]) -> dict[str, str]:
    """Classes without an image on one of the sides, and the side."""
    found: dict[str, set[str]] = defaultdict(set)
    for row, side in sides.items():
        found[_class_of(look, row)].add(side)
    uses = {"train": "training", "test": "testing"}
    return {name: uses[side] for name, has in found.items() for side in SPLITS if side not in has}


def _changes(images: Sequence[Placed], before: Sequence[Placed]) -> tuple[int, int]:
    """How many images are new since an earlier placement, and how many of it are gone; 0, 0 where there is none."""
    if not before:
        return 0, 0
    was, now = ({image.content or image.path for image in some} for some in (before, images))
    return sum((image.content or image.path) not in was for image in images), len(was - now)
