"""What is said of the images: what became of them, and which ones the model cannot tell apart."""

from pathlib import Path

import numpy as np

from al.data import DataSet, Embeddings, ImageSet
from data_prep.placing import LeftOut, Placement
from data_prep.split_file import Placed
from sweeps.compare.telling import embedding_duplicates_told, placement_told

FILE = Path("results/split-1.csv")
IMAGES = (Placed("cat/1.png", "train"), Placed("cat/2.png", "test"), Placed("dog/1.png", "train"))


def told(**what):
    return list(placement_told(Placement(**{"images": IMAGES, "left_out": (), "drawn": True} | what), FILE))


def test_a_drawn_test_set_is_said_with_its_file():
    (line,) = told()
    assert line.startswith("test set: 1 images")
    assert line.endswith(str(FILE))


def test_a_given_one_is_not():
    assert told(drawn=False) == []


def test_what_came_and_went_is_counted():
    _, new, gone = told(new=3, gone=2)
    assert "3 images" in new
    assert "2 images" in gone


def test_what_is_left_out_is_said_by_reason_with_examples():
    out = [LeftOut(f"cat/{i}.jpg", f"cannot be read (reason {i})") for i in range(5)]
    out += [LeftOut("train/cat/9.jpg", "the same pixels as test/cat/1.jpg")]
    _, broken, same = told(left_out=tuple(out))
    assert broken == "not used: 5 images: cannot be read: cat/0.jpg, cat/1.jpg, cat/2.jpg, ..."
    assert same == "not used: 1 images: the same pixels as a test image: train/cat/9.jpg"


def data_set(train, test):
    sets = [
        ImageSet(np.zeros((n, 4, 4, 3), np.uint8), np.arange(n) % 2, ("cat", "dog"), split=split)
        for split, n in (("train", train), ("test", test))
    ]
    return DataSet("photos", *sets, "f")


def test_test_images_that_look_like_training_images_are_counted_once():
    vectors = np.random.default_rng(0).normal(size=(30, 64)).astype(np.float32)
    test = vectors[20:].copy()
    test[3], test[5] = vectors[7] * 2, vectors[7]  # one picture: of another length, and the same
    (line,) = embedding_duplicates_told(data_set(20, 10), Embeddings(vectors[:20], test))
    assert line.startswith("by embedding: 2 of 10 test images look like training images")
    assert "test/00003 ~ train/00007" in line


def test_nothing_is_said_where_all_are_different():
    vectors = np.random.default_rng(0).normal(size=(30, 64)).astype(np.float32)
    assert not list(embedding_duplicates_told(data_set(20, 10), Embeddings(vectors[:20], vectors[20:])))
