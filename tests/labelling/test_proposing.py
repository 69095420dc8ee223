"""Rounds through files: the picks of a run, an honest audit, files that are whole."""

import json
import re
import shutil
from pathlib import Path

import launch
import numpy as np
import photos
import pytest
import runs
from PIL import Image

import al
from al.config import RunConfig
from al.errors import UserError
from data_prep.sharded.order import Order
from labelling import contents
from labelling.project import Project
from labelling.proposal_files import Predictions
from labelling.status import sentences, status_of


@pytest.fixture
def learner(folder, truth, features):
    return al.open(folder, features=features, strategy="margin")


def label(learner, picks, truth):
    return learner.accept({pick.path: truth[pick.path] for pick in picks})


@pytest.fixture
def labelled(learner, truth):
    """After a cold start of nine images that were labelled."""
    label(learner, learner.propose(9, classes=photos.CLASSES), truth)
    return learner


def round_folder(learner, number: int) -> Path:
    return learner.project.folder_of(number)


class TestColdStart:
    def test_chooses_by_embeddings_without_a_label(self, learner, truth):
        picks = learner.propose(6)
        assert len({pick.path for pick in picks}) == 6
        assert {pick.path for pick in picks} <= truth.keys()
        assert all(pick.predicted is None for pick in picks)
        assert learner.project.rounds()[0].round == 0

    def test_is_what_a_run_chooses_first(self, learner, folder, truth, features):
        from al.data import DataSet, Embeddings, ImageSet
        from data_prep.first_labels import first_labels

        picks = learner.propose(6)
        proposal = learner.project.rounds()[0]
        config = RunConfig(dataset="imagefolder", model="frozen", features=features, init="typiclust_typical")
        paths = sorted(truth, key=lambda path: path.split("/"))
        vectors = contents.load_contents(_photos(learner), config, learner.project.cache).embeddings
        images = ImageSet(np.zeros((len(paths), 1, 1, 3), np.uint8), np.arange(len(paths)) % 3, photos.CLASSES)
        data = DataSet("own", images, images, "")
        first = first_labels(config, data, np.arange(len(paths)), 6, 0, Embeddings(vectors, vectors))
        assert {pick.path for pick in picks} == {paths[row] for row in first.rows}
        assert proposal.strategy == "typiclust_typical"

    def test_one_class_is_not_enough_to_learn_from(self, learner, truth):
        red = {path: name for path, name in truth.items() if name == "red"}
        learner.accept(dict(list(red.items())[:3]))
        picks = learner.propose(4)
        assert not {pick.path for pick in picks} & set(list(red)[:3])
        assert learner.project.rounds()[-1].trained_on == 0


def _photos(learner):
    from labelling.photos import find_photos

    return find_photos(learner.project.data, learner.project.cache)


@pytest.fixture(scope="module")
def class_folders(tmp_path_factory):
    """Photographs as `train.py` has them, and the class of each training image by its path."""
    folder, rng, truth = tmp_path_factory.mktemp("class_folders"), np.random.default_rng(3), {}
    for split, count in (("train", 40), ("test", 6)):
        for number in range(count):
            name = photos.CLASSES[number % 3]
            path = folder / split / name / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            photos.picture(name, rng).save(path)
            if split == "train":
                truth[f"{name}/{number:03d}.png"] = name
    return folder, truth


