"""A look at image files that remembers what it has seen."""

import os
import sqlite3

import pytest
from PIL import Image
from tiny_data import image_folder

from al.errors import NoRoom, UserError
from data_prep import looking
from data_prep.looking import SIDE, look_at_files, thumbnails


@pytest.fixture
def root(tmp_path):
    return image_folder(tmp_path / "pictures", count=12, size=(20, 14))


def files(root):
    return sorted(str(path.relative_to(root)) for path in root.glob("*/*/*"))


class Count:
    """Passes progress on and counts what it is told."""

    def __init__(self):
        self.images = 0

    def __call__(self, counts, total, description):
        for count in counts:
            self.images += count
            yield count


def look(root, memory=None):
    count = Count()
    return look_at_files(root, files(root), count, memory), count.images


def test_each_file_is_seen(root):
    seen, count = look(root)
    assert count == 24
    assert {(one.width, one.height) for one in seen} == {(20, 14)}
    assert len({one.content for one in seen}) == 24
    assert thumbnails(seen).shape == (24, SIDE, SIDE, 3)


def test_what_was_seen_is_not_decoded_again(root, tmp_path):
    memory = tmp_path / "results" / "images.sqlite"
    first, _ = look(root, memory)
    again, decoded = look(root, memory)
    assert again == first == look(root)[0]
    assert decoded == 0


def test_what_has_changed_is(root, tmp_path):
    memory = tmp_path / "images.sqlite"
    before, _ = look(root, memory)
    (root / "test" / "cat" / "0.png").write_bytes(b"no picture")
    os.utime(root / "train" / "dog" / "1.png")
    after, decoded = look(root, memory)
    assert decoded == 2
    assert sum(one != other for one, other in zip(before, after)) == 1


def test_a_cut_costs_what_was_not_written(root, tmp_path, monkeypatch):
    monkeypatch.setattr(looking, "COMMIT", 5)
    memory = tmp_path / "images.sqlite"

    def cut(counts, total, description):
        for number, count in enumerate(counts):
            if number == 17:
                raise KeyboardInterrupt
            yield count

    with pytest.raises(KeyboardInterrupt):
        look_at_files(root, files(root), cut, memory)
    seen, decoded = look(root, memory)
    assert decoded == 24 - 15
    assert seen == look(root)[0]


def test_a_damaged_memory_is_made_again(root, tmp_path):
    memory = tmp_path / "images.sqlite"
    expected, _ = look(root, memory)
    memory.write_bytes(b"no database at all, but long enough to look like one" * 100)
    assert look(root, memory) == (expected, 24)
    assert look(root, memory) == (expected, 0)


def test_a_file_that_vanishes_is_a_broken_one_until_it_is_back(root, tmp_path):
    names, memory = files(root), tmp_path / "images.sqlite"
    away = (root / names[3]).rename(tmp_path / "away.png")
    seen = look_at_files(root, names, Count(), memory)
    assert "No such file" in seen[3].reason
    assert not any(one.reason for one in seen[:3] + seen[4:])
    away.rename(root / names[3])
    assert not look_at_files(root, names, Count(), memory)[3].reason


def test_a_full_disk_is_one_line(root, tmp_path, monkeypatch):
    connected = looking._connected

    def on_a_small_disk(memory):
        database = connected(memory)
        database.execute("PRAGMA max_page_count = 3")
        return database

    monkeypatch.setattr(looking, "_connected", on_a_small_disk)
    with pytest.raises(NoRoom, match=r"images\.sqlite: no room on the disk"):
        look(root, tmp_path / "images.sqlite")


def test_a_memory_that_another_process_is_writing_is_not_removed(root, tmp_path, monkeypatch):
    memory = tmp_path / "images.sqlite"
    look(root, memory)
    before, connect = memory.read_bytes(), sqlite3.connect
    other = connect(memory)
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sqlite3, "connect", lambda file, timeout: connect(file, timeout=0))
    with pytest.raises(UserError, match=r"images\.sqlite: cannot be written \(database is locked\)"):
        look(root, memory)
    other.close()
    assert memory.read_bytes() == before


def test_an_unreadable_file_is_looked_at_again(root, tmp_path, monkeypatch):
    """Whose bytes, size and time of change are the same once the network drive answers."""
    memory, real = tmp_path / "images.sqlite", looking.decode_image

    def fails(path, size):
        try:
            raise OSError(5, "Input/output error")
        except OSError as error:
            raise UserError(f"{path}: not a whole image ({error}); replace or remove the file") from error

    monkeypatch.setattr(looking, "decode_image", fails)
    seen, _ = look(root, memory)
    assert {one.reason for one in seen} == {"[Errno 5] Input/output error"}
    monkeypatch.setattr(looking, "decode_image", real)
    seen, decoded = look(root, memory)
    assert decoded == 24
    assert not any(one.reason for one in seen)


def test_files_that_change_names_are_looked_at_again(root, tmp_path):
    """Of one size and time of change, as they come out of an archive."""
    memory, one, other = tmp_path / "images.sqlite", root / "train" / "cat" / "0.bmp", root / "train" / "cat" / "1.bmp"
    for path, shade in ((one, 10), (other, 200)):
        Image.new("RGB", (8, 8), (shade,) * 3).save(path)
        os.utime(path, (1, 1))
    before = dict(zip(files(root), look(root, memory)[0]))
    one.rename(root / "away")
    other.rename(one)
    (root / "away").rename(other)
    after = dict(zip(files(root), look(root, memory)[0]))
    assert after["train/cat/0.bmp"] == before["train/cat/1.bmp"] != before["train/cat/0.bmp"]
