"""Answers out of files: golden files of each tool, and what is not one of them."""

import json
from pathlib import Path

import pytest

from al.errors import UserError
from labelling.formats import DISAGREE, NONE_OF_THEM, SKIPPED_THERE, read_answers

GOLDEN = Path(__file__).parent / "golden"


def said(source) -> dict[str, tuple[str | None, str | None]]:
    return {answer.where: (answer.label, answer.reason) for answer in read_answers(source)[1]}


class TestCsv:
    def test_golden(self):
        assert said(GOLDEN / "labels.csv") == {
            "a.png": ("red", None),
            "sub dir/b, with comma.png": ("green", None),
            "c.png": (None, "blurred"),
            "d.png": (None, None),
            "e.png": (None, NONE_OF_THEM),
        }

    def test_of_a_spreadsheet(self, tmp_path):
        """A byte order mark, semicolons, other columns and another order."""
        content = "Label;Rank;Path\r\nred;1;a.png\r\n".encode("utf-8-sig")
        (tmp_path / "x.csv").write_bytes(content)
        assert said(tmp_path / "x.csv") == {"a.png": ("red", None)}

    def test_spaces_around_a_name_belong_to_it(self, tmp_path):
        (tmp_path / "x.csv").write_text("path,label\n a.png, red \n")
        _, (answer,) = read_answers(tmp_path / "x.csv")
        assert (answer.names, answer.label) == ((" a.png", "a.png"), "red")

    def test_two_columns_of_one_name_are_refused(self, tmp_path):
        """As where the sheets of two people were put side by side: the second one's answers would hold."""
        (tmp_path / "x.csv").write_text("path,label,Label\na.png,red,blue\n")
        with pytest.raises(UserError, match=r"x\.csv: has 2 columns 'label'; keep the one that holds"):
            read_answers(tmp_path / "x.csv")

    def test_a_quotation_mark_without_its_other_one(self, tmp_path):
        (tmp_path / "x.csv").write_text('path,label\n"a.png,red\n' + "b.png,red\n" * 20_000)
        with pytest.raises(UserError, match=r"x\.csv, line \d+: not CSV .*; is a quotation mark there without"):
            read_answers(tmp_path / "x.csv")

    @pytest.mark.parametrize("content", [b"", b"file,class\na,b\n", b"path\na.png\n", b"path,label\n\xff\xfe\n"])
    def test_else_names_the_columns_or_the_encoding(self, tmp_path, content):
        (tmp_path / "x.csv").write_bytes(content)
        with pytest.raises(UserError, match=r"path and label|UTF-8"):
            read_answers(tmp_path / "x.csv")