class TestPicks:
    @pytest.mark.parametrize("kind", ["frozen", "network"])
    def test_are_those_of_a_run(self, tmp_path, features, class_folders, launcher, kind):
        """The same images as class folders, the same configuration and seeds: `train.py` labels the same, in order."""
        images, truth = class_folders
        given = {
            "frozen": {"model": "frozen", "features": features, "strategy": "badge", "init": "maxherding"},
            "network": {"model": "small_cnn", "weights": "none", "strategy": "entropy", "init": "random"}
            | {"max_epochs": 3, "patience": 1, "lr": 0.003},
        }[kind] | {"device": "cpu"}
        shape = {"variant": "balanced_100", "budget": 24, "initial_min": 9, "batch_fraction": 5 / 24}
        shape |= {"schedule": "converge", "warm_start": "false", "dataset": "imagefolder", "data_dir": images}
        outcome = launcher.run(launch.arguments(**given, **shape, results_dir=tmp_path / "results"))
        assert outcome.code == 0, outcome.stderr
        rounds = runs.read_lines(runs.only_run(tmp_path / "results") / "rounds.jsonl")

        learner = al.open(images / "train", tmp_path / "state", **given)
        sizes = [len(one["paths"]) for one in rounds]
        assert sizes == [9, 5, 5, 5]
        for number, expected in enumerate(rounds):
            picks = learner.propose(sizes[number], classes=photos.CLASSES)
            found = [f"train/{pick.path}" for pick in picks]
            if number == 0:  # which a run writes down in the order of rows
                assert sorted(found) == expected["paths"]
            else:
                assert found == expected["paths"]
                assert [pick.score for pick in picks] == expected["scores"]
                assert [photos.CLASSES.index(pick.predicted) for pick in picks] == expected["predicted"]
            label(learner, picks, truth)

    def test_never_ask_for_what_is_answered(self, labelled, truth):
        skipped = next(path for path in truth if path not in _answered(labelled))
        rows = [{"path": skipped, "label": "", "skip": "blurred"}]
        labelled.accept(photos.write_csv(labelled.project.state / "skip.csv", rows))
        picks = labelled.propose(100)
        assert {pick.path for pick in picks} == truth.keys() - _answered(labelled)
        assert skipped not in {pick.path for pick in picks}

    def test_nearest_is_a_labelled_image(self, labelled):
        known = _answered(labelled)
        assert all(pick.nearest in known for pick in labelled.propose(5))

    def test_nothing_left_is_an_error(self, learner, truth):
        learner.accept(truth)
        with pytest.raises(UserError, match="nothing left to propose"):
            learner.propose(5)

    def test_a_network_from_pixels(self, folder, truth):
        learner = al.open(folder, model="small_cnn", weights="none", augment="false", max_epochs=2, lr=0.003)
        first = learner.propose(18)  # random, as there are no embeddings
        label(learner, first, truth)
        picks = learner.propose(4)
        assert len(picks) == 4
        assert all(pick.nearest in {one.path for one in first} for pick in picks)
        proposal = learner.project.rounds()[-1]
        assert proposal.trained_on == 18
        assert proposal.epochs >= 1

    def test_a_network_needs_images_to_validate_on(self, folder, truth):
        learner = al.open(folder, model="small_cnn", weights="none")
        learner.accept(dict(list(truth.items())[:3]))
        with pytest.raises(UserError, match="too few for model=small_cnn"):
            learner.propose(4)


def _answered(learner) -> set[str]:
    return {event.path for event in learner.project.answers()}


