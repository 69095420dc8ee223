"""The yardstick of the benchmarks computes what the suite computes."""

import subprocess
import sys

import launch
import numpy as np
import pytest
import torch
from report_results import World, write_cells
from tf32 import TensorCores, allowed

from al.fast.switch import PARTS
from al.runtime import Runtime
from al.strategies import REGISTRY
from al.threads import CHOICES
from benchmarks import (
    ablation,
    duplicates,
    registry,
    scoring,
    synthetic,
    training_step,
    usual,
    verdict_digits,
    whole_run,
)
from benchmarks.measuring import Measurement, Spread, Target, line
from benchmarks.sides import Sides, ours_from
from sweeps.report.csv_runs import write_csv
from sweeps.report.load import load_results


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


def test_gradients_agree_more_closely_without_tf32(sides):
    """cuDNN's TF32, which torch has on as it comes and a run of float32 has not, is what would use up the tolerance."""
    apart = {}
    for on in (False, True):
        with TensorCores(), allowed(on):
            said = training_step.check(sides, *synthetic.images(16))
        apart[on] = float(said.rpartition(" ")[2])
    assert apart[False] < training_step.TOLERANCE / 50
    assert apart[True] > 10 * apart[False]


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


def test_every_part_has_its_columns():
    assert set(ablation.TOUCHES) == set(PARTS)
    assert {column for columns in ablation.TOUCHES.values() for column in columns} == set(ablation.COLUMNS)


def test_what_a_part_buys_is_compared_within_a_turn():
    """A machine that is three times as slow in the second turn changes nothing."""
    sides = {"all": 1.0, "folding": 1.5, "none": 4.0}
    drift = (1, 3, 2)
    taken = {
        side: {column: [ablation.Seconds(slow * factor, factor) for slow in drift] for column in ablation.COLUMNS}
        for side, factor in sides.items()
    }
    lines = ablation.table(taken)
    assert lines[1].split()[:3] == ["folding", "1.50x", "(1.50x)"]
    assert lines[2].split()[-2:] == ["4.00x", "(4.00x)"]
    assert len(lines) == 3
    assert "buys under 5 %" in ablation.table({"all": taken["all"], "zeros": taken["all"]})[1]


def test_what_is_timed_without_a_part_is_named():
    """`none` is a value of the variable, not a part that is left out."""
    turn = {column: [ablation.Seconds(1.0, 1.0)] for column in ablation.COLUMNS}
    rows = ablation.measurements({"all": turn, "folding": turn, "none": turn})
    assert {row.conditions for row in rows} == {"AL_FAST=-folding", "AL_FAST=none"}


def test_the_selection_that_is_timed_selects():
    ablation._select(synthetic.features(2 * ablation.BATCH))


SEES_TORCH = """
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            print(name, os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Watch())
"""


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["-m", "benchmarks.scoring", "--help"], "passive"),
        (["-m", "benchmarks.check", "--help"], "passive"),
        (["-c", "import benchmarks, torch"], "None"),
    ],
)
def test_threads_of_every_benchmark_sleep_while_they_wait(command, expected, tmp_path):
    """Python imports the package before any of its programs, so that none can forget it; an import changes nothing."""
    (tmp_path / "sitecustomize.py").write_text(SEES_TORCH)
    env = launch.environment(**dict.fromkeys(CHOICES), PYTHONPATH=str(tmp_path))
    done = subprocess.run([sys.executable, *command], cwd=launch.ROOT, env=env, capture_output=True, text=True)
    assert done.stdout == f"torch {expected}\n", done.stderr


def test_copies_are_bought_where_scores_are_ranked_and_not_where_the_pool_is_covered():
    digits = duplicates.Digits.load()
    assert duplicates.one_run(digits, "margin", 0)[0] == 75, "three of four"
    assert duplicates.one_run(digits, "maxherding", 0)[0] == 0
    assert 0 < duplicates.one_run(digits, "margin, power", 0)[0] < 20


def test_curves_of_digits_are_run_by_the_registry():
    rng, (images, labels) = np.random.default_rng(0), duplicates.Digits.load()[:2]
    first = rng.choice(np.arange(len(images) - verdict_digits.TEST), 50, replace=False)
    curve = verdict_digits.learning_curve(images, labels, first, "margin", [0])
    assert len(curve) == len(verdict_digits.LABELS)
    assert 50 < curve[0] < curve[-1] < 100


@pytest.fixture
def published_runs(tmp_path):
    """Runs of five seeds in which margin is ahead of random sampling by 5 points, and entropy behind by as many."""
    world = World(effects={"margin": 5.0, "entropy": -5.0}, noise=0.2)
    common = {"variant": "balanced_1", "pool_scope": "variant", "initial_min": 50}
    write_cells(tmp_path / "results", world, ("random", "margin", "entropy"), **common)
    write_csv(load_results(tmp_path / "results").runs, tmp_path / "csv")
    return tmp_path / "csv"


def test_the_registrys_verdict_is_drawn_from_published_runs_alone(published_runs, tmp_path, capsys):
    registry.main([f"--runs={published_runs}", f"--figure={tmp_path / 'registry.png'}"])
    out = capsys.readouterr().out
    assert "### balanced_1, from 50 labels: 5 split seeds\n" in out
    assert "- ahead of random: `margin`\n- behind random: `entropy`\n" in out
    assert (tmp_path / "registry.png").stat().st_size > 10_000


def test_a_folder_without_runs_is_one_line(tmp_path, capsys):
    assert registry.main([f"--runs={tmp_path}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_published_runs_tell_of_every_strategy_and_each_starts_from_the_same_labels():
    analyses = registry.settings_of(registry.RUNS)
    everybody = {name for name in REGISTRY if name != "stratified"} | {"typiclust_typical,margin"}
    for analysis in analyses:
        cells = analysis.setting.cells
        assert {cell.strategy for cell in cells} == everybody
        for seed in cells[0].by_seed:
            firsts = [cell.by_seed[seed].epochs[0].test["accuracy"] for cell in cells if seed in cell.by_seed]
            assert np.ptp(firsts) < 0.05, "more than 1 and 2 threads round apart, which is one test image in 10,000"