class TestLabelStudio:
    def test_golden_export(self):
        assert said(GOLDEN / "label_studio_export.json") == {
            "trip/a.png": ("red", None),
            "trip/b.png": (None, SKIPPED_THERE),
            "trip/c.png": (None, NONE_OF_THEM),
            "trip/d.png": (None, None),
            "trip/e.png": (None, None),
            "/data/upload/3/1f2e3d4c-f.png": ("green", None),
            "/data/local-files/?d=photos/g%20h.png": ("blue", None),
        }

    def test_annotators_who_disagree(self):
        (answer,) = [one for one in read_answers(GOLDEN / "label_studio_export.json")[1] if one.where == "trip/e.png"]
        assert answer.annotator == DISAGREE

    def test_names_and_classes_that_are_numbers(self, tmp_path):
        choice = {"type": "choices", "value": {"choices": [7]}}
        task = {"data": {"path": 5, "image": ""}, "annotations": [{"result": [choice]}]}
        (tmp_path / "export.json").write_text(json.dumps([task]))
        _, (answer,) = read_answers(tmp_path / "export.json")
        assert (answer.names, answer.label) == (("5",), "7")

    @pytest.mark.parametrize("who", [7, {"id": 7, "email": "somebody@example.org", "first_name": "Some"}])
    def test_people_are_numbers_in_every_version(self, tmp_path, who):
        choice = {"type": "choices", "value": {"choices": ["red"]}}
        task = {"data": {"path": "a.png"}, "annotations": [{"result": [choice], "completed_by": who}]}
        minimal = {"path": "a.png", "label": "red", "annotator": who}
        (tmp_path / "export.json").write_text(json.dumps([task, minimal]))
        assert [answer.annotator for answer in read_answers(tmp_path / "export.json")[1]] == ["7", "7"]

    @pytest.mark.parametrize("several", [{"choices": ["red", "blue"]}, ["red", "blue"]])
    def test_several_classes_of_a_minimal_export_are_none(self, tmp_path, several):
        tasks = [{"path": "a.png", "label": several}, {"path": "b.png", "label": {"choices": ["red"]}}]
        (tmp_path / "export.json").write_text(json.dumps(tasks))
        _, (both, one) = read_answers(tmp_path / "export.json")
        assert (both.label, both.annotator) == (None, DISAGREE)
        assert one.label == "red"

    def test_of_before_version_1(self, tmp_path):
        choice = {"type": "choices", "value": {"choices": ["red"]}}
        (tmp_path / "x.json").write_text(
            json.dumps([{"data": {"path": "a.png"}, "completions": [{"result": [choice]}]}])
        )
        assert said(tmp_path / "x.json") == {"a.png": ("red", None)}

    @pytest.mark.parametrize(
        ("task", "message"),
        [
            ({"path": "a.png", "animal": "cat", "annotator": 1}, "none of its answers is called label or choice"),
            (
                {"data": {}, "annotations": [{"result": [{"type": "taxonomy", "value": {}}]}]},
                "its answers are of type taxonomy, not choices",
            ),
        ],
    )
    def test_answers_of_another_interface_are_not_passed_over(self, tmp_path, task, message):
        (tmp_path / "x.json").write_text(json.dumps([task, task]))
        with pytest.raises(UserError, match=rf"x\.json: {message}; answer .* with the interface label_studio\.xml"):
            read_answers(tmp_path / "x.json")

    @pytest.mark.parametrize("digest", [["0"], 5, {}])
    def test_a_digest_that_is_none_is_no_crash(self, tmp_path, digest):
        task = {"data": {"path": "a.png", "sha256": digest}, "annotations": []}
        (tmp_path / "x.json").write_text(json.dumps([task]))
        assert hash(read_answers(tmp_path / "x.json")[1][0])

    def test_who_said_it(self):
        by = {answer.where: answer.annotator for answer in read_answers(GOLDEN / "label_studio_export.json")[1]}
        assert by["trip/a.png"] == "1"

    def test_addresses_tell_the_name(self):
        names = {one.where: one.names for one in read_answers(GOLDEN / "label_studio_export.json")[1]}
        assert "f.png" in names["/data/upload/3/1f2e3d4c-f.png"]
        assert names["/data/local-files/?d=photos/g%20h.png"] == ("photos/g h.png",)

    @pytest.mark.parametrize("address", ["/data/local-files/?d=trip/12345678-a.png", "s3://bucket/trip/12345678-a.png"])
    def test_only_an_upload_has_another_name(self, tmp_path, address):
        (tmp_path / "export.json").write_text(json.dumps([{"data": {"image": address}, "annotations": []}]))
        _, (answer,) = read_answers(tmp_path / "export.json")
        assert answer.names == ("trip/12345678-a.png",)

    def test_golden_minimal_export(self):
        assert said(GOLDEN / "label_studio_min.json") == {"trip/a.png": ("red", None), "trip/b.png": (None, None)}

    @pytest.mark.parametrize("content", ["", "[1, 2]", '{"a": ', '"text"'])
    def test_else_says_which_export(self, tmp_path, content):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(UserError, match="JSON-MIN"):
            read_answers(tmp_path / "x.json")


class TestFolders:
    def test_golden_of_cvat(self):
        kind, answers = read_answers(GOLDEN / "cvat_folders")
        assert kind == "class folders"
        assert {answer.where: answer.label for answer in answers} == {
            "red/red_a.png": "red",
            "green/sub/b.png": "green",
            "no_label/c.png": None,
        }
        assert {answer.names for answer in answers} == {("red_a.png", "a.png"), ("sub/b.png",), ("c.png",)}
        assert all(answer.content for answer in answers)

    def test_golden_of_cvat_without_images(self):
        kind, _ = read_answers(GOLDEN / "cvat_lists")
        assert kind == "CVAT"
        assert said(GOLDEN / "cvat_lists") == {
            "trip/a.png": ("green", None),
            "b.jpg": ("red", None),
            "with space.png": ("red", None),
            "unlabelled.png": (None, None),
        }

    @pytest.mark.parametrize("name", ["synsets.txt", "default.txt"])
    def test_of_cvat_in_another_encoding_is_one_line(self, tmp_path, name):
        (tmp_path / "synsets.txt").write_text("cat\n")
        (tmp_path / "default.txt").write_text("a.jpg 0\n")
        (tmp_path / name).write_bytes(b"K\xe4fer.jpg 0\n")
        with pytest.raises(UserError, match=f"{name}: cannot be read as UTF-8"):
            read_answers(tmp_path)


class TestAnythingElse:
    def test_nothing_there(self, tmp_path):
        with pytest.raises(UserError, match=r"by_clas: cannot be read \(no such file or folder\)"):
            read_answers(tmp_path / "by_clas")

    def test_names_the_forms(self, tmp_path):
        (tmp_path / "x.xml").write_text("<annotations/>")
        for source in (tmp_path / "x.xml", tmp_path / "none.csv", tmp_path):
            with pytest.raises(UserError, match=r"class\s?folders|cannot be read"):
                read_answers(source)

    def test_an_archive_is_to_be_unpacked(self, tmp_path):
        import zipfile

        with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
            archive.writestr("red/a.png", b"")
        with pytest.raises(UserError, match="unpack"):
            read_answers(tmp_path / "task.zip")


def test_golden_files_are_valid_json():
    for path in GOLDEN.glob("*.json"):
        json.loads(path.read_text())
