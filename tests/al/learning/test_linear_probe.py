"""The head of `model=frozen`: the optimum that scikit-learn finds, scored as it was fitted."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from al.config import RunConfig
from al.data import DataSet, Embeddings, ImageSet
from al.labels import LabelledSet
from al.learning.learner import new_learner
from al.learning.linear_probe import LinearProbe, _mean_and_std
from al.records import scores_of
from al.storage.blocks import RowsOf, gather

CLASSES = 4


def problem(n=300, d=12, classes=CLASSES, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    centres = 2 * rng.standard_normal((CLASSES, d))
    vectors = (centres[labels] + rng.standard_normal((n, d))) * np.geomspace(0.1, 30, d) + 5
    return vectors.astype(np.float32), labels


def learner(vectors, labels, **parameters) -> LinearProbe:
    config = RunConfig.from_mapping(
        {"dataset": "digits", "model": "frozen", "features": "file:e.npz", "device": "cpu"} | parameters
    )
    images = ImageSet(np.zeros((len(labels), 1, 1, 3), np.uint8), labels, tuple("abcd"))
    data, embeddings = DataSet("made", images, images, "f"), Embeddings(vectors, vectors)
    return new_learner(config, data, embeddings, Path(tempfile.gettempdir()))


def labelled(labels, rows) -> LabelledSet:
    state = LabelledSet.empty(len(labels))
    state.train = np.asarray(rows)
    state.assigned_labels[rows] = labels[rows]
    return state


@pytest.mark.parametrize("weight_decay", [1e-3, 1e-2, 0.3])
@pytest.mark.parametrize("class_weights", [False, True])
def test_the_head_is_scikit_learns_optimum(weight_decay, class_weights):
    """scikit-learn minimises the sum of losses + |w|^2 / 2C; its bias is made a weight, so that it is penalised too."""
    vectors, labels = problem()
    rows = np.concatenate([np.flatnonzero(labels == 0)[:40], np.flatnonzero(labels > 0)[:30]])
    ours = learner(vectors, labels, weight_decay=weight_decay, class_weights=class_weights)
    ours.fit_epoch(labelled(labels, rows), 1, 0.1)
    scaled = (vectors - vectors.mean(0)) / vectors.std(0) / np.sqrt(vectors.shape[1])
    padded = np.hstack([scaled, np.ones((len(scaled), 1))])
    theirs = LogisticRegression(
        C=1 / (weight_decay * len(rows)),
        fit_intercept=False,
        class_weight="balanced" if class_weights else None,
        tol=1e-8,
        max_iter=10_000,
    ).fit(padded[rows], labels[rows])
    found = ours.score(np.arange(len(vectors)), ("probs",), 1)["probs"]
    np.testing.assert_allclose(found, theirs.predict_proba(padded), atol=2e-3)


def test_without_weight_decay_nobody_is_told_of_an_optimum():
    """Classes that can be separated: the loss falls for ever as the head grows."""
    (note,) = learner(*problem(), weight_decay=0).notes
    assert note.startswith("weight_decay=0: ")
    assert "no optimum" in note
    assert not learner(*problem(), weight_decay=1e-6).notes


def test_a_fit_does_not_depend_on_those_before_it():
    vectors, labels = problem()
    fresh, used = learner(vectors, labels), learner(vectors, labels)
    used.fit_epoch(labelled(labels, np.arange(60)), 1, 0.1)
    for one in (fresh, used):
        one.fit_epoch(labelled(labels, np.arange(30, 130)), 2, 0.1)
    for a, b in zip(fresh.model.parameters(), used.model.parameters()):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_classes_without_labels_and_a_single_label_are_no_trouble():
    vectors, labels = problem(classes=2)
    for rows in (np.arange(50), np.array([3])):
        one = learner(vectors, labels)
        evaluation = one.fit_epoch(labelled(labels, rows), 1, 0.1)
        probs = one.score(np.arange(len(vectors)), ("probs",), 1)["probs"]
        assert np.isfinite(probs).all()
        assert np.isfinite(evaluation.loss)
        assert probs[:, 2:].mean() < probs[rows, labels[rows]].mean()


def test_dimensions_without_spread_count_for_nothing():
    vectors, labels = problem()
    with_constant = np.hstack([vectors, np.full((len(vectors), 1), 7, np.float32)])
    one = learner(with_constant, labels)
    one.fit_epoch(labelled(labels, np.arange(100)), 1, 0.1)
    assert one.model.head.weight[:, -1].abs().max() == 0


def test_the_evaluation_of_a_fit_is_that_of_its_head():
    vectors, labels = problem()
    one = learner(vectors, labels)
    rows = np.arange(80)
    fitted = one.fit_epoch(labelled(labels, rows), 1, 0.1)
    probs = one.score(rows, ("probs",), 1)["probs"]
    assert scores_of(fitted)["accuracy"] == pytest.approx(100 * (probs.argmax(1) == labels[rows]).mean())
    assert fitted.loss == pytest.approx(-np.log(probs[rows, labels[rows]]).mean(), abs=1e-4)


def test_statistics_in_blocks_are_those_of_the_whole(monkeypatch):
    monkeypatch.setattr("al.learning.linear_probe.STATISTICS_ROWS", 37)
    vectors = problem()[0].astype(np.float16)
    mean, std = _mean_and_std(vectors)
    np.testing.assert_allclose(mean, vectors.astype(np.float64).mean(0), rtol=1e-9)
    np.testing.assert_allclose(std, vectors.astype(np.float64).std(0), rtol=1e-9)


@pytest.mark.parametrize("array", ["probs", "mc_probs", "activations"])
def test_an_offset_of_all_embeddings_changes_nothing(array):
    """Dropout and gradients look at what the head was fitted on, which is centred."""
    vectors, labels = problem()
    found = []
    for offset in (0, 50):
        one = learner(vectors + np.float32(offset), labels)
        one.fit_epoch(labelled(labels, np.arange(60)), 1, 0.1)
        found.append(one.score(np.arange(len(vectors)), (array,), 1)[array])
    np.testing.assert_allclose(found[0], found[1], atol=2e-3)


@pytest.mark.parametrize("bound", [0, 2**20])
def test_features_of_some_rows_are_copied_only_where_they_are_small(bound, monkeypatch):
    monkeypatch.setattr("al.learning.network_learner.BOUND_BYTES", bound)
    vectors, labels = problem()
    stored = vectors.astype(np.float16)
    one, rows = learner(stored, labels), np.flatnonzero(np.arange(300) % 7 > 0)
    one.fit_epoch(labelled(labels, np.arange(60)), 1, 0.1)
    found = one.score(rows, ("features",), 1)["features"]
    assert isinstance(found, RowsOf) is (bound == 0)
    np.testing.assert_array_equal(gather(found, np.arange(len(rows))), stored[rows].astype(np.float32))
    assert one.score(np.arange(300), ("features",), 1)["features"] is stored
