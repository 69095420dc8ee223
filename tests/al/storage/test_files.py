"""What is kept on disk: whole or not at all."""

import os

import pytest

from al.errors import NoRoom
from al.records import Record
from al.storage.files import RecordLines, write_atomically, write_json


def names(folder):
    return [path.name for path in folder.iterdir()]


class TestWriting:
    def test_replaces_the_whole_file(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("something long that was there before")
        write_atomically(path, "new")
        assert path.read_text() == "new"
        assert names(tmp_path) == ["file"]

    def test_failure_leaves_the_old_file_and_nothing_else(self, tmp_path, monkeypatch):
        path = tmp_path / "file"
        path.write_text("old")

        def no_space(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", no_space)
        with pytest.raises(NoRoom, match="no room on the disk"):
            write_atomically(path, "new")
        assert path.read_text() == "old"
        assert names(tmp_path) == ["file"]

    def test_is_on_disk_before_it_takes_the_name(self, tmp_path, monkeypatch):
        done = []
        monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("fsync"))
        real = os.replace
        monkeypatch.setattr(os, "replace", lambda *args: (done.append("replace"), real(*args)))
        write_atomically(tmp_path / "file", b"x")
        assert done == ["fsync", "replace"]

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_json_is_json(self, tmp_path, value):
        with pytest.raises(ValueError):
            write_json(tmp_path / "file", {"loss": value})
        assert names(tmp_path) == []


class Row(Record):
    epoch: int
    loss: float = 0.0
    name: str = ""
    pick: int | None = None


class TestRecordLines:
    def test_come_back_as_they_were_written(self, tmp_path):
        lines = RecordLines(tmp_path / "rows.jsonl", Row)
        assert lines.read() == []
        rows = [Row(epoch=1, loss=0.1 + 0.2, name="ü\n"), Row(epoch=2)]
        for row in rows:
            lines.append(row)
        assert lines.read() == rows
        assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 2

    def test_line_that_was_never_finished_is_passed_over_and_cut(self, tmp_path):
        lines = RecordLines(tmp_path / "rows.jsonl", Row)
        lines.append(Row(epoch=1))
        with lines.path.open("a") as file:
            file.write('{"epoch": 2, "lo')
        assert lines.read() == [Row(epoch=1)]
        lines.keep(1)
        lines.append(Row(epoch=2))
        assert lines.read() == [Row(epoch=1), Row(epoch=2)]

    def test_keep_cuts_what_comes_after(self, tmp_path):
        lines = RecordLines(tmp_path / "rows.jsonl", Row)
        for epoch in range(5):
            lines.append(Row(epoch=epoch, loss=epoch / 3))
        assert lines.keep(2) == lines.read() == [Row(epoch=0, loss=0.0), Row(epoch=1, loss=1 / 3)]
        assert lines.keep(9) == lines.read()

    def test_each_line_is_on_disk_before_the_next(self, tmp_path, monkeypatch):
        synced = []
        monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
        lines = RecordLines(tmp_path / "rows.jsonl", Row)
        lines.append(Row(epoch=1))
        size = lines.path.stat().st_size
        lines.append(Row(epoch=2))
        assert synced == [size, 2 * size]
