"""The state folder: found again, held by one process at a time, whole after a kill."""

import json
import multiprocessing
import os
import time

import pytest

from al.errors import HeldElsewhere, UserError
from labelling.project import Project
from labelling.records import LabelEvent


def event(number: int) -> LabelEvent:
    return LabelEvent(kind="label", sha256=f"{number:064x}", path=f"{number}.png", label="red", origin="test")


def hold(state, ready, done):
    with Project.read(state).locked("propose"):
        ready.set()
        done.wait(30)


class TestCreate:
    def test_and_again(self, folder, truth):
        first = Project.create(folder)
        assert Project.create(folder).settings == first.settings
        assert first.data.resolve() == folder.resolve()

    def test_moves_with_the_images(self, folder, truth):
        Project.create(folder)
        folder.rename(folder.with_name("moved"))
        assert Project.find(folder.with_name("moved"), None).data == folder.with_name("moved")

    def test_a_folder_that_is_not_utf8_is_refused(self, folder, tmp_path):
        """Its name could be written down, but not read again."""
        bad = tmp_path / os.fsdecode(b"caf\xe9")
        bad.mkdir()
        folder.mkdir()
        for places in ((bad, None), (folder, bad)):
            with pytest.raises(UserError, match=r"caf\\xe9: a name that is not UTF-8; rename the folder"):
                Project.create(*places)

    def test_state_elsewhere_belongs_to_one_folder(self, folder, truth, tmp_path):
        Project.create(folder, tmp_path / "state")
        (tmp_path / "other").mkdir()
        with pytest.raises(UserError, match="belongs to the images in"):
            Project.create(tmp_path / "other", tmp_path / "state")

    def test_no_such_folder(self, tmp_path):
        with pytest.raises(UserError, match="no such folder"):
            Project.create(tmp_path / "none")


class TestFind:
    def test_from_a_file_below_or_from_the_folder(self, folder, truth, tmp_path):
        state = Project.create(folder).state
        for near in (state / "proposals/round_001/next.csv", folder / "2024", folder):
            assert Project.find(None, None, near).state.resolve() == state.resolve()
        with pytest.raises(UserError, match="--data=DIR"):
            Project.find(None, None, tmp_path)

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"classes": 3}'])
    def test_a_damaged_file_is_one_line(self, folder, truth, content):
        project = Project.create(folder)
        (project.state / "project.json").write_text(content)
        with pytest.raises(UserError, match="not what was written"):
            Project.find(folder, None)


def started_holder(project):
    """A process that has the project's lock, and the event that ends it."""
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(project.state, ready, done))
    other.start()
    assert ready.wait(30)
    return other, done


class TestLocked:
    def test_the_second_says_who_holds_it(self, folder, truth):
        project = Project.create(folder)
        other, done = started_holder(project)
        with pytest.raises(HeldElsewhere, match=rf"process {other.pid} on .*propose, since"), project.locked("accept"):
            pass
        done.set()
        other.join()
        with project.locked("accept"):
            assert json.loads((project.state / "holder.json").read_text())["pid"] == os.getpid()
        assert not (project.state / "holder.json").exists()

    def test_what_another_wrote_meanwhile_is_kept(self, folder, truth):
        mine, other = Project.create(folder), Project.create(folder)
        with other.locked("propose"):
            other.save(other.settings.model_copy(update={"options": {"strategy": "badge"}, "classes": ["red"]}))
        with mine.locked("accept"):
            mine.save(mine.settings.model_copy(update={"classes": [*mine.settings.classes, "blue"]}))
        found = Project.read(mine.state).settings
        assert (found.options, found.classes) == ({"strategy": "badge"}, ["red", "blue"])

    def test_a_killed_holder_holds_nothing(self, folder, truth):
        project = Project.create(folder)
        other, _ = started_holder(project)
        other.kill()
        other.join()
        with project.locked("accept"):
            pass

    def test_sweeps_a_torn_line_before_the_next_is_added(self, folder, truth):
        project = Project.create(folder)
        project.events.append_all([event(1), event(2)])
        whole = project.events.path.read_bytes()
        project.events.path.write_bytes(whole + whole[:40])
        with project.locked("accept"):
            project.events.append_all([event(3)])
        assert [one.path for one in project.answers()] == ["1.png", "2.png", "3.png"]

    def test_a_line_that_is_no_answer_is_said_and_never_dropped(self, folder, truth):
        project = Project.create(folder)
        project.events.path.write_text('{"kind": "guess"}\n')
        with pytest.raises(UserError, match="a line is no answer"):
            project.answers()
        assert project.events.path.read_text()


def test_time_is_that_of_the_answer():
    assert abs(event(1).time - time.time()) < 60
