"""The data sets by name: `digits`, `cifar10`, `imagefolder`."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from al.data import DataSet, ImageSet, content_fingerprint
from al.errors import UserError, nearest
from data_prep.progress import Progress, show_progress

__all__ = ["DATASETS", "DataSet", "ImageSet", "load_dataset"]

DATASETS = ("cifar10", "digits", "imagefolder")
DIGITS_SIDE = 32
DIGITS_TEST_SHARE = 0.3
DIGITS_SPLIT_SEED = 0


def load_dataset(
    name: str, data_dir: str | Path, image_size: int | None = None, progress: Progress | None = None
) -> DataSet:
    """The images of data set `name`, ready for use.

    Args:
        name: `digits` (embedded, needs no files), `cifar10` (downloaded into `data_dir` when it is not there)
            or `imagefolder` (`data_dir/{train,test}/<class>/*`, decoded once into a cache).
        image_size: side in pixels that an imagefolder is resized and cropped to; None keeps its native size.
            The other two stay as they are, and are resized where the model takes them in.
        progress: shows how far a download or the decoding is; None: `data_prep.progress.show_progress`.

    Raises:
        UserError: unknown name, or data that is missing, incomplete or broken.
    """
    folder, progress = Path(data_dir).expanduser(), progress or show_progress
    if name == "digits":
        return _digits()
    if name == "cifar10":
        from data_prep.sources.cifar10 import load_cifar10

        return load_cifar10(folder, progress=progress)
    if name == "imagefolder":
        from data_prep.sources.imagefolder import load_imagefolder

        return load_imagefolder(folder, image_size, progress=progress)
    raise UserError(f"dataset={name!r}: no such data set; {nearest(name, DATASETS)}")


def _digits() -> DataSet:
    """scikit-learn's 1,797 handwritten digits as 32x32 RGB, 70 % of each class for training.

    The split is always the same one (seed 0), so results of different runs are comparable.
    """
    pixels, labels = _digits_table()
    images = _enlarged(pixels.reshape(-1, 8, 8))
    generator = np.random.default_rng(DIGITS_SPLIT_SEED)
    in_test = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        members = generator.permutation(np.flatnonzero(labels == digit))
        in_test[members[: round(DIGITS_TEST_SHARE * len(members))]] = True
    classes = tuple(str(digit) for digit in range(10))
    train, test = (ImageSet(images[rows], labels[rows], classes) for rows in (~in_test, in_test))
    return DataSet("digits", train, test, content_fingerprint([train, test]))


def _digits_table() -> tuple[np.ndarray, np.ndarray]:
    """Pixels [1797, 64] in 0..16 and labels i64[1797], from scikit-learn's file: importing it all takes a second."""
    file = Path(find_spec("sklearn").submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        with gzip.open(file, "rt") as lines:
            table = np.loadtxt(lines, delimiter=",")
        return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels, labels.astype(np.int64)


def _enlarged(images: np.ndarray) -> np.ndarray:
    """Grey images [N, 8, 8] in 0..16 as u8[N, 32, 32, 3]."""
    from PIL import Image

    grey = np.rint(images * (255 / 16)).astype(np.uint8)
    side = (DIGITS_SIDE, DIGITS_SIDE)
    large = np.stack([np.asarray(Image.fromarray(image).resize(side, Image.Resampling.BILINEAR)) for image in grey])
    return np.repeat(large[..., None], 3, axis=-1)
