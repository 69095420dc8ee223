"""Images that are decoded when they are read: the same pixels, fingerprint and duplicates as from the cache."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import image_folder

from al.errors import UserError
from al.learning.batches import StagedImages, batches, placed
from al.runtime import Runtime
from data_prep.datasets import load_dataset
from data_prep.duplicates import find_duplicates
from data_prep.pool_map import reduced
from data_prep.sources import on_demand
from data_prep.sources.on_demand import ImagesOnDemand

CPU = Runtime(torch.device("cpu"), torch.float32)
ORDERS = {"scattered": np.array([7, 0, 7, 3]), "consecutive": np.arange(2, 8), "none": np.arange(0)}


@pytest.fixture(params=[(20, 20), (26, 20)], ids=["square", "cut to the square"])
def both(request, tmp_path):
    """One folder, read as files and from the cache; a test image is a training image too, and one is there twice."""
    root = image_folder(tmp_path / "pictures", count=9, size=request.param)
    shutil.copy(root / "train" / "cat" / "0.png", root / "test" / "cat" / "copy.png")
    shutil.copy(root / "train" / "cat" / "3.png", root / "train" / "dog" / "copy.png")
    return tuple(load_dataset("imagefolder", root, cache=cache) for cache in ("off", "on"))


def test_reads_what_the_cache_holds(both):
    found, cached = (data.train.images for data in both)
    assert isinstance(found, ImagesOnDemand)
    assert isinstance(cached, np.memmap)
    assert (found.shape, found.nbytes, len(found)) == (cached.shape, cached.nbytes, len(cached))
    np.testing.assert_array_equal(np.asarray(found), cached)
    np.testing.assert_array_equal(np.stack(list(found)), cached)
    np.testing.assert_array_equal(np.asarray(found[2:7]), cached[2:7])
    np.testing.assert_array_equal(found[np.array([5, 0, 5])], cached[[5, 0, 5]])
    np.testing.assert_array_equal(found[np.int64(4)], cached[4])
    np.testing.assert_array_equal(found[-1], cached[-1])
    np.testing.assert_array_equal(reduced(found), reduced(cached))
    with pytest.raises(IndexError):
        found[len(found)]


def test_is_the_same_data_set(both):
    found, cached = both
    assert found.fingerprint == cached.fingerprint
    assert found.train.paths == cached.train.paths
    pairs, expected = find_duplicates(found.train, found.test), find_duplicates(cached.train, cached.test)
    for name in ("test_in_train", "in_train", "in_test"):
        assert getattr(pairs, name).tolist() == getattr(expected, name).tolist()
    assert len(pairs.test_in_train) == 1
    assert len(pairs.in_train) == 1


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("step", [1, 3, 100])
def test_batches_are_those_of_the_cache(both, order, step):
    found, expected = (
        [batch.numpy().copy() for batch in batches(StagedImages(data.train.images, CPU), order, step, CPU)]
        for data in both
    )
    assert len(found) == len(expected)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected))


def test_stays_files_unless_memory_is_asked_for(both):
    found, cached = (data.train.images for data in both)
    small = Runtime(torch.device("cpu"), torch.float32, memory=10)
    for runtime in (CPU, small):
        assert isinstance(placed([found], runtime, "auto", "made")[0].array, ImagesOnDemand)
    host, device = (placed([found], CPU, where, "made")[0] for where in ("host", "device"))
    np.testing.assert_array_equal(host.array, cached)
    np.testing.assert_array_equal(device.numpy(), cached)
    with pytest.raises(UserError, match="images_on=disk: the images of made are in no file"):
        placed([found], CPU, "disk", "made")


def test_no_memory_for_all_of_them_is_one_line(both, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(ImagesOnDemand, "__array__", full)
    with pytest.raises(UserError, match=r"^images_on=host: no room in memory .*use images_on=auto, or a smaller"):
        placed([both[0].train.images], CPU, "host", "made")


@pytest.fixture
def folder(tmp_path):
    return image_folder(tmp_path / "pictures", count=6)


def files(root):
    return sorted(str(path.relative_to(root)) for path in (root / ".cache-al").rglob("*.npy"))


def test_no_pixels_are_kept_and_the_next_start_looks_at_nothing(folder, capsys):
    first = load_dataset("imagefolder", folder, cache="off")
    assert "looking at images: 12 done" in capsys.readouterr().err
    assert sum((folder / name).stat().st_size for name in files(folder)) < 12 * 64
    again = load_dataset("imagefolder", folder, cache="off")
    assert capsys.readouterr().err == ""
    assert again.fingerprint == first.fingerprint


def test_another_state_of_the_folder_is_looked_at_anew(folder):
    first = load_dataset("imagefolder", folder, cache="off")
    before = files(folder)
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).resize(first.train.images.shape[1:3]).save(
        folder / "train" / "cat" / "new.png"
    )
    second = load_dataset("imagefolder", folder, cache="off")
    assert second.fingerprint != first.fingerprint
    assert len(before) == 2
    assert len({*files(folder)} - {*before}) == 2


def test_what_a_few_split_files_had_found_is_kept(folder, monkeypatch):
    """Two that are used in turn would have every run look at all images."""
    monkeypatch.setattr(on_demand, "OTHERS", 1)
    names = [str(path.relative_to(folder)) for path in sorted(folder.glob("*/*/*.png"))]
    splits = [folder.parent / f"{number}.csv" for number in range(3)]
    for number, file in enumerate(splits):
        sides = ["test" if row % 2 == number % 2 else "train" for row in range(len(names))]
        kept = list(zip(names, sides))[number:]
        file.write_text("path,split\n" + "".join(f"{name},{side}\n" for name, side in kept))

    def load_each(some):
        return [load_dataset("imagefolder", folder, split_file=file, cache="off").fingerprint for file in some]

    first = load_each(splits[:2])
    with monkeypatch.context() as context:
        context.setattr(on_demand, "_look", None)
        assert load_each(splits[:2]) == first
    load_each(splits[2:])
    assert len(files(folder)) == 4, "of two listings, train and test"


def test_what_was_found_at_one_size_is_kept_beside_another(folder, monkeypatch):
    """A sweep over image_size with cache=off would look at all images in every run."""
    first = load_dataset("imagefolder", folder, 16, cache="off")
    load_dataset("imagefolder", folder, 8, cache="off")
    monkeypatch.setattr(on_demand, "_look", None)
    assert load_dataset("imagefolder", folder, 16, cache="off").fingerprint == first.fingerprint


def test_what_was_kept_and_damaged_is_made_again(folder, capsys):
    first = load_dataset("imagefolder", folder, cache="off")
    (folder / files(folder)[0]).write_bytes(b"nonsense")
    capsys.readouterr()
    assert load_dataset("imagefolder", folder, cache="off").fingerprint == first.fingerprint
    assert "looking at images: 12 done" in capsys.readouterr().err


def test_a_disk_without_any_room_is_said_and_does_not_matter(folder, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(on_demand, "write_info", full)
    assert len(load_dataset("imagefolder", folder, cache="off").train) == 6
    assert "each start looks at all of them again (No space left on device)" in capsys.readouterr().err
    assert files(folder) == []


def test_a_folder_that_cannot_be_written_does_not_matter(folder, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "train" / "cat" / "0.png"))
    (folder / ".cache-al").touch()
    assert len(load_dataset("imagefolder", folder, cache="off").train) == 6
    assert "each start looks at all of them again" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"set XDG_CACHE_HOME .*, or use cache=off, which decodes"):
        load_dataset("imagefolder", folder)


@pytest.mark.parametrize(("content", "said"), [(b"no image", "not a whole image"), (None, "of one size")])
def test_a_file_that_changes_meanwhile_is_named(folder, content, said):
    images = load_dataset("imagefolder", folder, cache="off").train.images
    path = images.folder / images.names[1]
    if content is None:
        Image.new("RGB", (5, 5)).save(path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path.name}.*{said}"):
        list(batches(StagedImages(images, CPU), np.arange(6), 2, CPU))


def test_a_broken_image_is_found_at_the_start(folder):
    (folder / "test" / "cat" / "3.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"3\.png: not a whole image"):
        load_dataset("imagefolder", folder, cache="off")


def leave_no_room(monkeypatch):
    """From now on, every disk has 1,000 bytes free."""
    free = SimpleNamespace(total=10_000, used=9_000, free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)


def test_no_room_for_the_cache_is_said_with_what_it_takes_and_goes_on(tmp_path, monkeypatch, capsys):
    folder = image_folder(tmp_path / "pictures", count=6, size=(200, 200))
    leave_no_room(monkeypatch)
    data = load_dataset("imagefolder", folder)
    assert isinstance(data.train.images, ImagesOnDemand)
    line = next(line for line in capsys.readouterr().err.splitlines() if "no room" in line)
    assert line == (
        f"{folder}/.cache-al: no room for the decoded images: all of them take 1.4 MiB, and 0.1 MiB are free; so they "
        "are decoded whenever they are read, as with cache=off, which takes longer: make room there"
    )
    with pytest.raises(UserError, match=r"take 1\.4 MiB, .* are free; make room there, or use cache=off"):
        load_dataset("imagefolder", folder, cache="on")


def test_a_cache_that_is_there_needs_no_room(folder, monkeypatch):
    load_dataset("imagefolder", folder)
    leave_no_room(monkeypatch)
    assert isinstance(load_dataset("imagefolder", folder).train.images, np.memmap)
