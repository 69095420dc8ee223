"""What one pass over labelled images says of a model, from its confusion matrix, losses and probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = Mapping[str, float]
"""Metrics by the names of `al.records.METRICS`."""
ClassScores = Mapping[str, Mapping[str, float]]
"""Metrics of single classes: {class: {metric: value}}."""


@dataclass(frozen=True)
class Evaluation:
    """One pass over N labelled images, reduced to what metrics are computed from."""

    confusion: NDArray[np.int64]
    """[C, C] counts, rows the true class, columns the predicted one."""
    loss: float
    """Mean of -log p of the true class."""
    probs: NDArray[np.float32] | None = None
    """[N, C] class probabilities; None for a training pass, which keeps none."""
    true: NDArray[np.int64] | None = None
    """[N] true classes, beside `probs`."""


def confusion_matrix(true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """[C, C] counts, rows the true class, columns the predicted one."""
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)


@dataclass(frozen=True)
class ConfidenceBins:
    """N images by how sure the model is of its class, in B bins of equal width from 0 to 1."""

    images: NDArray[np.int64]
    """[B]"""
    right: NDArray[np.int64]
    """[B] those of them whose class is the predicted one."""
    confidence: NDArray[np.float64]
    """[B] sum of the highest probabilities."""


def confidence_bins(probs: NDArray[np.float32], true: NDArray[np.int64], bins: int = 15) -> ConfidenceBins:
    """Count N images by confidence; probs [N, C], true [N]."""
    confidence, hit = probs.max(1).astype(np.float64), probs.argmax(1) == true
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    images, right = np.bincount(index, minlength=bins), np.bincount(index[hit], minlength=bins)
    return ConfidenceBins(images, right, np.bincount(index, confidence, minlength=bins))


def expected_calibration_error(probs: NDArray[np.float32], true: NDArray[np.int64], bins: int = 15) -> float:
    """sum_b |B_b| / N |accuracy(B_b) - confidence(B_b)| over equal-width bins of confidence (Guo et al. 2017).

    probs [N, C], true [N] -> a fraction; 0 for no images.
    """
    if not len(true):
        return 0.0
    found = confidence_bins(probs, true, bins)
    return float(np.abs(found.right - found.confidence).sum() / len(true))


# One function a metric; each is a row of `al.records.METRICS`.


def mean_loss(evaluation: Evaluation) -> float:
    return float(evaluation.loss)


def accuracy(evaluation: Evaluation) -> float:
    """Percent of the images whose class is predicted."""
    return 100 * float(_ratio(np.trace(evaluation.confusion), evaluation.confusion.sum()))


def balanced_accuracy(evaluation: Evaluation) -> float:
    """Percent: mean recall of the classes that occur."""
    return 100 * _mean(_recall(evaluation.confusion)[evaluation.confusion.sum(1) > 0])


def macro_precision(evaluation: Evaluation) -> float:
    return _macro(_precision(evaluation.confusion), evaluation.confusion)


def macro_recall(evaluation: Evaluation) -> float:
    return _macro(_recall(evaluation.confusion), evaluation.confusion)


def macro_f1(evaluation: Evaluation) -> float:
    return _macro(_f1(evaluation.confusion), evaluation.confusion)


def calibration_error(evaluation: Evaluation) -> float | None:
    """As `expected_calibration_error`; None without probabilities."""
    return None if evaluation.probs is None else expected_calibration_error(evaluation.probs, evaluation.true)


def by_class(confusion: NDArray[np.int64], classes: tuple[str, ...], *, support: bool = False) -> ClassScores:
    """Precision, recall, F1 and one-against-rest accuracy (percent) of each class; 0 where undefined.

    Args:
        support: also the number of images of each class.
    """
    hits, actual, predicted, total = np.diag(confusion), confusion.sum(1), confusion.sum(0), confusion.sum()
    each = {
        "precision": _precision(confusion),
        "recall": _recall(confusion),
        "f1-score": _f1(confusion),
        "accuracy": 100 * _ratio(total - (actual + predicted - 2 * hits), np.full_like(hits, total)),
    }
    if support:
        each["support"] = actual
    return {name: {key: values[i].item() for key, values in each.items()} for i, name in enumerate(classes)}


def class_entropy(labels: NDArray[np.int64], classes: int) -> float:
    """Entropy of a class mix as a share of the largest possible: 1 for a balanced mix, 0 for one class."""
    shares = np.bincount(labels, minlength=classes) / max(len(labels), 1)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum() / np.log(classes)) + 0.0 if classes > 1 else 0.0


def _precision(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    return _ratio(np.diag(confusion), confusion.sum(0))


def _recall(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    return _ratio(np.diag(confusion), confusion.sum(1))


def _f1(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    return _ratio(2 * np.diag(confusion), confusion.sum(0) + confusion.sum(1))


def _macro(each: NDArray[np.float64], confusion: NDArray[np.int64]) -> float:
    """The mean over the classes that occur or are predicted."""
    return _mean(each[(confusion.sum(0) + confusion.sum(1)) > 0])


def _ratio(numerator, denominator):
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=np.asarray(denominator) > 0)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
