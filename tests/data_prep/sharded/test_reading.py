"""Sharded embeddings in a run: its images are found by their paths, and other images are refused."""

import hashlib
import shutil

import numpy as np
import pytest
from numbered import encode, work, worker
from tiny_data import CLASSES, image_folder, silent

from al.config import RunConfig
from al.errors import UserError
from al.identity import local_sources
from data_prep.datasets import load_dataset
from data_prep.embeddings import load_embeddings
from data_prep.inputs import check_inputs
from data_prep.sharded import reading


def config(data, embeddings, **changed) -> RunConfig:
    values = {"dataset": "imagefolder", "data_dir": data, "features": f"file:{embeddings}", "model": "frozen"}
    values |= {"results_dir": embeddings.parent / "results"} | changed
    return RunConfig.from_mapping({name: str(value) for name, value in values.items()})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Images of 8 x 8, 12 for training and 12 for testing, and their embeddings."""
    root = tmp_path_factory.mktemp("made")
    image_folder(root / "data", 12, size=(8, 8))
    work(root / "data", root / "out")
    return root


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made, tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture(autouse=True)
def _forget():
    reading._damaged.cache_clear()


def loaded(root, **changed):
    chosen = config(root / "data", root / "out", **changed)
    check_inputs(chosen)
    data = load_dataset("imagefolder", root / "data", progress=silent, split_file=chosen.split_file)
    return data, load_embeddings(chosen, data)


def test_each_image_has_its_own_without_a_copy(root):
    data, found = loaded(root)
    for split in ("train", "test"):
        vectors, images = getattr(found, split), getattr(data, split).images
        np.testing.assert_array_equal(vectors, encode(images).astype(np.float16))
        assert isinstance(vectors, np.memmap)
        assert vectors.dtype == np.float16


def test_a_split_file_picks_its_own_rows(root, monkeypatch):
    """Rows that lie apart are copied, in memory or into a file."""
    for name in sorted((root / "data").rglob("*.png")):
        name.rename(root / "data" / f"{name.parts[-3]}-{name.name}")
    for place, name in enumerate(sorted((root / "data").glob("*.png"))):
        (root / "data" / CLASSES[place % 3]).mkdir(exist_ok=True)
        name.rename(root / "data" / CLASSES[place % 3] / name.name)
    for empty in ("train", "test", ".cache-al"):
        shutil.rmtree(root / "data" / empty, ignore_errors=True)
    shutil.rmtree(root / "out")
    work(root / "data", root / "out")
    names = sorted(str(path.relative_to(root / "data")) for path in (root / "data").rglob("*.png"))
    lines = [f"{name},{'test' if place % 4 == 0 else 'train'}\n" for place, name in enumerate(names)]
    (root / "split.csv").write_text("path,split\n" + "".join(lines))
    for bound in (reading.DiskArray.__init__.__globals__["BOUND_BYTES"], 1):
        monkeypatch.setitem(reading.DiskArray.__init__.__globals__, "BOUND_BYTES", bound)
        data, found = loaded(root, split_file=root / "split.csv")
        assert (len(found.train), len(found.test)) == (18, 6)
        for split in ("train", "test"):
            exact = encode(getattr(data, split).images).astype(np.float16)
            np.testing.assert_array_equal(getattr(found, split), exact)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "out/complete.json").unlink(), "3 of 3 shards are done; give its .* command again"),
        (lambda root: (root / "out/embeddings.npy").unlink(), "cannot be read .*; make the embeddings anew"),
        (lambda root: (root / "out/manifest.json").write_text("{}"), r"complete\.json is not of this manifest"),
        (lambda root: (root / "out/complete.json").write_text("{}"), r"complete\.json: not what was written"),
        (lambda root: _change(root / "out/manifest.json", b'"dimensions":5', b'"dimensions":4'), "is not of this"),
        (lambda root: _change(root / "out/images.txt", b"cat/0.png", b"cat/9.png"), "images.txt: is not the list"),
        (lambda root: _flip(root / "out/embeddings.npy"), "shard 2 is not what was written"),
        (lambda root: (root / "data/train/cat/0.png").rename(root / "data/train/cat/00.png"), "1 of 24 images, .*/00"),
        (lambda root: _repaint(root / "data/train/cat/0.png"), r"train/cat/0\.png is another image than was embedded"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(root, change, message):
    change(root)
    with pytest.raises(UserError, match=message) as error:
        loaded(root)
    assert "\n" not in str(error.value)


def _change(path, old, new):
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))


def _flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _repaint(path):
    from PIL import Image

    Image.new("RGB", (8, 8), (1, 2, 3)).save(path)


def test_images_without_paths_are_told(root):
    chosen = config(root / "data", root / "out", dataset="digits")
    with pytest.raises(UserError, match="finds images by their paths, and this data set has none; use dataset="):
        load_embeddings(chosen, load_dataset("digits", ""))


def test_an_image_that_was_skipped_has_none(root):
    (root / "data/test/dog/1.png").write_bytes(b"torn")
    shutil.rmtree(root / "out")
    work(root / "data", root / "out", skip_broken=True)
    _repaint(root / "data/test/dog/1.png")
    with pytest.raises(UserError, match=r"no embedding of 1 of 24 images, test/dog/1\.png first"):
        loaded(root)


def test_a_folder_is_known_by_its_seal(root):
    """Its checksums stand for its rows: hundreds of gigabytes are not hashed in every run."""
    known = local_sources(config(root / "data", root / "out"))["features"]
    assert known == hashlib.sha256((root / "out/complete.json").read_bytes()).hexdigest()


def test_contents_find_rows_whatever_the_files_are_called(root):
    files = sorted((root / "data").rglob("*.png"))[::-1]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    rows = reading.rows_by_content(root / "out", [*digests, "00" * 32])
    names = (root / "out/images.txt").read_text().splitlines()
    assert [names[row] for row in rows[:-1]] == [str(file.relative_to(root / "data")) for file in files]
    assert rows[-1] == -1


def test_one_that_is_half_made_is_refused_before_anything_is_loaded(tmp_path):
    image_folder(tmp_path / "data", 12, size=(8, 8))
    sum(worker(tmp_path / "data", tmp_path / "out").make_if_free(1))
    with pytest.raises(UserError, match="1 of 3 shards are done"):
        check_inputs(config(tmp_path / "data", tmp_path / "out"))
