"""Metrics of one pass, all from its confusion matrix, its losses and its probabilities."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Metrics = dict[str, Any]


class Evaluation(NamedTuple):
    """Headline metrics of one pass and the counts they come from."""

    metrics: Metrics
    confusion: NDArray[np.int64]


HEADLINE = ("loss", "accuracy", "balanced_accuracy", "precision", "recall", "f1-score", "ece")
"""Scalars of `summarise`; accuracies in percent, the rest as fractions, macro-averaged over the classes."""


def confusion_matrix(true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """[C, C] counts, rows the true class, columns the predicted one."""
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)


def per_class(confusion: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """[C] precision, recall, f1-score, accuracy (percent, (TP + TN) / N) and support; 0 where undefined."""
    hits, support, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    total = confusion.sum()
    wrong = support + predicted - 2 * hits
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1-score": _ratio(2 * hits, support + predicted),
        "accuracy": 100 * _ratio(total - wrong, np.full_like(hits, total)),
        "support": support,
    }


def summarise(confusion: NDArray[np.int64], loss: float, ece: float | None = None) -> Metrics:
    """The headline metrics of one pass; macro averages run over the classes that occur or are predicted."""
    each = per_class(confusion)
    seen = (confusion.sum(0) + confusion.sum(1)) > 0
    present = confusion.sum(1) > 0
    metrics = {
        "loss": float(loss),
        "accuracy": 100 * float(_ratio(np.trace(confusion), confusion.sum())),
        "balanced_accuracy": 100 * _mean(each["recall"][present]),
        "precision": _mean(each["precision"][seen]),
        "recall": _mean(each["recall"][seen]),
        "f1-score": _mean(each["f1-score"][seen]),
    }
    return metrics if ece is None else metrics | {"ece": float(ece)}


def by_class(confusion: NDArray[np.int64], classes: tuple[str, ...], *, support: bool = False) -> dict[str, Metrics]:
    """`per_class` as {class: {metric: value}}."""
    each = per_class(confusion)
    if not support:
        del each["support"]
    return {name: {key: values[i].item() for key, values in each.items()} for i, name in enumerate(classes)}


def expected_calibration_error(probs: NDArray[np.float32], true: NDArray[np.int64], bins: int = 15) -> float:
    """sum_b |B_b| / N |accuracy(B_b) - confidence(B_b)| over equal-width bins of confidence (Guo et al. 2017).

    probs [N, C], true [N] -> a fraction; 0 for no images.
    """
    if not len(true):
        return 0.0
    confidence, hit = probs.max(1).astype(np.float64), probs.argmax(1) == true
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, hit, minlength=bins) - np.bincount(index, confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(true))


def class_entropy(labels: NDArray[np.int64], classes: int) -> float:
    """Entropy of a class mix as a share of the largest possible: 1 for a balanced mix, 0 for one class."""
    shares = np.bincount(labels, minlength=classes) / max(len(labels), 1)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum() / np.log(classes)) + 0.0 if classes > 1 else 0.0


def _ratio(numerator, denominator):
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=np.asarray(denominator) > 0)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
