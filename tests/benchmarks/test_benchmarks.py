"""The yardstick of the benchmarks computes what the suite computes."""

import pytest
import torch

from al.runtime import Runtime
from benchmarks import scoring, synthetic, training_step, usual, whole_run
from benchmarks.measuring import Measurement, Spread, Target, line
from benchmarks.sides import Sides, ours_from


@pytest.fixture(scope="module")
def sides():
    theirs = usual.efficientnet_b0(synthetic.CLASSES)
    images, _ = synthetic.images(16)
    with torch.no_grad():  # statistics for batch normalisation
        theirs.train()(pixel_values=torch.stack([usual.FOR_SCORING(image) for image in images]))
    runtime = Runtime(torch.device("cpu"), torch.float32)
    return Sides(theirs, ours_from(theirs, runtime), runtime)


def test_both_sides_score_alike(sides):
    assert "probabilities within" in scoring.check(sides, *synthetic.images(16))


def test_both_sides_train_alike(sides):
    assert "loss of one batch within" in training_step.check(sides, *synthetic.images(16))


def test_a_difference_ends_the_benchmark(sides):
    with torch.no_grad():
        sides.ours.head.bias[0] += 1
    with pytest.raises(SystemExit, match="error: probabilities and features differ"):
        scoring.check(sides, *synthetic.images(16))


def test_schedule_is_the_studys():
    epochs = list(whole_run.schedule())
    assert [epoch.labels for epoch in epochs[:3]] == [500, 750, 1000]
    assert sum(epoch.acquires for epoch in epochs) == 18
    assert epochs[18:] == [whole_run.Epoch(5000, False)] * 11


@pytest.mark.parametrize(
    ("unit", "ours", "usual", "ratio", "reached"),
    [("images/s", 30, 10, 3, True), ("images/s", 20, 10, 2, False), ("s", 10, 30, 3, True), ("s", 10, 20, 2, False)],
)
def test_a_ratio_says_how_many_times_better_ours_is(unit, ours, usual, ratio, reached):
    measured = Measurement("it", unit, Spread.of([ours]), Spread.of([usual]), Target("ratio", 2.5))
    assert measured.ratio == ratio
    assert measured.reached is reached
    assert f"{ratio:.2f}x" in line(measured.row())


@pytest.mark.parametrize(
    ("unit", "ours", "reached"), [("s", 6, True), ("s", 7, False), ("%", 6, True), ("%", 5, False)]
)
def test_a_value_keeps_its_limit(unit, ours, reached):
    assert Measurement("it", unit, Spread.of([ours]), target=Target("value", 6)).reached is reached
