"""The three data sets: what they hold, what they cost the second time, and what they say when files are wrong."""

import errno
import hashlib
import io
import json
import os
import pickle
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import launch
import numpy as np
import pytest
import runs
from PIL import Image
from tiny_data import image_folder

from al.config import RunConfig
from al.data import ImageSet, content_fingerprint
from al.dataset_defaults import DATASETS
from al.errors import UserError
from data_prep.datasets import LOADERS, load_dataset
from data_prep.progress import show_progress
from data_prep.sources import image_cache
from data_prep.sources.cifar10 import ARCHIVE, CLASSES, FOLDER, Source, load_cifar10

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))


# ---------------------------------------------------------------------------------------------------- digits


def test_digits():
    data = load_dataset("digits", "/nowhere")
    assert data.train.images.shape[1:] == (32, 32, 3)
    assert data.train.images.dtype == np.uint8
    assert data.train.images.max() == 255
    assert len(data.train) + len(data.test) == 1797
    assert data.train.classes == tuple("0123456789")
    train, test = np.bincount(data.train.labels), np.bincount(data.test.labels)
    assert np.all(abs(test / (train + test) - 0.3) < 0.005)
    assert np.array_equal(data.train.images[..., 0], data.train.images[..., 2])


def test_digits_are_the_same_every_time_and_upright():
    from sklearn.datasets import load_digits

    first, second = load_dataset("digits", "a"), load_dataset("digits", "b", image_size=64)
    assert first.fingerprint == second.fingerprint
    assert np.array_equal(first.test.images, second.test.images)
    small = first.train.images[..., 0].reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    originals = load_digits().images.reshape(1797, 64)
    closest = ((small.reshape(-1, 1, 64)[:50] * 16 / 255 - originals) ** 2).sum(-1).argmin(1)
    assert np.array_equal(load_digits().target[closest], first.train.labels[:50])


def test_arrays_are_read_only():
    data = load_dataset("digits", "")
    with pytest.raises(ValueError, match="read-only"):
        data.train.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        data.test.labels[0] = 0


def test_fingerprint_follows_content():
    def fingerprint(images, labels, classes):
        return content_fingerprint([ImageSet(images, labels, classes)])

    images, labels = np.zeros((4, 2, 2, 3), np.uint8), np.array([0, 1, 0, 1])
    other = images.copy()
    other[3, 1, 1, 2] = 1
    prints = [
        fingerprint(images, labels, ("a", "b")),
        fingerprint(other, labels, ("a", "b")),
        fingerprint(images, labels[::-1].copy(), ("a", "b")),
        fingerprint(images, labels, ("a", "c")),
    ]
    assert len(set(prints)) == 4
    assert prints[0] == fingerprint(images.copy(), labels.copy(), ("a", "b"))


def test_unknown_data_set():
    with pytest.raises(UserError, match="dataset='cifar': no such data set; did you mean 'cifar10'"):
        load_dataset("cifar", "data")


# --------------------------------------------------------------------------------------------------- cifar10


class _OldPickler(pickle._Pickler):
    """Writes what Python 2 and an old NumPy wrote: byte strings for text, integers for booleans."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_text(self, text):
        content = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text
    dispatch[bool] = lambda self, value: self.save_long(int(value))


def _batch(content):
    file = io.BytesIO()
    _OldPickler(file, protocol=2).dump(content)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


@pytest.fixture
def published(tmp_path):
    """A small archive of CIFAR-10's form at a file:// address: (Source, train pixels, train labels, archive)."""
    draw = np.random.default_rng(0)
    pixels, labels = draw.integers(256, size=(30, 3072), dtype=np.uint8), draw.integers(10, size=30)
    batches = {
        name: _batch({"data": pixels[part], "labels": labels[part].tolist(), "filenames": ["x.png"] * 10})
        for name, part in zip(("data_batch_1", "data_batch_2", "test_batch"), np.split(np.arange(30), 3), strict=True)
    }
    archive = tmp_path / "server" / ARCHIVE
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in {**batches, "readme.html": b"hello"}.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    sums = {name: hashlib.md5(content).hexdigest() for name, content in batches.items()}
    source = Source(
        url=archive.as_uri(),
        archive=hashlib.md5(archive.read_bytes()).hexdigest(),
        train=tuple(item for item in sums.items() if item[0] != "test_batch"),
        test=(("test_batch", sums["test_batch"]),),
        timeout=1.0,
    )
    return source, pixels, labels, archive


