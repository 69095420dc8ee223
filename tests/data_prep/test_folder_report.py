"""What a folder of images holds, found by looking at every file; nothing is written."""

import os
import shutil

import numpy as np
import pytest
import runs
from PIL import Image
from tiny_data import image_folder, silent

from al.errors import UserError
from data_prep.__main__ import main
from data_prep.datasets import load_dataset
from data_prep.folder_report import inspect_folder


@pytest.fixture
def folder(tmp_path):
    """9 + 9 images; then a broken one, one of another size, copies within and between, and what is no image."""
    root = image_folder(tmp_path / "pictures", count=9, size=(20, 12))
    (root / "train" / "cat" / "broken.jpg").write_bytes(b"no picture")
    Image.fromarray(np.zeros((50, 40, 3), np.uint8)).save(root / "test" / "ship" / "large.png")
    shutil.copy(root / "train" / "dog" / "1.png", root / "test" / "cat" / "same.png")
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "cat" / "same.png")
    with Image.open(root / "test" / "dog" / "1.png") as image:
        image.save(root / "test" / "dog" / "same pixels.bmp")  # another file of the same pixels
    (root / "train" / "notes.txt").touch()
    (root / "train" / "cat" / "Thumbs.db").touch()
    return root


def look(root):
    return inspect_folder(root, silent)


def test_everything_is_found(folder):
    before = runs.tree(folder)
    report = look(folder)
    assert [(row.name, row.counts) for row in report.classes] == [("cat", (5, 4)), ("dog", (3, 4)), ("ship", (3, 4))]
    assert [(size.width, size.height, size.images) for size in report.sizes] == [(20, 12, 21), (40, 50, 1)]
    ((broken, reason),) = [(one.path, one.reason) for one in report.broken]
    assert broken == "train/cat/broken.jpg"
    assert "cannot identify" in reason
    assert [(copy.path, copy.original) for copy in report.same.test_in_train] == [
        ("test/cat/same.png", "train/dog/1.png")
    ]
    assert report.same.test_in_train[0].another_class
    assert [(copy.path, copy.original) for copy in report.same.in_train] == [("train/cat/same.png", "train/cat/0.png")]
    assert [(copy.path, copy.original) for copy in report.same.in_test] == [
        ("test/dog/same pixels.bmp", "test/dog/1.png")
    ]
    assert report.ignored == 2
    assert (report.images, report.image_size) == (23, 12)
    problems = "\n".join(report.problems)
    for words in ("1 broken files", "2 sizes: use for example --image_size=12", "1 test images are training images"):
        assert words in problems
    assert runs.tree(folder) == before, "something was written"


def test_a_clean_folder_has_no_problems_and_loads(tmp_path):
    root = image_folder(tmp_path)
    report = look(root)
    assert report.problems == ()
    assert (report.broken, report.same.test_in_train, report.same.in_train, report.same.in_test) == ((), (), (), ())
    assert report.image_size is None
    assert len(load_dataset("imagefolder", root).train) == 9


def test_the_side_that_it_names_serves(folder):
    (folder / "train" / "cat" / "broken.jpg").unlink()
    report = look(folder)
    assert load_dataset("imagefolder", folder, report.image_size).train.images.shape[1:] == (12, 12, 3)


def test_a_folder_without_a_test_set(tmp_path):
    root = image_folder(tmp_path / "pictures") / "train"
    shutil.copy(root / "cat" / "0.png", root / "dog" / "again.png")
    report = look(root)
    assert report.splits == ("",)
    assert [row.counts for row in report.classes] == [(3,), (4,), (3,)]
    assert [(copy.path, copy.original) for copy in report.same.in_train] == [("dog/again.png", "cat/0.png")]
    assert any("name a --split_file, or use `make compare`" in problem for problem in report.problems)
    shutil.move(root, tmp_path / "half" / "train")
    assert any("there is only train: split the images" in problem for problem in look(tmp_path / "half").problems)


def test_classes_that_a_run_would_refuse(tmp_path):
    root = image_folder(tmp_path / "pictures")
    (root / "train" / "empty").mkdir()
    os.mkdir(os.fsencode(root) + b"/test/caf\xe9")  # noqa: PTH102
    problems = "\n".join(look(root).problems)
    assert "class 'empty': no images in train" in problems
    assert "'caf\\\\xe9': its name is not UTF-8" in problems


def test_progress_is_shown_by_image(folder):
    counted = []

    def watch(counts, total, description):
        counted.append(total)
        for count in counts:
            counted.append(count)
            yield count

    inspect_folder(folder, watch)
    assert counted == [23, *[1] * 23]


def test_the_command_prints_it(folder, capsys):
    assert main(["look", str(folder)]) == 0
    out = capsys.readouterr().out
    for words in (
        "23 images in 3 classes",
        "train",
        "sizes: 20x12 (21), 40x50 (1)",
        "broken: train/cat/broken.jpg (cannot identify",
        "test images that are training images: 1, 1 of them under another class (test/cat/same.png = train/dog/1.png)",
        "repeated in test: 1 (test/dog/same pixels.bmp = test/dog/1.png)",
        "problem: 1 broken files stop a run",
    ):
        assert words in out


@pytest.mark.parametrize("make", [False, True])
def test_what_is_no_folder_of_images_is_one_line(tmp_path, capsys, make):
    root = tmp_path / "odd [red]"
    if make:
        root.mkdir()
    assert main(["look", str(root)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "class folders" in line if make else "no such folder" in line
    with pytest.raises(UserError):
        look(root)


def test_links_that_lead_to_themselves_and_the_state_of_a_labelling(tmp_path):
    root = image_folder(tmp_path / "pictures", count=6) / "train"
    (root / "cat" / "loop.png").symlink_to("loop.png")
    (root / "dog" / "self").symlink_to("self")
    (root / "al-labels" / "proposals").mkdir(parents=True)
    report = look(root)
    assert [(row.name, row.counts) for row in report.classes] == [("cat", (3,)), ("dog", (2,)), ("ship", (2,))]
    ((path, reason),) = [(one.path, one.reason) for one in report.broken]
    assert path == "cat/loop.png"
    assert "Too many levels of symbolic links" in reason
    assert not any("al-labels" in problem for problem in report.problems)


def test_a_pipe_is_not_waited_for(tmp_path):
    root = image_folder(tmp_path / "pictures", count=6) / "train"
    os.mkfifo(root / "cat" / "pipe.png")
    report = look(root)
    assert [(row.name, row.counts) for row in report.classes] == [("cat", (2,)), ("dog", (2,)), ("ship", (2,))]
    assert (report.ignored, report.broken) == (1, ())
