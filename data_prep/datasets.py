"""The registry of data sets: a name and the function that loads it. Their defaults are in `al.dataset_defaults`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from al.data import DataSet
from al.errors import UserError, nearest
from data_prep.duplicates import check_duplicates
from data_prep.progress import Progress, show_progress
from data_prep.sources.cifar10 import load_cifar10
from data_prep.sources.digits import load_digits
from data_prep.sources.imagefolder import load_imagefolder

Load = Callable[[Path, int | None, Progress, Path | None, str], DataSet]
"""(data_dir, image_size, progress, split_file, cache) -> the images, ready for use."""

LOADERS: Mapping[str, Load] = MappingProxyType(
    {
        "cifar10": lambda data_dir, image_size, progress, *_: load_cifar10(data_dir, progress=progress),
        "digits": lambda *_: load_digits(),
        "imagefolder": load_imagefolder,
    }
)


def load_dataset(
    name: str,
    data_dir: str | Path,
    image_size: int | None = None,
    progress: Progress = show_progress,
    *,
    split_file: str | Path | None = None,
    cache: str = "auto",
    strict: bool = False,
) -> DataSet:
    """Load data set `name`; warns of images that are there twice.

    Args:
        name: `digits` (needs no files), `cifar10` (downloaded into `data_dir` when it is not there) or `imagefolder`
            (`data_dir/{train,test}/<class>/*`, decoded once into a cache where there is room for it).
        image_size: side in pixels that an imagefolder is resized and cropped to; None keeps its native size.
            The other two stay as they are, and are resized where the model takes them in.
        progress: shows how far a download or the decoding is.
        split_file: says which images of an imagefolder are for training and which for testing; the other two data
            sets have a split of their own.
        cache: of an imagefolder: `on`, `off`, or `auto`; see `load_imagefolder`.
        strict: refuse test images that are training images too, pixel for pixel.

    Raises:
        UserError: unknown name, or data that is missing, incomplete, broken or, with `strict`, not kept apart.
    """
    if name not in LOADERS:
        raise UserError(f"dataset={name!r}: no such data set; {nearest(name, LOADERS)}")
    file = None if split_file is None else Path(split_file).expanduser()
    data = LOADERS[name](Path(data_dir).expanduser(), image_size, progress, file, cache)
    check_duplicates(data, strict=strict)
    return data