def test_cifar10_downloads_once(published, tmp_path, capsys):
    source, pixels, labels, archive = published
    data = load_cifar10(tmp_path / "data", source)
    assert "downloading CIFAR-10" in capsys.readouterr().err
    assert data.train.classes == CLASSES
    assert data.train.labels.tolist() == labels[:20].tolist()
    assert np.array_equal(data.train.images, pixels[:20].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert len(data.test) == 10
    archive.unlink()
    (tmp_path / "data" / ARCHIVE).unlink()
    again = load_cifar10(tmp_path / "data", source)
    assert again.fingerprint == data.fingerprint
    assert capsys.readouterr().err == ""


def test_cifar10_takes_an_archive_that_was_put_there(published, tmp_path):
    source, _, labels, archive = published
    (tmp_path / "data").mkdir()
    archive.rename(tmp_path / "data" / ARCHIVE)
    assert load_cifar10(tmp_path / "data", source).test.labels.tolist() == labels[20:].tolist()
    assert not (tmp_path / "data" / FOLDER / "readme.html").exists()


def test_cifar10_replaces_a_damaged_batch(published, tmp_path):
    source, _, labels, _ = published
    load_cifar10(tmp_path / "data", source)
    batch = tmp_path / "data" / FOLDER / "data_batch_2"
    batch.write_bytes(batch.read_bytes()[:-1] + b"?")
    assert load_cifar10(tmp_path / "data", source).train.labels.tolist() == labels[:20].tolist()


def test_cifar10_refuses_a_download_with_another_checksum(published, tmp_path):
    source, _, _, archive = published
    archive.write_bytes(archive.read_bytes() + b"\0")
    with pytest.raises(UserError, match="another checksum"):
        load_cifar10(tmp_path / "data", source)
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".cifar10.lock"]


def test_cifar10_offline_says_what_to_put_where(published, tmp_path):
    source, _, _, archive = published
    archive.unlink()
    with pytest.raises(UserError) as error:
        load_cifar10(tmp_path / "data", source)
    text = str(error.value)
    assert str(tmp_path / "data" / ARCHIVE) in text
    assert str(tmp_path / "data" / FOLDER) in text
    assert source.archive in text
    assert "\n" not in text


