"""Images by path and content: hashed once, copies together, and what cannot be used set aside with a reason."""

import os
from pathlib import Path

import numpy as np
import photos
import pytest
from PIL import Image

from labelling import photos as module
from labelling.contents import _Problems, decoded, side_of
from labelling.photos import HEIC, NO_ACCESS, NO_IMAGE, NOT_READ, NOT_UTF8, TOO_LARGE, find_photos
from labelling.small_copies import small_copy


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


class TestFindPhotos:
    def test_in_any_nesting_in_the_order_of_class_folders(self, tmp_path, cache):
        for number, name in enumerate(("b/2.png", "b-c/1.png", "a.png", "b/d/0.png")):
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            photos.picture("red", np.random.default_rng(number)).save(tmp_path / "in" / name)
        found = find_photos(tmp_path / "in", cache)
        assert [photo.path for photo in found.photos] == ["a.png", "b/2.png", "b/d/0.png", "b-c/1.png"]

    def test_one_content_is_one_photo(self, folder, truth, cache):
        first = next(iter(truth))
        (folder / "copy of it.png").write_bytes((folder / first).read_bytes())
        found = find_photos(folder, cache)
        assert len(found.photos) == len(truth)
        assert found.copies == 1
        assert found.by_path["copy of it.png"] is found.by_path[first]

    def test_reads_a_file_once(self, folder, truth, cache, monkeypatch):
        before = find_photos(folder, cache)
        looked = []
        real = module.identify
        monkeypatch.setattr(module, "identify", lambda path: (looked.append(path.name), real(path))[1])
        assert find_photos(folder, cache).photos == before.photos
        assert looked == []
        changed = folder / next(iter(truth))
        photos.picture("blue", np.random.default_rng(99)).save(changed)
        os.utime(changed, ns=(1, 1))
        assert find_photos(folder, cache).photos != before.photos
        assert looked == [changed.name]

    def test_a_damaged_index_is_made_again(self, folder, truth, cache):
        before = find_photos(folder, cache)
        (cache / "files.json").write_text("{")
        assert find_photos(folder, cache).photos == before.photos

    def test_sets_aside_with_a_reason_and_goes_on(self, folder, truth, cache):
        (folder / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
        (folder / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic")
        (folder / "scan.tiff").write_bytes(b"II*\0")
        (folder / "text.png").write_text("no image")
        (folder / "notes.txt").write_text("no picture")
        (folder / ".hidden.png").write_text("")
        (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
        found = find_photos(folder, cache)
        assert len(found.photos) == len(truth)
        expected = {"IMG_1.HEIC": HEIC, "phone.jpg": HEIC, "scan.tiff": NOT_READ, "text.png": NO_IMAGE}
        assert found.set_aside == expected | {"caf\\xe9.png": NOT_UTF8}
        assert found.others == 1
        assert "convert" in HEIC

    def test_files_that_change_names_are_told_apart(self, tmp_path, cache):
        """Of one size and time of change, as they come out of an archive: else each would get the other's label."""
        (tmp_path / "in").mkdir()
        one, other, away = (tmp_path / "in" / name for name in ("1.bmp", "2.bmp", "away"))
        for path, colour in ((one, "red"), (other, "blue")):
            Image.new("RGB", (8, 8), colour).save(path)
            os.utime(path, (1, 1))
        before = find_photos(tmp_path / "in", cache).by_path
        one.rename(away)
        other.rename(one)
        away.rename(other)
        after = find_photos(tmp_path / "in", cache).by_path
        assert (after["1.bmp"].sha256, after["2.bmp"].sha256) == (before["2.bmp"].sha256, before["1.bmp"].sha256)

    def test_what_cannot_be_opened_is_tried_again(self, folder, truth, cache, monkeypatch):
        real = Path.read_bytes

        def fails(path):
            if path.suffix == ".png":
                raise OSError(5, "Input/output error")
            return real(path)

        with monkeypatch.context() as context:
            context.setattr(Path, "read_bytes", fails)
            assert set(find_photos(folder, cache).set_aside.values()) == {NO_ACCESS}
        found = find_photos(folder, cache)
        assert len(found.photos) == len(truth)
        assert found.set_aside == {}

    def test_what_leads_nowhere_is_set_aside(self, folder, truth, cache, monkeypatch):
        """Links to themselves and to nowhere, a pipe, and a folder that may not be read."""
        for name, target in (("loop.png", "loop.png"), ("nowhere.png", "gone.png"), ("self", "self")):
            (folder / name).symlink_to(target)
        os.mkfifo(folder / "pipe.png")
        (folder / "locked").mkdir()
        scandir = os.scandir

        def denied(path):
            if Path(path).name == "locked":
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", denied)
        found = find_photos(folder, cache)
        assert len(found.photos) == len(truth)
        expected = dict.fromkeys(("locked/", "loop.png", "nowhere.png"), NO_ACCESS)
        assert found.set_aside == expected | {"pipe.png": NO_IMAGE}

    def test_an_image_of_too_many_pixels_is_said_to_be_one(self, folder, truth, cache, monkeypatch):
        photos.picture("red", np.random.default_rng(3), 60).save(folder / "huge.png")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        assert find_photos(folder, cache).set_aside == {"huge.png": TOO_LARGE}

    def test_passes_over_the_state_of_a_labelling(self, folder, truth, cache):
        for name in ("al-labels", "elsewhere"):
            (folder / name).mkdir()
            (folder / name / "project.json").write_text("{}")
            (folder / name / "labels.jsonl").write_text("")
            photos.picture("red", np.random.default_rng(5)).save(folder / name / "x.png")
        assert len(find_photos(folder, cache).photos) == len(truth)


class TestDecoded:
    def test_upright_as_the_camera_says(self, tmp_path):
        wide = Image.new("RGB", (40, 20), "red")
        wide.paste("blue", (0, 0, 20, 20))
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees: the left half is on top
        wide.save(tmp_path / "turned.jpg", exif=exif, quality=95)
        image = decoded(tmp_path / "turned.jpg", 20)
        assert image[2, 10, 2] > 200 > image[2, 10, 0]
        assert image[17, 10, 0] > 200 > image[17, 10, 2]

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "P", "CMYK", "L"])
    def test_every_mode_becomes_rgb(self, tmp_path, mode):
        if mode == "I;16":
            image = Image.fromarray(np.full((30, 40), 40_000, np.uint16))
        else:
            image = Image.new("RGB", (40, 30), (150, 150, 150)).convert(mode if mode != "LA" else "LA")
        path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
        image.save(path)
        found = decoded(path, 16)
        assert found.shape == (16, 16, 3)
        assert abs(int(found.mean()) - (155 if mode == "I;16" else 150)) < 8

    def test_what_was_transparent_is_no_warning(self, tmp_path, recwarn):
        palette = photos.picture("red", np.random.default_rng(0)).quantize(16)
        palette.save(tmp_path / "image.png", transparency=bytes([0, 0, 128] + [255] * 13))
        opaque = photos.picture("red", np.random.default_rng(0)).quantize(16).convert("RGB")
        np.testing.assert_array_equal(decoded(tmp_path / "image.png", None), np.asarray(opaque))
        small_copy(tmp_path / "image.png", 20)
        assert not recwarn.list

    def test_a_truncated_file_is_a_reason(self, tmp_path):
        photos.picture("red", np.random.default_rng(0), 200).save(tmp_path / "whole.jpg")
        content = (tmp_path / "whole.jpg").read_bytes()
        (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
        assert "not a whole image" in decoded(tmp_path / "cut.jpg", 32)


def test_problems_are_kept_but_for_files_that_could_not_be_read(tmp_path):
    found = {"a": "not a whole image ([Errno 5] Input/output error)", "b": "not a whole image (cannot identify it)"}
    problems = _Problems(tmp_path / "problems.json")
    problems.add(64, found)
    assert problems.of(64) == found
    assert _Problems(tmp_path / "problems.json").of(64) == {"b": found["b"]}


class TestSide:
    def test_small_squares_stay_and_others_become_squares(self, folder, truth, cache):
        assert side_of(find_photos(folder, cache), None) is None
        assert side_of(find_photos(folder, cache), 64) == 64
        photos.picture("red", np.random.default_rng(1), 50).save(folder / "larger.png")
        assert side_of(find_photos(folder, cache), None) == 224
