"""Images that are the same pixels: found exactly, warned of in one line, refused where asked."""

import shutil

import launch
import numpy as np
import pytest
from tiny_data import CLASSES, image_folder

from al.data import ImageSet
from al.errors import UserError
from data_prep.datasets import load_dataset
from data_prep.duplicates import find_duplicates, first_equal


def image_set(images: np.ndarray, split: str = "train") -> ImageSet:
    return ImageSet(images, np.arange(len(images)) % 3, CLASSES, split=split)


@pytest.mark.parametrize("shape", [(8, 8, 3), (5, 7, 3), (1, 1, 3), (300, 200, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_pairs_equal_those_of_a_plain_search(shape, seed):
    rng = np.random.default_rng(seed)
    different = rng.integers(0, 256, (25, *shape), dtype=np.uint8)
    train, test = different[rng.integers(0, 25, 40)], different[rng.integers(0, 25, 15)]
    test[3, 0, 0, 0] ^= 1
    everything = [image.tobytes() for image in (*train, *test)]
    expected = [everything.index(image) for image in everything]
    assert first_equal([train, test]).tolist() == expected
    found = find_duplicates(image_set(train), image_set(test, "test"))
    assert found.test_in_train.tolist() == [[i - 40, expected[i]] for i in range(40, 55) if expected[i] < 40]
    assert found.in_train.tolist() == [[i, expected[i]] for i in range(40) if expected[i] != i]
    assert found.in_test.tolist() == [[i - 40, expected[i] - 40] for i in range(40, 55) if 40 <= expected[i] != i]


def test_equal_hashes_of_other_pixels_are_no_duplicates(monkeypatch):
    monkeypatch.setattr("data_prep.duplicates._hashes", lambda images: np.zeros(len(images), np.uint64))
    images = np.arange(6, dtype=np.uint8).repeat(12).reshape(6, 2, 2, 3)
    assert first_equal([images, images[:1]]).tolist() == [0, 1, 2, 3, 4, 5, 0]


def test_sets_of_other_sizes_share_nothing():
    small, large = np.zeros((2, 2, 2, 3), np.uint8), np.zeros((2, 4, 4, 3), np.uint8)
    assert first_equal([small, large]).tolist() == [0, 0, 2, 2]


@pytest.fixture
def leaking(tmp_path):
    """One test image of cats is a training image of dogs and one of cats; a training image is there twice."""
    root = image_folder(tmp_path / "pictures", count=9)
    shutil.copy(root / "train" / "dog" / "1.png", root / "test" / "cat" / "9.png")
    shutil.copy(root / "train" / "cat" / "3.png", root / "test" / "cat" / "0.png")
    shutil.copy(root / "train" / "ship" / "2.png", root / "train" / "ship" / "9.png")
    return root


def test_they_are_named_with_their_share_in_one_line(leaking, capsys):
    load_dataset("imagefolder", leaking)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert "2 of 10 test images (20 %) are training images too, 1 of them under another class" in line
    assert "test/cat/0.png = train/cat/3.png, test/cat/9.png = train/dog/1.png" in line
    assert "1 of 10 training images (10 %) repeat others (train/ship/9.png = train/ship/2.png)" in line
    load_dataset("imagefolder", leaking)
    assert "20 %" in capsys.readouterr().err, "at every start, not only when the images are decoded"


def test_strict_refuses_them(leaking):
    with pytest.raises(UserError, match=r"strict=true: 2 of 10 test images .*; remove them") as caught:
        load_dataset("imagefolder", leaking, strict=True)
    assert "\n" not in str(caught.value)


def test_strict_takes_what_repeats_in_training_only(leaking, capsys):
    shutil.rmtree(leaking / "test" / "cat")
    (leaking / "test" / "cat").mkdir()
    shutil.copy(image_folder(leaking.with_name("other"), seed=1) / "test" / "cat" / "0.png", leaking / "test" / "cat")
    assert len(load_dataset("imagefolder", leaking, strict=True).test) == 7
    assert "repeat others" in capsys.readouterr().err


def test_a_run_refuses_them_and_says_nothing_of_clean_data(launcher, leaking, tmp_path):
    images = {"dataset": "imagefolder", "data_dir": leaking, "variant": "balanced_100"}
    outcome = launcher.run(launch.small(tmp_path / "results", strict="true", **images))
    assert outcome.code == 2
    assert "strict=true" in outcome.stderr.splitlines()[-1]
    assert not (tmp_path / "results").exists()


def test_clean_data_says_nothing(tmp_path, capsys):
    load_dataset("digits", "", strict=True)
    load_dataset("imagefolder", image_folder(tmp_path), strict=True)
    assert "warning" not in capsys.readouterr().err