def test_cifar10_gives_up_on_a_server_that_does_not_answer(published, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/{ARCHIVE}"
        silent = Source(url=url, timeout=0.3)
        start = time.monotonic()
        with pytest.raises(UserError, match="timed out"):
            load_cifar10(tmp_path / "data", silent)
    assert time.monotonic() - start < 5


def test_cifar10_batches_cannot_run_code(published, tmp_path):
    source, *_ = published
    evil = pickle.dumps({"data": subprocess.check_output, "labels": []}, protocol=2)
    folder = tmp_path / "data" / FOLDER
    folder.mkdir(parents=True)
    for name, _ in source.train + source.test:
        (folder / name).write_bytes(evil)
    md5 = hashlib.md5(evil).hexdigest()
    trusting = Source(train=tuple((name, md5) for name, _ in source.train), test=(("test_batch", md5),))
    with pytest.raises(pickle.UnpicklingError, match=r"check_output has no place in a CIFAR-10 batch"):
        load_cifar10(tmp_path / "data", trusting)


def test_cifar10_in_a_place_that_cannot_be_written(published, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"could not be downloaded .*put"):
        load_cifar10(tmp_path / "file" / "data", published[0])


def test_cached_cifar10_needs_no_torch(published, tmp_path):
    load_cifar10(tmp_path / "data", published[0])
    code = (
        "import sys, pickle; from pathlib import Path; from data_prep.sources.cifar10 import load_cifar10; "
        "load_cifar10(Path(sys.argv[1]), pickle.loads(bytes.fromhex(sys.argv[2]))); "
        "print([name for name in ('torch', 'torchvision', 'sklearn', 'PIL') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "data"), pickle.dumps(published[0]).hex()]
    assert subprocess.check_output(command, cwd=ROOT, text=True).strip() == "[]"


# ----------------------------------------------------------------------------------------------- imagefolder

ODD_NAMES = ('<b>dog<b> & "co"', "big cat", "猫")


def save(path, colour, size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Three oddly named classes, three training images and one test image of each, told apart by their colour."""
    root = tmp_path / "pictures"
    for index, name in enumerate(ODD_NAMES):
        for number in range(3):
            save(root / "train" / name / f"{number}.png", (index * 50, number, 0))
        save(root / "test" / name / "0.png", (index * 50, 9, 9))
    return root


def load(root, image_size=None):
    return load_dataset("imagefolder", root, image_size)


def entries(root):
    return sorted(path.name for path in (root / ".cache-al").iterdir() if path.is_dir())


def test_imagefolder_order_and_pixels(folder):
    data = load(folder)
    assert data.train.classes == tuple(sorted(ODD_NAMES))
    assert data.train.images.shape == (9, 8, 8, 3)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.test.labels.tolist() == [0, 1, 2]
    for row in range(9):
        original = ODD_NAMES.index(data.train.classes[row // 3])
        assert data.train.images[row, 3, 3].tolist() == [original * 50, row % 3, 0]


def test_same_order_as_torchvision(folder):
    from torchvision.datasets import ImageFolder

    reference = ImageFolder(folder / "train")
    data = load(folder).train
    assert tuple(reference.classes) == data.classes
    assert [label for _, label in reference.samples] == data.labels.tolist()
    assert all(np.array_equal(np.asarray(image), data.images[row]) for row, (image, _) in enumerate(reference))


def test_second_load_maps_the_cache_and_decodes_nothing(folder, capsys):
    first = load(folder)
    assert "decoding images: 12 done" in capsys.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in (folder / ".cache-al").rglob("*")}
    second = load(folder)
    assert capsys.readouterr().err == ""
    assert isinstance(second.train.images, np.memmap)
    assert not second.train.images.flags.writeable
    assert np.array_equal(first.train.images, second.train.images)
    assert first.fingerprint == second.fingerprint
    assert before == {path: path.stat().st_mtime_ns for path in (folder / ".cache-al").rglob("*")}


def _add(folder):
    save(folder / "train" / "猫" / "new.png", (1, 2, 3))


def _remove(folder):
    (folder / "train" / "猫" / "1.png").unlink()


def _rename(folder):
    (folder / "train" / "猫" / "1.png").rename(folder / "train" / "猫" / "7.png")


def _repaint(folder):
    path = folder / "test" / "猫" / "0.png"
    size = path.stat().st_size
    content = bytearray(path.read_bytes())
    save(path, (200, 9, 9))
    assert path.stat().st_size == size
    assert path.read_bytes() != content


@pytest.mark.parametrize("change", [_add, _remove, _rename, _repaint])
def test_a_changed_folder_is_decoded_again(folder, change):
    before = load(folder)
    old = entries(folder)
    time.sleep(0.02)
    change(folder)
    after = load(folder)
    assert after.fingerprint != before.fingerprint
    assert len(entries(folder)) == 1
    assert entries(folder) != old
    fresh = folder.with_name("copy")
    shutil.copytree(folder, fresh, ignore=shutil.ignore_patterns(".*"))
    assert np.array_equal(load(fresh).train.images, after.train.images)


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that are decoded for a cache."""
    names, real = [], image_cache.decode_images

    def decode(paths, *more):
        names.extend(path.name for path in paths)
        return real(paths, *more)

    monkeypatch.setattr(image_cache, "decode_images", decode)
    return names


def test_what_an_earlier_listing_had_is_copied_and_not_decoded(folder, decoded):
    before = load(folder)
    decoded.clear()
    _remove(folder)
    _add(folder)
    after = load(folder)
    assert decoded == ["new.png"]
    new = after.train.paths.index("train/猫/new.png")
    kept = [before.train.paths.index(path) for path in np.delete(after.train.paths, new)]
    np.testing.assert_array_equal(np.delete(after.train.images, new, axis=0), before.train.images[kept])
    assert after.train.images[new, 3, 3].tolist() == [1, 2, 3]
    assert load_dataset("imagefolder", folder, cache="off").fingerprint == after.fingerprint


def test_two_split_files_in_turn_decode_nothing_again(folder, tmp_path, decoded, capsys):
    (folder / "train").rename(tmp_path / "classes")
    paths = sorted(str(path.relative_to(tmp_path / "classes")) for path in (tmp_path / "classes").glob("*/*"))
    files = [tmp_path / "0.csv", tmp_path / "1.csv"]
    for number, file in enumerate(files):
        sides = [f"{path},{'test' if path.endswith(f'{number}.png') else 'train'}\n" for path in paths]
        file.write_text("path,split\n" + "".join(sides))
    found = [load_dataset("imagefolder", tmp_path / "classes", split_file=file) for file in files * 2]
    assert sorted(decoded) == sorted(Path(path).name for path in paths)
    assert [data.fingerprint for data in found[:2]] == [data.fingerprint for data in found[2:]]
    for data, file in zip(found, files * 2):
        plain = load_dataset("imagefolder", tmp_path / "classes", split_file=file, cache="off")
        np.testing.assert_array_equal(np.asarray(plain.test.images), data.test.images)
        assert plain.fingerprint == data.fingerprint
    assert "copying decoded images: 9 done" in capsys.readouterr().err
    assert len([name for name in entries(tmp_path / "classes") if not name.endswith("looked-at")]) == 1


def test_files_that_were_renumbered_are_not_taken_for_each_other(tmp_path):
    """Of one size and one time, as they come out of an archive."""
    root = tmp_path / "pictures"
    for split, name in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
        for number in range(3):
            save(root / split / name / f"{number}.bmp", (number * 50, 9, ord(name)))
            os.utime(root / split / name / f"{number}.bmp", (1, 1))
    load(root)
    folder = root / "train" / "a"
    (folder / "0.bmp").unlink()
    for number in (1, 2):
        (folder / f"{number}.bmp").rename(folder / f"{number - 1}.bmp")
    found = load(root)
    assert found.train.images[:, 3, 3, 0].tolist() == [50, 100, 0, 50, 100]
    assert load_dataset("imagefolder", root, cache="off").fingerprint == found.fingerprint


def test_an_earlier_listing_that_is_damaged_is_not_copied_from(folder, decoded):
    load(folder)
    array = folder / ".cache-al" / entries(folder)[0] / "train.npy"
    with array.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"\x07\x07")
    _add(folder)
    decoded.clear()
    assert load_dataset("imagefolder", folder, cache="off").fingerprint == load(folder).fingerprint
    assert len(decoded) == 13


def test_a_new_image_of_another_size_is_one_line_beside_what_is_copied(folder):
    load(folder)
    save(folder / "train" / "猫" / "0.png", "red", size=(20, 10))
    with pytest.raises(UserError, match=r"is 8x8 and .*0\.png is 20x10 pixels: all images must be of one size"):
        load(folder)
    first = next(iter(sorted((folder / "train").iterdir())))
    save(first / "0.png", "red", size=(20, 10))
    with pytest.raises(UserError, match=r"0\.png is 20x10 and .* is 8x8 pixels: all images must be of one size"):
        load(folder)


def test_fingerprint_follows_neither_place_nor_time(folder, tmp_path):
    first = load(folder).fingerprint
    shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns(".*"))
    for path in (tmp_path / "copy").rglob("*.png"):
        os.utime(path, (1, 1))
    assert load(tmp_path / "copy").fingerprint == first
    assert load(folder, 4).fingerprint != first


def test_sizes_are_cached_side_by_side(folder):
    load(folder)
    assert load(folder, 4).train.images.shape == (9, 4, 4, 3)
    assert [name.split("-")[1] for name in entries(folder)] == ["4", "native"]


def test_a_damaged_cache_is_made_again(folder):
    first = load(folder)
    expected = first.train.images.copy()
    array = folder / ".cache-al" / entries(folder)[0] / "train.npy"
    del first
    array.write_bytes(array.read_bytes()[:-100])
    assert np.array_equal(load(folder).train.images, expected)
    (array.parent / "info.json").write_text("")
    assert np.array_equal(load(folder).train.images, expected)


class _Interrupted(Exception):
    pass


def test_interrupted_decoding_leaves_nothing(folder):
    def interrupt(counts, total, description):
        yield next(iter(counts))
        raise _Interrupted

    with pytest.raises(_Interrupted):
        load_dataset("imagefolder", folder, progress=interrupt)
    assert entries(folder) == []
    assert len(load(folder).train) == 9


SLOW = """
import sys, time
from data_prep.datasets import load_dataset
def slow(counts, total, description):
    for count in counts:
        print("decoding", flush=True)
        time.sleep(float(sys.argv[2]))
        yield count
print(load_dataset("imagefolder", sys.argv[1], progress=slow).fingerprint)
"""


def start(folder, seconds):
    command = [sys.executable, "-c", SLOW, str(folder), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_killed_decoding_is_not_taken_for_whole(folder):
    process = start(folder, 60)
    assert process.stdout.readline() == "decoding\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [name.split("-")[0] for name in entries(folder)] == ["partial"]
    assert len(load(folder).train) == 9
    assert not entries(folder)[0].startswith("partial")
    assert len(entries(folder)) == 1


def test_two_processes_decode_once(folder):
    first = start(folder, 1)
    assert first.stdout.readline() == "decoding\n"
    second = start(folder, 0)
    (out_1, err_1), (out_2, err_2) = first.communicate(timeout=60), second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0), err_1 + err_2
    assert out_2.strip() == out_1.split()[-1]
    assert "waiting for another process" in err_2


@pytest.fixture
def _unprivileged():
    """Root may write anywhere: act as nobody where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_full_disk_leaves_nothing(folder, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"\.cache-al: .*No space left on device.*make room there"):
        load(folder)
    assert entries(folder) == []


@pytest.mark.usefixtures("_unprivileged")
def test_read_only_folder_uses_the_cache_of_the_user(monkeypatch):
    with tempfile.TemporaryDirectory() as name:
        root, cache = Path(name) / "pictures", Path(name) / "cache"
        for path in ("train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png"):
            save(root / path, "red")
        root.chmod(0o555)
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        assert isinstance(load(root).train.images, np.memmap)
        assert len(list(cache.glob("al-suite/*/*/train.npy"))) == 1
        assert not (root / ".cache-al").exists()
        shutil.rmtree(cache)
        cache.touch()
        with pytest.raises(UserError, match=r"cannot be written there .*set XDG_CACHE_HOME"):
            load(root)
        root.chmod(0o755)


def test_home_is_used_without_xdg_cache_home(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (folder / ".cache-al").touch()
    load(folder)
    assert len(list((tmp_path / "home").glob(".cache/al-suite/*/*/train.npy"))) == 1


@pytest.mark.parametrize("keep", [0, 40, -12])
def test_a_broken_image_is_named(folder, keep):
    path = folder / "train" / "big cat" / "1.jpg"
    pixels = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError) as error:
        load(folder)
    assert str(error.value).startswith(f"{path}: not a whole image")
    assert "\n" not in str(error.value)
    assert entries(folder) == []


def test_a_truncated_png_is_named(folder):
    path = folder / "test" / "big cat" / "1.png"
    Image.fromarray(np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"big cat/1\.png: not a whole image"):
        load(folder)


def test_a_broken_image_does_not_cost_the_old_cache(folder):
    load(folder)
    old = entries(folder)
    (folder / "train" / "猫" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"broken\.png"):
        load(folder)
    assert entries(folder) == old


def test_a_dangling_link_is_named(folder):
    (folder / "train" / "猫" / "link.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"link\.png: cannot be read .*replace or remove"):
        load(folder)


def test_mixed_sizes_name_two_files_and_the_remedy(folder):
    odd = folder / "test" / "猫" / "0.png"
    save(odd, "red", size=(20, 10))
    with pytest.raises(UserError) as error:
        load(folder)
    text = str(error.value)
    assert "is 8x8" in text
    assert f"{odd} is 20x10" in text
    assert "--image_size=8" in text
    assert load(folder, 8).test.images.shape == (3, 8, 8, 3)


def test_resize_keeps_the_centre(folder):
    stripes = np.zeros((40, 120, 3), np.uint8)
    stripes[:, :40], stripes[:, 40:80], stripes[:, 80:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    path = folder / "train" / "猫" / "0.png"
    Image.fromarray(stripes).save(path)
    picture = load(folder, 10).train.images[6]
    assert np.all(picture[:, 1:-1] == [0, 255, 0])
    resized_then_cropped = Image.fromarray(stripes).resize((30, 10), Image.Resampling.BILINEAR).crop((10, 0, 20, 10))
    assert abs(picture.astype(int) - np.asarray(resized_then_cropped)).max() <= 1


def test_resize_is_antialiased(folder):
    board = np.indices((64, 64)).sum(0) % 2 * 255
    for suffix in ("png", "jpg"):
        path = folder / "train" / "猫" / f"0.{suffix}"
        Image.fromarray(np.repeat(board[..., None], 3, -1).astype(np.uint8)).save(path, quality=95)
    pictures = load(folder, 8).train.images[6:8].astype(int)
    assert np.all(abs(pictures[:, 2:-2, 2:-2] - 127) < 20)


def test_large_jpeg_reduced_while_decoding_looks_the_same(folder):
    y, x = np.mgrid[:400, :600]
    smooth = np.stack([x * 255 // 600, y * 255 // 400, 128 + 100 * np.sin(x / 40)], -1).astype(np.uint8)
    path = folder / "train" / "猫" / "0.jpg"
    Image.fromarray(smooth).save(path, quality=95)
    picture = load(folder, 32).train.images[6].astype(int)
    with Image.open(path) as image:
        whole = np.asarray(image.crop((100, 0, 500, 400)).resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    assert abs(picture - whole).max() <= 6


@pytest.mark.parametrize(
    ("mode", "colour", "name", "expected"),
    [
        ("L", 100, "x.png", (100, 100, 100)),
        ("1", 1, "x.bmp", (255, 255, 255)),
        ("P", 3, "x.png", None),
        ("RGBA", (10, 20, 30, 128), "x.png", (10, 20, 30)),
        ("LA", (70, 0), "x.png", (70, 70, 70)),
        ("CMYK", (0, 0, 0, 0), "x.jpg", (255, 255, 255)),
        ("RGB", (10, 20, 30), "x.JPEG", (10, 20, 30)),
        ("RGB", (10, 20, 30), "x.WebP", (10, 20, 30)),
        ("I;16", 257 * 90, "x.png", (90, 90, 90)),
    ],
)
def test_every_mode_becomes_rgb(folder, mode, colour, name, expected):
    image = Image.new(mode, (8, 8), colour)
    if mode == "P":
        image.putpalette([value for index in range(256) for value in (index, 2 * index % 256, 7)])
        expected = (3, 6, 7)
    path = folder / "train" / "猫" / name
    image.save(path, lossless=True, quality=100)
    picture = load(folder).train.images[9]
    assert picture.shape == (8, 8, 3)
    assert abs(picture.astype(int) - expected).max() <= 1


def test_exif_orientation_is_applied(folder):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to view: the stored top becomes the right side
    Image.fromarray(pixels).save(folder / "train" / "猫" / "x.png", exif=exif)
    picture = load(folder).train.images[9]
    assert picture.shape == (8, 8, 3)
    assert np.all(picture[:, 4:] == 255)
    assert np.all(picture[:, :4] == 0)


def test_hidden_and_unknown_files_are_left_out(folder, capsys):
    (folder / "train" / "猫" / ".hidden.png").write_bytes(b"")
    (folder / "train" / ".thumbnails").mkdir()
    (folder / "train" / "猫" / "notes.txt").write_text("")
    (folder / "test" / "readme").write_text("")
    (folder / "val" / "dog").mkdir(parents=True)
    assert len(load(folder).train) == 9
    lines = [line for line in capsys.readouterr().err.splitlines() if "ignored" in line]
    assert lines == [f"{folder}: ignored 2 entries that are no images (.bmp, .jpeg, .jpg, .png, .webp)"]


def test_a_class_whose_name_is_not_utf8_is_refused_at_once(folder):
    os.mkdir(os.fsencode(folder) + b"/train/caf\xe9")  # noqa: PTH102
    with pytest.raises(UserError, match=r"class folder 'caf\\\\xe9' is not UTF-8; rename it") as error:
        load(folder)
    str(error.value).encode()
    assert not (folder / ".cache-al").exists()


def test_a_class_whose_name_has_a_line_break_is_refused(folder):
    (folder / "train" / "two\nlines").mkdir()
    with pytest.raises(UserError, match="without a form; rename it"):
        load(folder)


def test_linked_folders_work(folder, tmp_path):
    real = tmp_path / "real"
    (folder / "train" / "猫").rename(real)
    (folder / "train" / "猫").symlink_to(real)
    (tmp_path / "linked").mkdir()
    for split in ("train", "test"):
        (tmp_path / "linked" / split).symlink_to(folder / split)
    assert load(tmp_path / "linked").fingerprint == load(folder).fingerprint


def test_a_folder_that_is_a_link_to_itself_is_no_class(folder):
    (folder / "train" / "self").symlink_to("self")
    assert len(load(folder).train.classes) == 3


def test_the_state_of_a_labelling_is_no_class(folder):
    (folder / "train" / "al-labels" / "proposals").mkdir(parents=True)
    assert len(load(folder).train.classes) == 3


def _without(*paths):
    def change(root):
        for path in paths:
            shutil.rmtree(root / path)

    return change


def _empty_class(root):
    (root / "train" / "empty").mkdir()
    (root / "test" / "empty").mkdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without(""), "no such folder; it must hold train/<class>"),
        (_without("train", "test"), "no folder 'train'.*holds no folders"),
        (_without("train"), "no folder 'train'.*holds test"),
        (_without("test"), "no folder 'test'.*holds train"),
        (_without(*(f"test/{name}" for name in ODD_NAMES)), "test: has no class folders"),
        (_without("test/猫"), "class '猫': no images in .*test/猫; put some there .*or remove the class"),
        (_without("train/猫"), "class '猫': no images in .*train/猫"),
        (_empty_class, "class 'empty': no images in .*train/empty"),
        (
            _without("train/猫", "test/猫", "train/big cat", "test/big cat"),
            "1 class; a classifier needs two or more",
        ),
    ],
)
def test_a_wrong_layout_is_one_line(folder, change, message):
    change(folder)
    with pytest.raises(UserError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert not (folder / ".cache-al").exists()


def test_progress_in_a_log_is_sparse(capsys):
    assert list(show_progress(iter([1] * 500), 500, "counting")) == [1] * 500
    assert capsys.readouterr().err.count("\n") == 1


def test_progress_in_a_log_tells_how_long_it_takes(capsys, monkeypatch):
    """From the last lines alone: what an interrupted job had done before is no measure."""
    from data_prep import progress

    seconds = iter(range(0, 1000, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    list(show_progress(iter([900_000, 1_000, 1_000, 1_000, 90_000]), 1_000_000, "counting"))
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "counting: 900,000 of 1,000,000 (90 %)"
    assert said[1] == "counting: 901,000 of 1,000,000 (90 %), 16 min left"
    assert said[4] == "counting: 993,000 of 1,000,000 (99 %), 3 s left"


def test_progress_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert list(show_progress(iter([2, 3]), 5, "counting")) == [2, 3]
    assert "counting" in terminal.getvalue()


# --------------------------------------------------------------------------------------------- paths, registry


def test_an_image_is_named_by_its_path_within_the_folder(folder):
    data = load(folder)
    assert data.train.path_of(4) == "train/big cat/1.png"
    assert data.test.path_of(2) == "test/猫/0.png"
    assert len(data.train.paths) == len(data.train)


def test_images_that_are_no_files_are_named_by_their_row(published, tmp_path):
    digits, cifar10 = load_dataset("digits", ""), load_cifar10(tmp_path / "data", published[0])
    assert digits.train.path_of(42) == "train/00042"
    assert (cifar10.train.path_of(0), cifar10.test.path_of(9)) == ("train/00000", "test/00009")


def test_every_data_set_has_a_loader_and_defaults_that_are_parameters():
    assert set(LOADERS) == set(DATASETS)
    for name, defaults in DATASETS.items():
        config = RunConfig.from_mapping({"dataset": name, **defaults})
        assert {parameter: getattr(config, parameter) for parameter in defaults} == dict(defaults)


# ------------------------------------------------------------------------------------------------ not square


@pytest.mark.parametrize(
    ("size", "centre"), [((9, 6), (slice(None), slice(1, 7))), ((4, 11), (slice(3, 7), slice(None)))]
)
def test_of_images_that_are_not_square_the_centre_is_used_and_it_is_said(tmp_path, capsys, size, centre):
    """Everybody sees the same: the network, embeddings, zero-shot labels and the pictures of the picks."""
    root = image_folder(tmp_path / "pictures", size=size)
    data = load(root)
    with Image.open(root / "train" / "dog" / "4.png") as image:
        expected = np.asarray(image)[centre]
    row = data.train.paths.index("train/dog/4.png")
    assert data.train.images.shape[1:] == (min(size), min(size), 3)
    assert np.array_equal(data.train.images[row], expected)
    assert isinstance(data.train.images, np.memmap)
    lines = [line for line in capsys.readouterr().err.splitlines() if "centre square" in line]
    (width, height), side = size, min(size)
    said = f"the images are {width}x{height} pixels; of each the centre square of {side}x{side} is used"
    assert lines == [f"{root}: {said} (--image_size=N resizes it to NxN)"]


def test_a_size_resizes_that_centre(tmp_path, capsys):
    root = image_folder(tmp_path / "pictures", size=(48, 32))
    small, centre = load(root, 16).train.images, load(root).train.images
    assert "centre square" in capsys.readouterr().err
    resized = [np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR)) for image in centre]
    difference = np.abs(small.astype(int) - np.array(resized))
    assert difference[:, :, 1:-1].max() <= 1, "but for the edges, where the filter sees what lies beyond"


def test_results_on_squashed_images_are_other_results(tmp_path):
    """What was found on the same files before they were cropped has another fingerprint: never mixed."""
    root = image_folder(tmp_path / "pictures", size=(9, 6))
    (info,) = (tmp_path / "pictures" / ".cache-al").rglob("info.json") if load(root) else ()
    assert load(root).fingerprint != json.loads(info.read_text())["fingerprint"]


def test_a_network_learns_from_the_centre(launcher, tmp_path):
    """Margins of noise to the left and right of pictures change nothing."""
    rng = np.random.default_rng(0)
    plain = image_folder(tmp_path / "plain", count=60, size=(16, 16))
    for path in plain.rglob("*.png"):
        with Image.open(path) as image:
            margin = rng.integers(0, 256, (16, 5, 3), dtype=np.uint8)
            wide = np.concatenate([margin, np.asarray(image), margin], axis=1)
        target = tmp_path / "wide" / path.relative_to(plain)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(wide).save(target)
    found = []
    for name in ("plain", "wide"):
        given = {"dataset": "imagefolder", "data_dir": tmp_path / name, "variant": "balanced_100", "budget": 40}
        outcome = launcher.run(launch.small(tmp_path / f"results-{name}", **given))
        assert outcome.code == 0, outcome.stderr
        lines = runs.read_lines(runs.only_run(tmp_path / f"results-{name}") / "epochs.jsonl")
        found.append([line["test"]["loss"] for line in lines])
    assert found[0] == found[1]
