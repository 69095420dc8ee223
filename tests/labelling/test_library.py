"""The interface for notebooks: what people write there is taken as they mean it."""

from pathlib import Path

import pytest

import al
from al.errors import UserError
from labelling.project import holding


@pytest.fixture
def learner(folder, truth):
    return al.open(folder)


def labels(learner):
    return {event.path: event.label for event in holding(learner.project.answers()).values()}


@pytest.mark.parametrize("form", [str, Path, lambda path: f"./{path}"])
def test_paths_in_the_folder_of_any_form(learner, truth, form):
    first, second = list(truth)[:2]
    outcome = learner.accept({form(first): "red", form(second): None})
    assert (outcome.labelled, outcome.unanswered) == (1, 1)
    assert labels(learner) == {first: "red"}


def test_paths_from_elsewhere(learner, folder, truth):
    first = next(iter(truth))
    assert learner.accept({folder / first: "red"}).labelled == 1


def test_classes_that_are_numbers(learner, truth):
    first = next(iter(truth))
    assert learner.accept({first: 7}).new_classes == ["7"]
    assert labels(learner) == {first: "7"}


@pytest.mark.parametrize("classes", ["cat, dog", ["cat", "dog"]])
def test_classes_as_on_the_command_line(learner, classes, monkeypatch):
    def stop(*_):
        raise UserError("enough")

    monkeypatch.setattr("labelling.proposing.propose", stop)
    with pytest.raises(UserError, match="enough"):  # by then they are written down
        learner.propose(1, classes=classes)
    assert learner.project.settings.classes == ["cat", "dog"]