class TestContents:
    def test_round_two_decodes_nothing_again(self, labelled, folder, monkeypatch):
        monkeypatch.setattr(contents, "decoded", lambda path, side: pytest.fail(f"decoded {path} again"))
        labelled.propose(3)
        for path in list(folder.rglob("img_00*.png")):
            path.rename(path.with_name(f"renamed_{path.name}"))
        labelled.propose(3)

    def test_what_comes_later_is_decoded_alone(self, labelled, folder, monkeypatch):
        photos.picture("red", np.random.default_rng(9)).save(folder / "later.png")
        seen, real = [], contents.decoded
        monkeypatch.setattr(contents, "decoded", lambda path, side: (seen.append(path.name), real(path, side))[1])
        picks = labelled.propose(100)
        assert seen == ["later.png"]
        assert "later.png" in {pick.path for pick in picks}

    def test_a_broken_image_is_set_aside_once(self, labelled, folder, truth, monkeypatch):
        whole = (folder / next(iter(truth))).read_bytes()
        (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
        labelled.propose(3)
        (reason,) = labelled.project.rounds()[-1].set_aside
        assert "not a whole image" in reason
        monkeypatch.setattr(contents, "decoded", lambda path, side: pytest.fail(f"tried {path} again"))
        labelled.propose(3)

    def test_a_damaged_shard_is_made_again(self, labelled):
        (shard,) = labelled.project.cache.glob("embeddings-*/*.npz")
        before = [pick.path for pick in labelled.propose(5)]
        shard.write_bytes(shard.read_bytes()[:100])
        labelled.project.folder_of(1).rename(labelled.project.state / "aside")
        assert [pick.path for pick in labelled.propose(5)] == before

    def test_many_images_lie_in_a_file(self, labelled, monkeypatch):
        before = [pick.path for pick in labelled.propose(5)]
        monkeypatch.setattr(contents, "BOUND_BYTES", 100)
        labelled.project.folder_of(1).rename(labelled.project.state / "aside")
        assert [pick.path for pick in labelled.propose(5)] == before


class TestAudit:
    def test_is_random_and_never_learnt_from(self, labelled, truth):
        picks = labelled.propose(3, audit=2)
        audit = [pick for pick in picks if pick.audit]
        assert len(audit) == 2
        reserve = set(labelled.project.audit().sha256)
        assert {pick.sha256 for pick in audit} < reserve
        assert len(reserve) == round(0.2 * 21)
        assert not reserve & {pick.sha256 for pick in picks if not pick.audit}
        label(labelled, picks, truth)
        labelled.propose(3)
        assert labelled.project.rounds()[-1].trained_on == 12
        assert labelled.project.rounds()[-1].labels == 14

    def test_shows_no_one_what_the_model_makes_of_it(self, labelled):
        labelled.propose(3, audit=2)
        folder = round_folder(labelled, 1)
        rows = [row for row in photos.read_csv(folder / "next.csv") if row["audit"]]
        assert len(rows) == 2
        assert all(row["predicted"] == row["probability"] == row["score"] == row["nearest"] == "" for row in rows)
        tasks = json.loads((folder / "label_studio.json").read_text())
        assert all(("predictions" in task) != task["data"]["audit"] for task in tasks)
        assert len(list((folder / "by_class/unsorted").iterdir())) == 2

    def test_the_strategy_takes_none_of_what_is_kept_apart(self, labelled):
        labelled.propose(1, audit=1)
        picks = labelled.propose(100)
        assert not {pick.sha256 for pick in picks} & set(labelled.project.audit().sha256)
        assert len(picks) == 21 - 4

    def test_too_large_names_the_limit(self, labelled):
        with pytest.raises(UserError, match="use 4 or fewer"):
            labelled.propose(1, audit=5)

    def test_accuracy_is_that_of_predictions_made_without_the_label(self, labelled, truth):
        for _ in range(2):
            label(labelled, labelled.propose(3, audit=2), truth)
        labelled.propose(3)
        status = labelled.status()
        assert status.audit_labels == 4
        for point in status.curve:
            proposal = labelled.project.proposal(round_folder(labelled, point.round))
            predicted = Predictions.read(round_folder(labelled, point.round)).by_image()
            audit = [event for event in labelled.project.answers() if event.audit]
            right = [proposal.classes[predicted[event.sha256]] == event.label for event in audit]
            assert point.accuracy.value == pytest.approx(100 * np.mean(right))
        assert any("random images that it has not learnt from" in line for line in sentences(status))

    def test_without_one_cross_validation_is_said_to_be_biased(self, labelled):
        labelled.propose(3)
        assert status_of(labelled.project).accuracy is None
        said = "\n".join(sentences(labelled.status()))
        assert "cross-validation" in said
        assert "biased" in said


class TestFiles:
    def test_table_and_tasks_say_the_same_in_the_same_order(self, labelled):
        picks = labelled.propose(5)
        folder = round_folder(labelled, 1)
        rows, tasks = photos.read_csv(folder / "next.csv"), json.loads((folder / "label_studio.json").read_text())
        assert [row["path"] for row in rows] == [pick.path for pick in picks] == [t["data"]["path"] for t in tasks]
        for row, task in zip(rows, tasks):
            (prediction,) = task["predictions"]
            assert prediction["result"][0]["value"]["choices"] == [row["predicted"]]
            assert float(row["probability"]) == pytest.approx(prediction["score"], abs=1e-4)
            assert task["data"]["image"].startswith("data:image/jpeg;base64,")
        assert 'value="none of the classes"' in (folder / "label_studio.xml").read_text()

    def test_links_lead_to_the_images_and_back(self, labelled, folder, truth):
        picks = {pick.path: pick for pick in labelled.propose(5)}
        tree = round_folder(labelled, 1) / "by_class"
        links = [path for path in tree.rglob("*") if path.is_symlink()]
        assert {str(link.resolve().relative_to(folder.resolve())) for link in links} == picks.keys()
        for link in links:
            right = truth[str(link.resolve().relative_to(folder.resolve()))]
            link.rename(tree / right / link.name)
        outcome = labelled.accept(tree)
        assert outcome.labelled == 5
        assert not outcome.conflicts

    def test_contact_sheet_loads_nothing_and_escapes(self, folder, truth, features):
        evil = "<script>alert(1)<"
        (folder / next(iter(truth))).rename(folder / f"{evil}.png")
        learner = al.open(folder, features=features)
        learner.accept({f"{evil}.png": "a<b>", **dict(list(truth.items())[1:6])})
        learner.propose(8)
        page = (round_folder(learner, 1) / "contact_sheet.html").read_text()
        assert "<script" not in page
        assert "a<b>" not in page
        assert page.count("<img") == 8
        assert "default-src 'none'" in page
        assert not re.search(r'(src|href)="(?!data:|#)', page)

    def test_labels_of_images_that_are_gone_are_said(self, labelled, folder):
        said: list[str] = []
        labelled.say = said.append
        paths = [event.path for event in labelled.project.answers()]
        for path in paths[:2]:
            (folder / path).unlink()
        labelled.propose(3)
        assert labelled.project.rounds()[-1].trained_on == len(paths) - 2
        assert any(line.startswith("2 labels are of images that are not in the folder any more") for line in said)

    def test_class_names_that_are_no_folder_names(self, folder, truth, features):
        learner = al.open(folder, features=features)
        names = dict(zip(photos.CLASSES, ("../up", ".hidden", "a/b")))
        learner.accept({path: names[name] for path, name in list(truth.items())[:8]})
        learner.propose(4)
        tree = round_folder(learner, 1) / "by_class"
        assert {path.name for path in tree.iterdir()} == {"none of the classes", "unsorted"}
        assert len(list((tree / "unsorted").iterdir())) == 4


class TestOptions:
    def test_hold_until_given_anew(self, folder, truth, features):
        al.open(folder, features=features, strategy="entropy").propose(6)
        again = al.open(folder)
        again.accept(dict(list(truth.items())[:8]))
        again.propose(2)
        assert again.project.rounds()[-1].strategy == "entropy"

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"strateg": "margin"}, "did you mean 'strategy'"),
            ({"strategy": "marginn"}, "did you mean 'margin'"),
            ({"strategy": "stratified"}, "chooses nothing"),
            ({"features": "file:x.npz"}, "by position"),
            ({"init": "stratified"}, "needs labels to begin with"),
            ({"budget": 5}, "no parameter of a proposal"),
        ],
    )
    def test_wrong_ones_are_one_line_before_anything_is_made(self, folder, truth, options, said):
        with pytest.raises(UserError, match=said):
            al.open(folder, **options)
        assert not (folder / "al-labels").exists()

    def test_no_such_model_leaves_no_proposal(self, folder, truth, no_network):
        learner = al.open(folder, features="nobody/nothing")
        with pytest.raises(UserError, match="features"):
            learner.propose(3)
        assert not learner.project.rounds()


