"""The names under which W&B shows a record."""

import pytest
import runs

from al.records import EpochRecord
from al.storage.run_folder import RunFolder
from al.tracking import projection


def test_area_is_the_mean_accuracy_over_log_labels(offline_run):
    (row, *_) = RunFolder(offline_run.folder).epochs.read()
    points = [(10, 50.0), (20, 60.0), (80, 80.0)]
    curve = [row.model_copy(update={"labels": n, "best": True, "test": {"accuracy": a}}) for n, a in points]
    assert projection.curve_summary(curve) == pytest.approx({"curve/area": (55 + 2 * 70) / 3})
    assert projection.curve_summary(curve[:1]) == {}


def test_class_names_that_would_share_a_key_do_not():
    assert projection.class_keys(["a.b", "a_b", "c", "a/b"]) == {"a.b": "a_b", "a_b": "a_b_1", "c": "c", "a/b": "a_b_3"}

    keys = projection.class_keys(["a_b_2", "a.b", "a_b"])
    assert len(set(keys.values())) == 3, "a number may make it the key of another class"


def test_class_names_cannot_break_metric_names(offline_run):
    (row, *_) = runs.read_lines(offline_run.folder / "epochs.jsonl")
    row["per_class"] = {"v1.0/left": row["per_class"]["0"]}
    row["labels_by_class"] = {"v1.0/left": 3}
    metrics = projection.epoch_metrics(EpochRecord.model_validate(row))
    assert metrics["class/v1_0_left/f1"] == row["per_class"]["v1.0/left"]["f1-score"]
    assert metrics["labels_by_class/v1_0_left"] == 3
