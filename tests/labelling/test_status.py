"""What the status says of labels, from what was written down: no model is trained here."""

import numpy as np
import pytest

from labelling.accepting import Rules, take
from labelling.photos import find_photos
from labelling.project import Project
from labelling.proposal_files import Predictions, write_proposal
from labelling.records import Answer, Pick, Proposal
from labelling.status import sentences, status_of
from labelling.status_page import write_page

AS_EVER = Rules()


@pytest.fixture
def project(folder, truth):
    return Project.create(folder)


def say(project, path, rules=AS_EVER, **answer):
    take(project, find_photos(project.data, project.cache), "test", [Answer(path, (path,), **answer)], rules)


def test_labels_since_the_last_model(project, truth):
    """Neither an image that was skipped afterwards nor one that is gone makes the count wrong."""
    first, second, third, *_ = truth
    say(project, first, label="red")
    say(project, second, label="blue")
    photos = find_photos(project.data, project.cache)
    made = Proposal(
        round=1, strategy="margin", config={}, classes=["blue", "red"], trained_on=2, labels=2, images=30, picks=[]
    )
    probs = [np.full((len(photos.photos), 2), 0.5, np.float32)]
    write_proposal(project, made, Predictions.of([photo.sha256 for photo in photos.photos], probs), "data")
    assert status_of(project).since == 0

    say(project, first, Rules(replace=True), reason="blurred")
    assert status_of(project).since == 0
    assert not any("come since" in sentence for sentence in sentences(status_of(project)))
    say(project, third, label="red")
    assert status_of(project).since == 1


def test_one_model_is_a_row_of_the_table_and_no_picture(project, truth):
    photos = find_photos(project.data, project.cache)
    path = next(iter(truth))
    asked = [Pick(path=path, sha256=photos.by_path[path].sha256, rank=1, audit=True)]
    known = {"labels": 10, "trained_on": 10, "classes": ["blue", "red"], "images": 30}
    made = Proposal(round=1, strategy="margin", config={}, picks=asked, **known)
    probs = [np.tile(np.array([0.1, 0.9], np.float32), (len(photos.photos), 1))]
    write_proposal(project, made, Predictions.of([photo.sha256 for photo in photos.photos], probs), "data")
    say(project, path, label="red")
    page = write_page(project, status_of(project)).read_text()
    assert "<h2>Rounds</h2>" in page
    assert "Learning curve" not in page


@pytest.mark.parametrize("first", [0.1, 0.9])
def test_where_the_curve_goes_is_said_of_models_that_err(project, truth, first):
    """The first of three models takes every image for red, as all are, or for blue."""
    paths = list(truth)[:4]
    photos = find_photos(project.data, project.cache)
    digests = [photo.sha256 for photo in photos.photos]
    asked = [
        Pick(path=path, sha256=photos.by_path[path].sha256, rank=rank, audit=True) for rank, path in enumerate(paths, 1)
    ]
    for number, labels in enumerate((10, 20, 40), 1):
        known = {"labels": labels, "trained_on": labels, "classes": ["blue", "red"], "images": 30}
        made = Proposal(round=number, strategy="margin", config={}, picks=asked, **known)
        blue = first if number == 1 else 0.1
        probs = [np.tile(np.array([blue, 1 - blue], np.float32), (len(digests), 1))]
        write_proposal(project, made, Predictions.of(digests, probs), "data")
    for path in paths:
        say(project, path, label="red")
    status = status_of(project, target=90)
    page = write_page(project, status).read_text()
    assert "Accuracy by labels" in page
    assert ("a power law fitted to the points" in page) == (first > 0.5)
    assert status.accuracy.value == 100
    said = " ".join(sentences(status))
    assert ("90 % would take" in said) == (first > 0.5)
    assert ("that takes audit images that some model gets wrong" in said) == (first < 0.5)
