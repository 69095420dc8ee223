"""One fit to early stopping, and fits that leave a part out; by the learners of a run."""

from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from al.labels import LabelledSet, Rows
from al.learning.early_stopping import EarlyStopping
from al.learning.learner import Learner

if TYPE_CHECKING:
    from al.config import RunConfig

FOLDS = 5


def fit(config: "RunConfig", learner: Learner, labelled: LabelledSet, epochs_before: int = 0) -> int:
    """Train a learner as a run does in one round of schedule=converge; the best epoch's weights are in it then.

    Args:
        epochs_before: of the rounds before, as numbers of epochs address what training draws.

    Returns:
        Epochs so far.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    stopping = EarlyStopping(config.lr)
    for epoch in count(epochs_before + 1):
        evaluation = learner.fit_epoch(labelled, epoch, stopping.lr)
        if len(labelled.val):
            evaluation = learner.evaluate_val(labelled)
        if not np.isfinite(evaluation.loss):
            raise FloatingPointError(f"lr={stopping.lr:g}: the loss is not finite in epoch {epoch}; lower lr")
        rule = {"lr_factor": config.lr_factor, "lr_patience": config.lr_patience}
        if stopping.step(float(evaluation.loss), min_delta=config.min_delta, **rule):
            learner.remember_best()
        over = stopping.stale >= config.patience or epoch - epochs_before >= config.max_epochs
        if config.learner.converges_at_once or over:
            learner.recall_best()
            return epoch
    raise AssertionError("count() has no end")


def predict(learner: Learner, rows: Rows, number: int) -> NDArray[np.float32]:
    """Probabilities [n, C] of `rows`, in their order."""
    order = np.argsort(rows)
    probs = np.empty((0, 0), np.float32)
    if len(rows):
        found = learner.score(rows[order], ("probs",), number)["probs"]
        probs = np.empty_like(found)
        probs[order] = found
    return probs


def trained_on(config: "RunConfig", learner: Learner, rows: Rows, labels: NDArray[np.int64]) -> None:
    """Fit to `rows` alone; `labels` [N] are -1 where unknown. For learners that hold nothing out."""
    nothing = np.empty(0, np.int64)
    fit(config, learner, LabelledSet(np.sort(rows), nothing, labels, nothing))


def cross_fitted(
    config: "RunConfig", learner: Learner, rows: Rows, labels: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """[n] whether each of `rows` is predicted right by a model that was trained on the other folds alone."""
    right = np.zeros(len(rows), bool)
    fold = rng.permutation(len(rows)) % FOLDS
    for number in range(FOLDS):
        left_out = fold == number
        if left_out.any():
            trained_on(config, learner, rows[~left_out], labels)
            right[left_out] = predict(learner, rows[left_out], 0).argmax(1) == labels[rows[left_out]]
    return right
