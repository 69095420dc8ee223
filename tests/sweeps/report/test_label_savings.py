"""Labels needed for common targets, and savings: by hand, with runs that miss the target."""

import numpy as np
import pytest

from sweeps.report.label_savings import Bound, Curve, find_targets, measure

LABELS = np.array([50.0, 100, 200, 400])


def curve(*accuracy, labels=LABELS, **more):
    labels = np.asarray(labels, float)[: len(accuracy)]
    return Curve(labels, labels, np.array(accuracy, float), **more)


def test_a_run_that_misses_a_target_is_censored_and_never_dropped():
    runs = {
        "random": {0: curve(60, 70, 75, 80), 1: curve(60, 68, 74, 79)},
        "margin": {0: curve(60, 75, 80, 85), 1: curve(60, 65, 66, 67)},
    }
    (target,) = find_targets(runs, None, {}, given=[75.0])
    found = measure(target, runs, "random", {})
    reaches = found.need("margin").accuracy
    assert reaches[0].labels == 100
    assert (reaches[1].labels, reaches[1].censored) == (400, True)
    assert found.need("margin").reached == 1
    saving = found.saving("margin", "random")
    assert saving.bound is Bound.AT_MOST
    assert (saving.seeds, saving.fewer, saving.more) == (2, 1, 1)
    # 100 of 200 and at least 400 of 200 + 200 x (75 - 74) / (79 - 74)
    assert saving.percent == pytest.approx(100 * (1 - (100 / 200 * 400 / 240) ** 0.5))


def test_what_random_misses_is_a_saving_of_at_least_so_much():
    runs = {
        "random": {s: curve(60, 70, 74, 76 - (s == 0) * 5) for s in range(3)},
        "margin": {s: curve(60, 75, 80, 85) for s in range(3)},
    }
    (target,) = find_targets(runs, None, {}, given=[75.0])
    saving = measure(target, runs, "random", {}).saving("margin", "random")
    assert saving.bound is Bound.AT_LEAST
    assert saving.percent == pytest.approx(100 * (1 - (100 / 400 * (100 / 300) ** 2) ** (1 / 3)))
    assert np.isnan(saving.high)
    assert not np.isnan(saving.low)


def test_where_both_miss_a_target_nothing_is_said():
    runs = {name: {0: curve(60, 61, 62, 63)} for name in ("random", "margin")}
    (target,) = find_targets(runs, None, {}, given=[75.0])
    saving = measure(target, runs, "random", {}).saving("margin", "random")
    assert saving.bound is Bound.UNKNOWN
    assert np.isnan(saving.percent)


def test_no_human_labels_divide_by_nothing():
    free = {s: Curve(LABELS, np.array([0.0, 50, 150, 350]), np.array([60.0, 70, 80, 90])) for s in range(3)}
    runs = {"random": free, "margin": free}
    (target,) = find_targets(runs, None, {}, given=[55.0])
    found = measure(target, runs, "random", {})
    assert found.by_first_labels
    assert found.saving("margin", "random").percent == 0


@pytest.mark.parametrize(
    "bad", [{"labels": [50, 50, 60]}, {"labels": [60, 50, 70]}, {"labels": [1, 2]}, {"accuracy": [1, np.nan, 2]}]
)
def test_a_curve_that_cannot_be_read_is_refused(bad):
    arrays = {"labels": [50, 60, 70], "accuracy": [1, 2, 3]} | bad
    arrays = {name: np.array(found, float) for name, found in arrays.items()}
    with pytest.raises(ValueError, match="learning curve"):
        Curve(arrays["labels"], arrays["labels"], arrays["accuracy"])
