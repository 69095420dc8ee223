"""Metrics against scikit-learn's, and calibration against its definition."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from al.learning.metrics import (
    Evaluation,
    by_class,
    class_entropy,
    confidence_bins,
    confusion_matrix,
    expected_calibration_error,
)
from al.records import scores_of

rng = np.random.default_rng(0)
CASES = {
    "ordinary": (rng.integers(0, 5, 300), rng.integers(0, 5, 300)),
    "all right": (np.arange(5).repeat(3), np.arange(5).repeat(3)),
    "all wrong": (np.arange(5), (np.arange(5) + 1) % 5),
    "class 4 never occurs nor is predicted": (rng.integers(0, 4, 100), rng.integers(0, 4, 100)),
    "class 4 is predicted and never occurs": (rng.integers(0, 4, 100), rng.integers(0, 5, 100)),
    "class 4 occurs and is never predicted": (rng.integers(0, 5, 100), rng.integers(0, 4, 100)),
    "imbalanced": (rng.choice(5, 500, p=[0.9, 0.04, 0.03, 0.02, 0.01]), rng.integers(0, 5, 500)),
    "one image": (np.array([2]), np.array([3])),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_confusion_is_true_by_predicted(case):
    true, predicted = case
    assert np.array_equal(
        confusion_matrix(true, predicted, 5), oracle.confusion_matrix(true, predicted, labels=range(5))
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_summary_is_scikit_learns(case):
    true, predicted = case
    found = scores_of(Evaluation(confusion_matrix(true, predicted, 5), 1.5))
    macro = {"average": "macro", "zero_division": 0}
    assert found == pytest.approx(
        {
            "loss": 1.5,
            "accuracy": 100 * oracle.accuracy_score(true, predicted),
            "balanced_accuracy": 100 * oracle.balanced_accuracy_score(true, predicted),
            "precision": oracle.precision_score(true, predicted, **macro),
            "recall": oracle.recall_score(true, predicted, **macro),
            "f1-score": oracle.f1_score(true, predicted, **macro),
        }
    )


def test_each_class_is_scikit_learns(case):
    true, predicted = case
    each = by_class(confusion_matrix(true, predicted, 5), tuple("abcde"), support=True)
    found = {name: [values[name] for values in each.values()] for name in each["a"]}
    expected = oracle.precision_recall_fscore_support(true, predicted, labels=range(5), zero_division=0)
    for name, values in zip(("precision", "recall", "f1-score", "support"), expected):
        assert found[name] == pytest.approx(values), name
    one_against_rest = [100 * np.mean((true == c) == (predicted == c)) for c in range(5)]
    assert found["accuracy"] == pytest.approx(one_against_rest)


def test_by_class_names_the_classes_and_holds_plain_numbers():
    found = by_class(confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2), ("cat", "dog"), support=True)
    assert list(found) == ["cat", "dog"]
    assert found["cat"] == pytest.approx(
        {"precision": 1.0, "recall": 0.5, "f1-score": 2 / 3, "accuracy": 200 / 3, "support": 2}
    )
    assert all(type(value) in (int, float) for metrics in found.values() for value in metrics.values())
    assert "support" not in by_class(np.eye(2, dtype=int), ("cat", "dog"))["cat"]


def slow_ece(probs, true, bins):
    """Guo et al. 2017, equations 2 to 5, word for word: bins ((m - 1) / M, m / M]."""
    confidence, hit = probs.max(1), probs.argmax(1) == true
    total = 0.0
    for m in range(1, bins + 1):
        inside = [i for i in range(len(true)) if (m - 1) / bins < confidence[i] <= m / bins]
        if inside:
            gap = abs(np.mean([hit[i] for i in inside]) - np.mean([float(confidence[i]) for i in inside]))
            total += len(inside) / len(true) * gap
    return total


class TestCalibration:
    @pytest.mark.parametrize("sharpness", [0.1, 1, 5])
    def test_is_its_definition(self, sharpness):
        logits = rng.normal(size=(400, 4)) * sharpness
        probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        true = rng.integers(0, 4, 400)
        assert expected_calibration_error(probs, true) == pytest.approx(slow_ece(probs, true, 15))
        assert expected_calibration_error(probs, true, bins=7) == pytest.approx(slow_ece(probs, true, 7))

    def test_bins_count_every_image_once_and_those_that_are_right(self):
        probs = np.float32([[0.5, 0.5], [0.61, 0.39], [0.95, 0.05], [0.02, 0.98], [0.0, 1.0]])
        found = confidence_bins(probs, np.array([0, 1, 0, 1, 0]), bins=10)
        assert found.images.tolist() == [0, 0, 0, 0, 1, 0, 1, 0, 0, 3]
        assert found.right.tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 2]
        np.testing.assert_allclose(found.confidence[[4, 6, 9]], [0.5, 0.61, 2.93], rtol=1e-6)

    def test_certain_and_always_right_is_perfect(self):
        assert expected_calibration_error(np.eye(3, dtype=np.float32), np.arange(3)) == 0

    def test_certain_and_always_wrong_is_the_worst(self):
        assert expected_calibration_error(np.eye(3, dtype=np.float32), (np.arange(3) + 1) % 3) == pytest.approx(1)

    def test_a_coin_that_knows_itself(self):
        probs = np.tile(np.float32([0.5, 0.5]), (10, 1))
        assert expected_calibration_error(probs, np.arange(10) % 2) == pytest.approx(0)

    def test_no_images(self):
        assert expected_calibration_error(np.empty((0, 3), np.float32), np.empty(0, np.int64)) == 0


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([0, 1, 2, 3] * 5, 1.0), ([2] * 9, 0.0), ([0, 1] * 5, 0.5), ([0, 0, 0, 1], 0.8112781 / 2), ([], 0.0)],
)
def test_class_entropy_is_a_share_of_the_largest(labels, expected):
    assert class_entropy(np.array(labels, dtype=np.int64), 4) == pytest.approx(expected)
