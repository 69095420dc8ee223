"""What the status says of labels, from what was written down: no model is trained here."""

import numpy as np
import pytest

from labelling.accepting import Rules, take
from labelling.photos import find_photos
from labelling.project import Project
from labelling.proposal_files import Predictions, write_proposal
from labelling.records import Answer, Proposal
from labelling.status import sentences, status_of

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
