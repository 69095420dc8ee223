"""Which images are for training and which for testing: stratified, no copy on both sides, the same next time."""

import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from scenes import fill, jpeg, scene
from tiny_data import image_folder, silent

from data_prep.folder_report import look_at_folder
from data_prep.placing import keep, kept, place


def placed(root, before=(), **options):
    return place(look_at_folder(root, silent), before, **options)


def sides(placement):
    return {image.path: image.split for image in placement.images}


@pytest.fixture
def root(tmp_path):
    return fill(tmp_path / "pictures", {"cat": 20, "dog": 10, "ship": 3, "owl": 2})


def test_a_share_of_every_class_is_for_testing(root):
    placement = placed(root)
    assert placement.drawn
    assert placement.counts == {
        "cat": {"train": 14, "test": 6},
        "dog": {"train": 7, "test": 3},
        "owl": {"train": 1, "test": 1},
        "ship": {"train": 2, "test": 1},
    }


def test_it_follows_from_the_seed(root):
    assert sides(placed(root)) == sides(placed(root))
    assert sides(placed(root, seed=1)) != sides(placed(root))


def test_a_class_is_drawn_alike_whatever_other_classes_there_are(root):
    before = {path: side for path, side in sides(placed(root)).items() if path.startswith("cat/")}
    shutil.rmtree(root / "dog")
    after = {path: side for path, side in sides(placed(root)).items() if path.startswith("cat/")}
    assert after == before


def test_copies_are_on_one_side(tmp_path):
    root = fill(tmp_path / "pictures", {"cat": 12, "dog": 12})
    for seed in range(24):
        name = "cat" if seed < 12 else "dog"
        shutil.copy(root / name / f"{seed:03d}.png", root / name / f"same {seed:03d}.png")
        jpeg(scene(seed, 24), 90).save(root / name / f"alike {seed:03d}.png")
    found = sides(placed(root))
    assert Counter(found.values()) == {"train": 48 + 3 * 2, "test": 2 * 9}
    for seed in range(24):
        of_one = {side for path, side in found.items() if f"{seed:03d}.png" in path}
        assert len(of_one) == 1, seed


def test_a_copy_in_another_class_is_on_the_same_side(root):
    shutil.copy(root / "cat" / "000.png", root / "dog" / "not a dog.png")
    for seed in range(5):
        found = sides(placed(root, seed=seed))
        assert found["cat/000.png"] == found["dog/not a dog.png"]


def test_a_class_of_one_picture_is_left_out(root):
    fill(root, {"emu": 1}, start=90)
    shutil.copy(root / "emu" / "090.png", root / "emu" / "again.png")
    placement = placed(root)
    assert "emu" not in placement.counts
    reasons = {one.path: one.reason for one in placement.left_out}
    assert reasons.keys() == {"emu/090.png", "emu/again.png"}
    assert set(reasons.values()) == {"its class has no image that could be for testing"}


def test_broken_files_are_left_out_with_the_reason(root):
    (root / "cat" / "torn.png").write_bytes((root / "cat" / "000.png").read_bytes()[:60])
    placement = placed(root)
    (out,) = placement.left_out
    assert out.path == "cat/torn.png"
    assert out.reason.startswith("cannot be read (")
    assert "cat/torn.png" not in sides(placement)


class TestGivenFolders:
    def test_they_decide(self, tmp_path):
        placement = placed(image_folder(tmp_path))
        assert placement.as_it_lies
        assert all(image.path.startswith(f"{image.split}/") for image in placement.images)

    def test_training_images_that_are_test_images_are_left_out(self, tmp_path):
        root = image_folder(tmp_path)
        shutil.copy(root / "test" / "dog" / "1.png", root / "train" / "dog" / "leak.png")
        placement = placed(root)
        assert not placement.as_it_lies
        assert [(one.path, one.reason) for one in placement.left_out] == [
            ("train/dog/leak.png", "the same pixels as test/dog/1.png")
        ]
        assert sides(placement)["test/dog/1.png"] == "test"

    def test_a_class_without_test_images_is_left_out(self, tmp_path):
        root = image_folder(tmp_path)
        shutil.rmtree(root / "test" / "ship")
        placement = placed(root)
        assert set(placement.counts) == {"cat", "dog"}
        assert {one.path for one in placement.left_out} == {f"train/ship/{row}.png" for row in (2, 5, 8)}


class TestNextTime:
    @pytest.fixture
    def before(self, root, tmp_path):
        keep(placed(root), tmp_path / "results")
        return kept(tmp_path / "results")

    def test_it_is_the_same(self, root, before):
        again = placed(root, before)
        assert sides(again) == {image.path: image.split for image in before}
        assert (again.new, again.gone) == (0, 0)

    def test_new_images_are_for_training(self, root, before):
        fill(root, {"cat": 5, "dog": 5}, start=60)
        again = placed(root, before)
        assert again.new == 10
        old = {image.path: image.split for image in before}
        assert all(side == old.get(path, "train") for path, side in sides(again).items())

    def test_a_new_copy_of_a_test_image_is_for_testing(self, root, before):
        test = next(image.path for image in before if image.split == "test")
        with Image.open(root / test) as image:
            jpeg(image.convert("RGB"), 95).save(root / "cat" / "new.png")
        assert sides(placed(root, before))["cat/new.png"] == "test"

    def test_a_renamed_image_keeps_its_side(self, root, before):
        test = next(image.path for image in before if image.split == "test")
        (root / test).rename((root / test).with_name("renamed.png"))
        again = placed(root, before)
        assert sides(again)[str((root / test).with_name("renamed.png").relative_to(root))] == "test"
        assert (again.new, again.gone) == (0, 0)

    def test_a_new_class_has_test_images_too(self, root, before):
        fill(root, {"yak": 10}, start=70)
        again = placed(root, before)
        assert again.counts["yak"] == {"train": 7, "test": 3}
        assert again.new == 10

    def test_images_that_are_gone_are_counted(self, root, before):
        (root / "cat" / "000.png").unlink()
        assert placed(root, before).gone == 1

    def test_the_latest_file_counts_and_the_earlier_one_stays(self, root, before, tmp_path):
        folder = tmp_path / "results"
        fill(root, {"cat": 1}, start=60)
        second = keep(placed(root, before), folder)
        assert len(list(folder.glob("split-*.csv"))) == 2
        assert {image.path for image in kept(folder)} == {image.path for image in placed(root, before).images}
        assert keep(placed(root, kept(folder)), folder) == second


def test_the_drawn_sides_have_the_classes_in_proportion(tmp_path):
    root = fill(tmp_path / "pictures", {"a": 40, "b": 20, "c": 10})
    counts = placed(root).counts
    shares = [found["test"] / sum(found.values()) for found in counts.values()]
    assert np.allclose(shares, 0.3)
