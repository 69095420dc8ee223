"""A file of path,split lines in place of folders train and test."""

import os
import shutil

import numpy as np
import pytest
from tiny_data import image_folder, silent

from al.config import RunConfig
from al.errors import UserError
from al.identity import local_sources
from data_prep.datasets import load_dataset
from data_prep.split_file import Placed, encode_split_file, read_split_file


@pytest.fixture
def plain(tmp_path):
    """`<class>/*`, three classes of three images, and a file by which the third of each is for testing."""
    root = image_folder(tmp_path / "pictures") / "train"
    images = [Placed(f"{path.parent.name}/{path.name}", "train") for path in sorted(root.glob("*/*.png"))]
    images = [Placed(image.path, "test" if i % 3 == 2 else "train") for i, image in enumerate(images)]
    file = tmp_path / "split.csv"
    file.write_bytes(encode_split_file(images))
    return root, file


def test_a_plain_folder_is_loaded_by_it(plain):
    root, file = plain
    data = load_dataset("imagefolder", root, progress=silent, split_file=file)
    assert data.train.paths == ("cat/0.png", "cat/3.png", "dog/1.png", "dog/4.png", "ship/2.png", "ship/5.png")
    assert data.test.paths == ("cat/6.png", "dog/7.png", "ship/8.png")
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.test.classes == ("cat", "dog", "ship")


def test_the_data_are_those_of_the_same_files_in_two_folders(plain, tmp_path):
    root, file = plain
    for image in read_split_file(file):
        target = tmp_path / "apart" / image.split / image.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / image.path, target)
    apart = load_dataset("imagefolder", tmp_path / "apart", progress=silent)
    data = load_dataset("imagefolder", root, progress=silent, split_file=file)
    assert data.fingerprint == apart.fingerprint
    assert np.array_equal(data.test.images, apart.test.images)


def test_what_it_does_not_name_is_not_used(plain):
    root, file = plain
    (root / "cat" / "broken.png").write_bytes(b"no picture")
    assert len(load_dataset("imagefolder", root, progress=silent, split_file=file).train) == 6


def test_the_order_of_its_lines_changes_nothing(plain):
    root, file = plain
    before = load_dataset("imagefolder", root, progress=silent, split_file=file).fingerprint
    header, *lines = file.read_text().splitlines()
    file.write_text("\n".join([header, *reversed(lines)]) + "\n")
    assert load_dataset("imagefolder", root, progress=silent, split_file=file).fingerprint == before


def test_another_split_is_other_data(plain):
    root, file = plain
    before = load_dataset("imagefolder", root, progress=silent, split_file=file).fingerprint
    file.write_text(
        file.read_text().replace("cat/6.png,test", "cat/6.png,train").replace("cat/3.png,train", "cat/3.png,test")
    )
    assert load_dataset("imagefolder", root, progress=silent, split_file=file).fingerprint != before


@pytest.mark.parametrize("name", ["a,b.png", 'quote".png', "line\nbreak.png", os.fsdecode(b"caf\xe9.png"), "猫.png"])
def test_every_file_name_comes_back(name, tmp_path):
    file = tmp_path / "split.csv"
    images = [Placed(f"cat/{name}", "train", "ab12"), Placed("dog/1.png", "test")]
    file.write_bytes(encode_split_file(images))
    assert read_split_file(file) == images


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,side\ncat/1.png,train\n", ["file,side", "path,split,content"]),
        ("path,split\ncat/1.png,val\n", ["line 2", "'val'", "use train or test"]),
        ("path,split\n../secret/1.png,train\n", ["line 2", "../secret/1.png"]),
        ("path,split\n/etc/passwd,train\n", ["line 2", "/etc/passwd"]),
        ("path,split\n1.png,train\n", ["line 2", "CLASS/FILE"]),
        ("path,split\ncat/\0.png,train\n", ["line 2", "'cat/\\x00.png'"]),
        ("path,split\ncat/1.png,train\ncat/1.png,test\n", ["cat/1.png", "twice"]),
        ("path,split\ncat/1.png,train\n./cat/1.png,test\n", ["./cat/1.png", "twice"]),
        ("path,split\ncat/1.png,train\ncat//1.png,test\n", ["cat//1.png", "twice"]),
        ("path,split\ncat/0.png,train\ncat/3.png,test\n", ["1 class"]),
        ("path,split\ncat/0.png,train\ncat/3.png,test\ndog/1.png,train\n", ["class 'dog'", "no test images"]),
        ("path,split\ncat/0.png,train\ncat/99.png,test\ndog/1.png,train\ndog/4.png,test\n", ["99.png", "No such file"]),
        ("", ["path,split,content"]),
    ],
)
def test_what_is_wrong_with_it_is_one_line(plain, text, words):
    root, file = plain
    file.write_text(text)
    with pytest.raises(UserError) as error:
        load_dataset("imagefolder", root, progress=silent, split_file=file)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_file_that_a_spreadsheet_saved_is_read(tmp_path):
    """It begins with a byte order mark, and its lines end as on Windows."""
    (tmp_path / "split.csv").write_bytes(b"\xef\xbb\xbfpath,split\r\ncat/1.png,train\r\n")
    assert read_split_file(tmp_path / "split.csv") == [Placed("cat/1.png", "train")]


def test_a_file_that_is_not_there_is_one_line(plain):
    with pytest.raises(UserError, match="No such file"):
        load_dataset("imagefolder", plain[0], progress=silent, split_file=plain[1].with_name("none.csv"))


class TestIdentity:
    def test_a_run_on_an_image_folder_is_another_with_it(self):
        without, with_it = (RunConfig(dataset="imagefolder", split_file=file) for file in (None, "a.csv"))
        assert without.digest() != with_it.digest()
        assert RunConfig(dataset="imagefolder", split_file="b.csv").digest() != with_it.digest()

    def test_it_has_no_effect_on_other_data_sets(self):
        assert RunConfig(dataset="digits", split_file="a.csv").digest() == RunConfig(dataset="digits").digest()
        assert "split_file=a.csv" in RunConfig(dataset="digits", split_file="a.csv").without_effect()

    def test_its_content_is_part_of_what_the_run_was_made_from(self, plain):
        config = RunConfig(dataset="imagefolder", split_file=str(plain[1]))
        before = local_sources(config)["split_file"]
        plain[1].write_text(plain[1].read_text() + "cat/9.png,train,\n")
        assert local_sources(config)["split_file"] != before
        assert "split_file" not in local_sources(RunConfig(dataset="imagefolder"))


def test_a_quotation_mark_without_its_other_one(tmp_path):
    (tmp_path / "split.csv").write_text('path,split\n"a/0.png,train\n' + "a/1.png,train\n" * 20_000)
    with pytest.raises(UserError, match=r"split\.csv: line \d+: not CSV .*; is a quotation mark there without"):
        read_split_file(tmp_path / "split.csv")
