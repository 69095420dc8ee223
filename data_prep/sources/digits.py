"""scikit-learn's handwritten digits: every installation has them, and a network learns them in seconds."""

import gzip
import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from al.data import DataSet, ImageSet, content_fingerprint
from al.storage.files import write_atomically

SIDE = 32
TEST_SHARE = 0.3
SPLIT_SEED = 0


def load_digits() -> DataSet:
    """The 1,797 digits as 32x32 RGB, 70 % of each class for training.

    The split is always the same one (seed 0), so results of different runs are comparable.
    """
    pixels, labels = _table()
    images = _enlarged(pixels.reshape(-1, 8, 8))
    generator = np.random.default_rng(SPLIT_SEED)
    in_test = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        members = generator.permutation(np.flatnonzero(labels == digit))
        in_test[members[: round(TEST_SHARE * len(members))]] = True
    classes = tuple(str(digit) for digit in range(10))
    train, test = (
        ImageSet(images[rows], labels[rows], classes, split=split)
        for split, rows in (("train", ~in_test), ("test", in_test))
    )
    return DataSet("digits", train, test, content_fingerprint([train, test]))


def write_digits(folder: Path) -> None:
    """Write the digits as `folder/<digit>/<number>.png`, 8x8 grey pixels each: a folder that anybody can have.

    Files that are there already stay as they are.
    """
    from PIL import Image

    pixels, labels = _table()
    for row, (image, digit) in enumerate(zip(_grey(pixels.reshape(-1, 8, 8)), labels)):
        file = folder / str(digit) / f"{row:04d}.png"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            Image.fromarray(image).save(content, "PNG")
            write_atomically(file, content.getvalue())


def _table() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Pixels [1797, 64] in 0..16 and labels [1797], from scikit-learn's file: importing scikit-learn takes a second."""
    file = Path(find_spec("sklearn").submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        with gzip.open(file, "rt") as lines:
            table = np.loadtxt(lines, delimiter=",")
        return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn import datasets

    pixels, labels = datasets.load_digits(return_X_y=True)
    return pixels, labels.astype(np.int64)


def _enlarged(images: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Grey images [N, 8, 8] in 0..16 as u8[N, 32, 32, 3]."""
    from PIL import Image

    large = np.stack(
        [np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in _grey(images)]
    )
    return np.repeat(large[..., None], 3, axis=-1)  # [N, 32, 32] -> [N, 32, 32, 3]


def _grey(images: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Values in 0..16 as grey ones in 0..255."""
    return np.rint(images * (255 / 16)).astype(np.uint8)
