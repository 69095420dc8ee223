"""A run's records under the names that W&B shows: the one place where these names are made. Imports no wandb."""

from collections.abc import Iterable

import numpy as np

from al.records import CURVE_METRICS, METRICS, PHASES, SPLITS, EpochRecord, RunResult, learning_curve

EPOCH, ROUND, LABELS, HUMAN_LABELS = "epoch", "round", "labels", "human_labels"
WRONG_LABELS, LR, BEST = "wrong_labels", "lr", "best"
CURVE_ACCURACY, CURVE_LOSS, CURVE_F1 = "curve/accuracy", "curve/loss", "curve/f1"
"""Test metrics at the end of a fit, of its best epoch: one point of the learning curve for each label count."""
CURVE_AREA = "curve/area"
TEST_ACCURACY, TEST_LOSS, TEST_F1 = "test/accuracy", "test/loss", "test/f1"
CLASS_METRICS = {"precision": "precision", "recall": "recall", "f1": "f1-score"}
SUMMARY = (
    "labels_used",
    "human_labels_used",
    "wrong_labels_used",
    "training_time_seconds",
    "total_epochs",
    "reached_baseline",
    "peak_memory_mb",
)
PICK_SHEET = "pick/sheet"
PICKS = "picks"
"""Table of everything that was labelled."""
CONFUSION = "confusion/test"
NO_DOTS = str.maketrans({".": "_", "/": "_"})  # W&B reads a dot as nesting and a slash as a section


def class_keys(classes: Iterable[str]) -> dict[str, str]:
    """Class name -> its part of a W&B key; names that would share one, as `a.b` and `a_b`, are numbered."""
    keys: dict[str, str] = {}
    for number, name in enumerate(classes):
        key = name.translate(NO_DOTS)
        while key in keys.values():
            key = f"{key}_{number}"
        keys[name] = key
    return keys


def epoch_metrics(record: EpochRecord) -> dict[str, float]:
    """One line of `epochs.jsonl` as the flat names that W&B shows."""
    shown = {name: getattr(record, name) for name in (EPOCH, ROUND, LABELS, HUMAN_LABELS, WRONG_LABELS, LR)}
    for split in SPLITS:
        shown |= {f"{split}/{METRICS[name].key}": value for name, value in record.scores(split).items()}
    labels = class_keys(record.per_class)
    for name, values in record.per_class.items():
        label = labels[name]
        shown |= {f"class/{label}/{metric}": values[key] for metric, key in CLASS_METRICS.items()}
        shown[f"labels_by_class/{label}"] = record.labels_by_class[name]
        if record.free_labels:
            shown[f"wrong_labels_by_class/{label}"] = record.wrong_labels_by_class[name]
    shown |= {f"seconds/{name}": record.seconds.get(name, 0.0) for name in PHASES}
    if record.pick:
        shown |= {f"pick/{name}": value for name, value in record.pick if value is not None}
    if record.curve:
        shown |= {f"curve/{METRICS[name].key}": record.curve[name] for name in CURVE_METRICS}
    return shown | {BEST: record.best}


def summary_of(result: RunResult) -> dict[str, object]:
    """W&B's summary of a complete run: every split's metrics of the best epoch, also as `best/*`, and its costs."""
    shown: dict[str, object] = {"best/epoch": result.best.epoch, "best_epoch": result.best.epoch}
    for split, found in result.best.splits.items():
        scores = {f"{split}/{METRICS[name].key}": value for name, value in found.scores.items()}
        shown |= scores | {f"best/{name}": value for name, value in scores.items()}
    known = {name: value for name in SUMMARY if (value := getattr(result, name)) is not None}
    if result.reached_baseline:
        shown["labels_to_target"] = result.labels_used
    return shown | known | {"data": result.data.model_dump()}


def curve_summary(epochs: Iterable[EpochRecord]) -> dict[str, float]:
    """Area under the learning curve over log labels, divided by its width: the mean test accuracy, in percent."""
    curve = learning_curve(epochs)
    if len(curve) < 2:
        return {}
    labels = np.log([point.labels for point in curve])
    accuracy = np.array([point.test["accuracy"] for point in curve])
    area = ((accuracy[1:] + accuracy[:-1]) / 2 * np.diff(labels)).sum()
    return {CURVE_AREA: float(area / (labels[-1] - labels[0]))}


def pairs(confusion: list[list[int]]) -> tuple[list[int], list[int]]:
    """True and predicted class of every image that a confusion matrix counts."""
    true, predicted = [], []
    for i, row in enumerate(confusion):
        for j, count in enumerate(row):
            true += [i] * count
            predicted += [j] * count
    return true, predicted