class TestShardedEmbeddings:
    """Made by `python -m data_prep embed` and found by content."""

    @pytest.fixture
    def made(self, folder, truth, features, tmp_path) -> str:
        order = Order(str(folder), str(tmp_path / "out"), features, image_size=64, dtype="float32", device="cpu")
        list(order.worker().run())
        return f"file:{tmp_path / 'out'}"

    def test_picks_are_those_of_the_model_that_made_them(self, folder, features, made, tmp_path):
        shutil.copytree(folder, tmp_path / "copy")
        by_model = [pick.path for pick in al.open(folder, features=features, image_size=64).propose(5)]
        assert [pick.path for pick in al.open(tmp_path / "copy", features=made, image_size=64).propose(5)] == by_model

    def test_what_has_none_is_set_aside(self, folder, truth, made):
        first, second, *_ = truth
        (folder / first).rename(folder / "renamed.png")
        Image.new("RGB", (64, 64), (1, 2, 3)).save(folder / "new.png")
        said = []
        learner = al.open(folder, features=made, say=said.append)
        picked = {pick.path for pick in learner.propose(len(truth))}
        assert {"renamed.png", second} <= picked
        assert "new.png" not in picked
        assert any(line.startswith("set aside: 1 file, new.png: has no embedding in") for line in said)

    def test_of_other_images_are_refused(self, made, tmp_path):
        (tmp_path / "others").mkdir()
        Image.new("RGB", (64, 64), (1, 2, 3)).save(tmp_path / "others" / "a.png")
        with pytest.raises(UserError, match="has no embedding of any image in"):
            al.open(tmp_path / "others", features=made).propose(1)


def test_project_is_found_by_its_state(labelled, folder):
    assert Project.find(folder, None).rounds() == labelled.project.rounds()
