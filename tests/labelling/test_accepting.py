"""Answers come back: each is said and counted, and nothing is lost or overwritten."""

import os
import shutil
from pathlib import Path

import numpy as np
import photos
import pytest

from al.errors import UserError
from labelling.accepting import Rules, accept, lines, locate, take
from labelling.formats import DISAGREE
from labelling.photos import find_photos
from labelling.project import Project, holding
from labelling.records import Answer


@pytest.fixture
def project(folder, truth):
    return Project.create(folder)


@pytest.fixture
def some(truth):
    """Three paths, one of each class."""
    return [next(path for path, label in truth.items() if label == name) for name in photos.CLASSES]


def csv_of(tmp_path, rows):
    return photos.write_csv(tmp_path / "labels.csv", [{"path": path, "label": label} for path, label in rows.items()])


def labels(project):
    return {event.path: event.label for event in holding(project.answers()).values()}


class TestAccept:
    def test_labels_with_origin_and_time(self, project, tmp_path, some, truth):
        outcome = accept(project, csv_of(tmp_path, {path: truth[path] for path in some}))
        assert (outcome.labelled, outcome.known) == (3, 0)
        assert outcome.new_classes == list(photos.CLASSES)
        assert labels(project) == {path: truth[path] for path in some}
        events = project.answers()
        assert {event.origin for event in events} == {f"CSV: {tmp_path.name}/labels.csv"}
        assert all(event.time > 1.7e9 and not event.proposed for event in events)

    def test_the_same_again_changes_nothing(self, project, tmp_path, some, truth):
        source = csv_of(tmp_path, {path: truth[path] for path in some})
        accept(project, source)
        before = project.events.path.read_bytes()
        outcome = accept(project, source)
        assert (outcome.labelled, outcome.known) == (0, 3)
        assert project.events.path.read_bytes() == before

    def test_unknown_images_and_classes_are_said(self, project, tmp_path, some, truth):
        accept(project, csv_of(tmp_path, {path: truth[path] for path in some}))
        others = [path for path in truth if path not in some]
        outcome = accept(project, csv_of(tmp_path, {others[0]: "gren", others[1]: "red", "nowhere.png": "red"}))
        assert outcome.labelled == 1
        assert outcome.unknown_images == ["nowhere.png"]
        assert outcome.unknown_classes == [f"{others[0]}: 'gren'; did you mean 'green'?"]
        said = "\n".join(lines(outcome))
        assert "1 not taken, no such image" in said
        assert "--new_classes" in said

    def test_new_classes_where_allowed(self, project, tmp_path, some, truth):
        accept(project, csv_of(tmp_path, {path: truth[path] for path in some}))
        other = next(path for path in truth if path not in some)
        outcome = accept(project, csv_of(tmp_path, {other: "violet"}), Rules(new_classes=True))
        assert outcome.new_classes == ["violet"]
        assert labels(project)[other] == "violet"

    def test_a_conflict_keeps_both_and_uses_the_earlier(self, project, tmp_path, some):
        accept(project, csv_of(tmp_path, dict(zip(some, photos.CLASSES))))
        source = csv_of(tmp_path, {some[0]: "red"})
        outcome = accept(project, source)
        assert outcome.conflicts == [f"{some[0]}: earlier and now 'blue' and 'red'; the earlier one holds"]
        assert labels(project)[some[0]] == "blue"
        assert [event.label for event in project.answers() if event.kind == "disputed"] == ["red"]
        accept(project, source)
        assert len(project.answers()) == 4, "the same dispute is written down once"

    def test_replace_has_the_new_one_hold_and_forgets_nothing(self, project, tmp_path, some):
        accept(project, csv_of(tmp_path, dict(zip(some, photos.CLASSES))))
        outcome = accept(project, csv_of(tmp_path, {some[0]: "red"}), Rules(replace=True))
        assert (outcome.replaced, outcome.conflicts) == (1, [])
        assert labels(project)[some[0]] == "red"
        assert [event.label for event in project.answers()] == ["blue", "green", "red", "red"]

    def test_skips_keep_their_reason(self, project, tmp_path, some):
        rows = [
            {"path": path, "label": "", "skip": why} for path, why in zip(some, ("unreadable", "unreadable", "dark"))
        ]
        outcome = accept(project, photos.write_csv(tmp_path / "x.csv", rows))
        assert outcome.skipped == {"unreadable": 2, "dark": 1}
        assert outcome.labelled == 0

    def test_two_answers_of_one_file_for_one_content(self, project, tmp_path, folder, some):
        shutil.copy(folder / some[0], folder / "copy.png")
        outcome = accept(project, csv_of(tmp_path, {some[0]: "blue", "copy.png": "red", some[1]: "green"}))
        assert outcome.labelled == 1
        assert "'blue' and 'red'" in outcome.conflicts[0]

    @pytest.mark.parametrize(
        ("said", "holds"),
        [
            ([{"label": "dark"}, {"reason": "dark"}], None),  # a class and a skip of the same name
            ([{"label": "red"}, {"annotator": DISAGREE}], None),
            ([{"annotator": DISAGREE}, {"label": "red"}], None),
            ([{"reason": "dark"}, {"reason": "blurred"}], "skip"),  # skipped, whatever the reason
        ],
    )
    def test_two_answers_of_one_file_that_differ_are_none(self, project, some, said, holds):
        photos_there = find_photos(project.data, project.cache)
        answers = [Answer(some[0], (some[0],), **answer) for answer in said]
        outcome = take(project, photos_there, "file", answers, Rules(new_classes=True))
        assert [event.kind for event in project.answers()] == ([holds] if holds else [])
        assert len(outcome.conflicts) == (holds is None)

    def test_a_class_that_only_a_conflict_names_is_none(self, project, some):
        answers = [Answer(some[0], (some[0],), label=label) for label in ("red", "rde")]
        take(project, find_photos(project.data, project.cache), "file", answers, Rules(new_classes=True))
        assert Project.read(project.state).settings.classes == []

    def test_a_class_folder_that_is_not_utf8_spoils_nothing(self, project, tmp_path, folder, truth):
        place = tmp_path / "sorted" / os.fsdecode(b"caf\xe9")
        place.mkdir(parents=True)
        shutil.copy(folder / next(iter(truth)), place)
        with pytest.raises(UserError, match=r"the name of the class 'caf\\.*' is not UTF-8; rename it"):
            accept(project, tmp_path / "sorted")
        assert Project.read(project.state).answers() == []

    def test_answers_out_of_a_folder_that_is_not_utf8(self, project, tmp_path, some):
        place = tmp_path / os.fsdecode(b"caf\xe9")
        place.mkdir()
        assert accept(project, csv_of(place, {some[0]: "red"})).labelled == 1
        assert labels(Project.read(project.state)) == {some[0]: "red"}

    def test_a_file_of_other_images_is_an_error(self, project, tmp_path):
        with pytest.raises(UserError, match="none of its 2 images"):
            accept(project, csv_of(tmp_path, {"x.png": "red", "y.png": "red"}))
        assert not project.answers()


