"""Images that are nearly the same, by pixels and by embedding, against brute force."""

import numpy as np
import pytest
from PIL import Image
from scenes import jpeg, scene

from data_prep.looking import SIDE
from data_prep.near_duplicates import CORRELATION, alike_by_embedding, alike_by_pixels, groups_of


def thumbnails(images):
    return np.stack([np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)) for image in images])


@pytest.mark.parametrize(
    "change",
    [
        lambda image: jpeg(image, 40),
        lambda image: image.resize((61, 61)),
        lambda image: image.point(lambda value: min(255, value + 12)),
        lambda image: image.crop((1, 1, 96, 96)),
    ],
    ids=["compressed again", "smaller", "brighter", "cropped by a pixel"],
)
def test_a_changed_copy_is_found(change):
    pictures = [scene(seed) for seed in range(30)]
    pairs = alike_by_pixels(thumbnails([*pictures, change(pictures[7])]))
    assert pairs.tolist() == [[7, 30]]


def test_different_pictures_and_plain_ones_are_not():
    plain = [Image.new("RGB", (96, 96), colour) for colour in ("white", "black", "white")]
    assert alike_by_pixels(thumbnails([*(scene(seed) for seed in range(60)), *plain])).size == 0


def test_a_much_darker_picture_of_the_same_pattern_is_another():
    dark = scene(0).point(lambda value: value // 3)
    assert alike_by_pixels(thumbnails([scene(0), dark])).size == 0


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images_are_no_trouble(count):
    assert alike_by_pixels(thumbnails([scene(seed) for seed in range(2)])[:count]).shape == (0, 2)


def test_pairs_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 24)).astype(np.float32)
    vectors[200:230] = vectors[:30] + rng.normal(scale=0.15, size=(30, 24))  # some near enough, some not
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = np.triu(units @ units.T, 1)
    expected = np.argwhere(cosines >= CORRELATION)
    assert 3 < len(expected) < 30
    assert alike_by_embedding(vectors, CORRELATION).tolist() == expected.tolist()


def test_many_that_are_all_alike_are_one_group():
    pictures = [scene(1), *(jpeg(scene(0), quality) for quality in range(40, 95))]
    pairs = alike_by_pixels(thumbnails(pictures))
    groups = groups_of(len(pictures), pairs)
    assert groups[0] == 0
    assert set(groups[1:]) == {1}


def test_groups_go_by_their_lowest_row():
    assert groups_of(6, np.array([[4, 5], [1, 4], [2, 3]])).tolist() == [0, 1, 2, 2, 1, 1]
    assert groups_of(3, np.empty((0, 2), np.int64)).tolist() == [0, 1, 2]
