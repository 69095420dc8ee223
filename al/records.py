"""The lines of `epochs.jsonl` and `rounds.jsonl`, built from what the loop knows."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from al.labels import Labelled
from al.learning.metrics import Evaluation, by_class, class_entropy
from al.run_state import RunState
from al.storage.files import Row

BEST_EPOCH_GROUPS = {
    "train": "training_metrics_for_best_epoch",
    "val": "validation_metrics_for_best_epoch",
    "test": "test_metrics",
}
"""Split -> its group in `performance_metrics.json`."""


def label_counts(labelled: Labelled, truth: NDArray[np.int64], classes: tuple[str, ...]) -> Row:
    """How many labels there are: in all, by people, free ones, wrong ones; by class as given, wrong ones by true class.

    Args:
        truth: [N] true labels of the training set, for the report only.
    """
    counts = labelled.counts_by_class(len(classes))
    wrong = labelled.mask & (labelled.given != truth)
    return {
        "labels": labelled.count,
        "human_labels": labelled.count - len(labelled.free),
        "free_labels": len(labelled.free),
        "wrong_labels": int(wrong.sum()),
        "labels_by_class": dict(zip(classes, counts.tolist())),
        "wrong_labels_by_class": {name: int(wrong[truth == i].sum()) for i, name in enumerate(classes)},
    }


def epoch_row(
    state: RunState,
    evaluations: Mapping[str, Evaluation],
    truth: NDArray[np.int64],
    classes: tuple[str, ...],
    *,
    pool_size: int,
    lr: float,
    best: bool,
) -> Row:
    """One line of `epochs.jsonl`, but for `seconds`, `pick` and `curve`, which are known at its end."""
    return {
        "epoch": state.epoch,
        "round": state.round,
        **label_counts(state.labelled, truth, classes),
        "train_size": len(state.labelled.train),
        "val_size": len(state.labelled.val),
        "pool_size": pool_size,
        "lr": lr,
        **{split: evaluation.metrics for split, evaluation in evaluations.items()},
        "per_class": by_class(evaluations["test"].confusion, classes),
        "pick": None,
        "curve": None,
        "best": best,
        "time": time.time(),
    }


def in_full(epoch: int, evaluations: Mapping[str, Evaluation], classes: tuple[str, ...]) -> Row:
    """The metrics of one epoch with per-class figures and confusion matrices, as the result files hold them."""
    return {"epoch": epoch} | {
        BEST_EPOCH_GROUPS[split]: evaluation.metrics
        | {
            "per_class": by_class(evaluation.confusion, classes, support=True),
            "confusion_matrix": evaluation.confusion.tolist(),
        }
        for split, evaluation in evaluations.items()
    }


def round_row(
    state: RunState,
    rows: NDArray[np.int64],
    truth: NDArray[np.int64],
    classes: tuple[str, ...],
    *,
    scores: NDArray[np.float32] | None = None,
    predicted: NDArray[np.int64] | None = None,
) -> Row:
    """One line of `rounds.jsonl`, but for its `seconds`; the state is that after labelling.

    Args:
        rows: [k] what was labelled, in order of preference.
        truth: [N] true labels of the training set.
        scores: [k] NaN where the strategy has none.
        predicted: [k] class that the model, or the zero-shot labeller, gave each.
    """
    return {
        "round": state.round,
        "epoch": state.epoch,
        **label_counts(state.labelled, truth, classes),
        "rows": rows.tolist(),
        "scores": [None] * len(rows) if scores is None else [None if np.isnan(s) else float(s) for s in scores],
        "true": truth[rows].tolist(),
        "predicted": [None] * len(rows) if predicted is None else predicted.tolist(),
        "seconds": {},
    }


def pick_statistics(acquired: Row, classes: int) -> dict[str, Any]:
    """What `pick/*` shows of one acquisition."""
    scores = [score for score in acquired["scores"] if score is not None]
    return {
        "mean_score": float(np.mean(scores)) if scores else None,
        "class_entropy": class_entropy(np.array(acquired["true"]), classes),
        "duplicates": len(acquired["rows"]) - len(set(acquired["rows"])),
    }


def learning_curve(epochs: Sequence[Row]) -> list[Row]:
    """For every label count the line of the epoch whose weights stood for it, in order of labels.

    That is the best epoch of its fit. In the study's schedule a fit is one epoch until the budget is spent.
    """
    at: dict[int, Row] = {}
    for row in epochs:
        if row["best"] or row["labels"] not in at:
            at[row["labels"]] = row
    return [at[labels] for labels in sorted(at)]