class TestLocate:
    def test_a_renamed_image_keeps_its_label(self, project, tmp_path, folder, some):
        accept(project, csv_of(tmp_path, dict(zip(some, photos.CLASSES))))
        (folder / some[0]).rename(folder / "renamed.png")
        found = find_photos(folder, project.cache)
        assert found.by_path["renamed.png"].sha256 in holding(project.answers())

    def test_class_folders_by_content_wherever_they_are(self, project, tmp_path, folder, truth):
        for number, (path, label) in enumerate(truth.items()):
            (tmp_path / "sorted" / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / path, tmp_path / "sorted" / label / f"{number}.png")
        assert accept(project, tmp_path / "sorted").labelled == len(truth)
        assert labels(project) == truth

    def test_class_folders_in_the_folder_of_images_itself(self, project, folder, truth):
        """Those of the images, `unlabelled`, and the state, which is no class."""
        for number, (path, label) in enumerate(truth.items()):
            place = folder / (label if number % 2 else "unlabelled") / f"{number}.png"
            place.parent.mkdir(exist_ok=True)
            (folder / path).rename(place)
        for name in ("2024", "2025/trip", "2025"):
            (folder / name).rmdir()
        outcome = accept(project, folder)
        assert (outcome.labelled, outcome.unanswered) == (15, 15)
        assert outcome.new_classes == list(photos.CLASSES)

    def test_class_folders_of_cvat_by_name_where_it_saved_anew(self, project, tmp_path, folder, truth):
        from PIL import Image

        for path, label in truth.items():
            (tmp_path / "task" / label).mkdir(parents=True, exist_ok=True)
            name = f"{label}_{path.rpartition('/')[2]}"
            Image.open(folder / path).save(tmp_path / "task" / label / name, compress_level=1)
        assert accept(project, tmp_path / "task").labelled == len(truth)
        assert labels(project) == truth

    def test_lists_of_cvat_name_images_without_their_ending(self, project, tmp_path, folder, truth):
        first, second = list(truth)[:2]
        (folder / second).rename(folder / second.replace(".png", ".PNG"))
        (tmp_path / "task").mkdir()
        (tmp_path / "task" / "synsets.txt").write_text("red\ngreen\n")
        (tmp_path / "task" / "default.txt").write_text(f"{first[:-4]} 0\n{second[:-4]} 1\n")
        assert accept(project, tmp_path / "task").labelled == 2
        assert labels(project) == {first: "red", second.replace(".png", ".PNG"): "green"}

    def test_a_photo_of_that_name_in_another_folder_is_another_photo(self, project, folder, truth):
        """Cameras give the same names again: an answer about trip/img_000.png says nothing of 2023/img_000.png."""
        found = find_photos(folder, project.cache)
        first = next(path for path in truth if path.startswith("2025/trip/"))
        name = first.rpartition("/")[2]
        asked = [Answer("u", (f"2023/{name}",), label="red"), Answer("v", (f"/old/2025/trip/{name}",), label="green")]
        outcome = take(project, found, "x", asked)
        assert outcome.unknown_images == ["u"]
        assert labels(project) == {first: "green"}
        assert outcome.by_name == []

    def test_whole_paths_tell_images_of_one_name_apart(self, folder, truth, tmp_path, monkeypatch):
        """However the folder of images was named: from here, from the root, or where the labels were made."""
        first = next(path for path in truth if path.startswith("2025/trip/"))
        name = first.rpartition("/")[2]
        photos.picture("red", np.random.default_rng(78)).save(folder / "2024" / name)
        monkeypatch.chdir(tmp_path)
        found = find_photos(Path("photos"), tmp_path / "cache")
        for said in (str(folder / first), f"photos/{first}", f"./{first}", f"trip/{name}", f"/mnt/photos/{first}"):
            assert locate(found, Answer(said, (said,))).path == first
        assert locate(found, Answer(name, (name,))) is None

    def test_what_only_a_file_name_tells_is_said(self, project, tmp_path, folder, truth):
        """A folder of other images whose names are the same: 0001.jpg is in every data set."""
        name = next(iter(truth)).rpartition("/")[2]
        (tmp_path / "other" / "red").mkdir(parents=True)
        photos.picture("green", np.random.default_rng(79)).save(tmp_path / "other" / "red" / name)
        outcome = accept(project, tmp_path / "other")
        assert outcome.by_name == [f"red/{name} is {next(iter(truth))}"]
        said = "\n".join(lines(outcome))
        assert "1 found by their file name alone (look whether they are these images):" in said
        assert f"red/{name} is {next(iter(truth))}" in said
        outcome = accept(
            project, csv_of(tmp_path, {path: truth[path] for path in list(truth)[1:4]}), Rules(False, True)
        )
        assert outcome.by_name == []

    def test_a_name_that_two_images_have_is_none_of_them(self, project, folder, truth):
        first = next(iter(truth))
        photos.picture("red", np.random.default_rng(77)).save(folder / first.rpartition("/")[2])
        found = find_photos(folder, project.cache)
        name = first.rpartition("/")[2]
        by_name = take(
            project, found, "x", [Answer("u", (f"elsewhere/{name}",), label="red"), Answer("v", (first,), label="red")]
        )
        assert by_name.unknown_images == ["u"]

    def test_an_image_that_was_changed_since_is_another(self, project, folder, truth):
        first, second = list(truth)[:2]
        found = find_photos(folder, project.cache)
        asked = [
            Answer(first, (first,), "0" * 64, "red"),
            Answer(second, (second,), found.by_path[second].sha256, "red"),
        ]
        outcome = take(project, found, "x", asked)
        assert (outcome.labelled, outcome.unknown_images) == (1, [first])
