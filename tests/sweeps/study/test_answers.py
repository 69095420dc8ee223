"""The README's tables and its analysis are what the published runs say."""

import numpy as np
import pytest
from report_results import World, write_cells, write_study

from sweeps.report.analysis import accuracy
from sweeps.report.cells import organise
from sweeps.report.csv_runs import load_csv, write_csv
from sweeps.report.load import load_results
from sweeps.report.statistics import FAILS, HOLDS
from sweeps.study.__main__ import main
from sweeps.study.answers import answers, cell, saved, saved_by_accuracy, until_baseline
from sweeps.study.claims import claims

THREE = ("uncertainty", "margin", "typiclust")
SEEDS = (12, 34, 56)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The study, its control, and CLIP's start on a smaller pool at the study's label counts, as CSV."""
    results, folder = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("csv")
    world = World(noise=0.2)
    write_study(results, world, SEEDS)
    write_cells(results, world, ("random",), SEEDS, variant="balanced_10")
    write_cells(results, world, ("random",), SEEDS, variant="imbalanced_10_1", stop="baseline")
    smaller = World(noise=0.2, train=10_000, clip_cost=3.0, fingerprint="e" * 64)
    for percent in (50, 15):
        for init in ("clip", "stratified"):
            write_cells(results, smaller, THREE, SEEDS, variant=f"balanced_{percent}", init=init)
    write_csv(load_results(results).runs, folder)
    return folder


@pytest.fixture(scope="module")
def page(published):
    return list(answers(load_csv(published)))


def of_the_study(published):
    return [run for run in load_csv(published).runs if run.data.train == 50_000]


def test_accuracies_are_the_means_of_the_runs(published, page):
    runs = cell(of_the_study(published), variant="balanced_10", strategy="margin", init="stratified")
    assert [run.seed for run in runs] == list(SEEDS)
    values = [accuracy(run) for run in runs]
    (row,) = [line for line in page if line.startswith("| 10 % | 5,000 |")]
    assert f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}" in row
    assert row.endswith("| 67.11, 72.97 to 73.41 |")


def test_labels_saved_are_those_of_the_runs(published, page):
    runs = of_the_study(published)
    baseline = cell(runs, variant="imbalanced_10_1", strategy="stratified", class_weights=False)
    group = until_baseline(runs, "imbalanced_10_1", "margin")
    assert len(group) == len(baseline) == len(SEEDS)
    shares = saved(group, baseline)
    assert shares == [100 * (1 - run.labels / 4100) for run in group]
    assert all(a <= b for a, b in zip(shares, saved_by_accuracy(group, baseline)))
    (row,) = [line for line in page if line.startswith("| 10 : 1 |")]
    assert f"({np.mean(shares):.0f} % saved)" in row
    assert row.endswith("| 39 % |")


def test_a_run_that_never_beats_the_baseline_saves_nothing(published):
    runs = of_the_study(published)
    baseline = cell(runs, variant="imbalanced_10_1", strategy="stratified", class_weights=False)
    lost = [run for run in until_baseline(runs, "imbalanced_10_1", "random") if not run.result.reached_baseline]
    assert saved(lost, baseline) == [0.0] * len(lost)


def test_the_control_stands_beside_the_strategies(page):
    (line,) = [line for line in page if line.startswith("- balanced_10: ahead of `random`")]
    assert all(name in line for name in (*THREE, "stratified"))
    assert any("random" in line and "imbalanced_10_1: labels saved" in line for line in page)


def test_the_mean_of_the_strategies_is_taken_seed_by_seed(published, page):
    runs = [run for run in load_csv(published).runs if run.data.train == 10_000 and run.config.variant == "balanced_50"]
    clip, true = (
        [np.mean([accuracy(run) for run in cell(runs, init=init, split_seed=seed)]) for seed in SEEDS]
        for init in ("clip", "stratified")
    )
    (line, _) = [line for line in page if "| mean of them |" in line]
    assert f"| {np.mean(np.subtract(clip, true)):+.1f} points [" in line


def test_time_is_told_by_strategy(published, page):
    runs = [run for run in load_csv(published).runs if run.data.train == 50_000 and run.config.strategy == "margin"]
    seconds = [run.result.training_time_seconds for run in runs]
    (line,) = [line for line in page[page.index("### What it took") :] if line.startswith("| `margin`")]
    assert f"| {len(runs)} | {min(seconds):.1f} to {max(seconds):.1f} | {sum(seconds):,.0f} |" in line


def test_the_claim_on_clip_is_judged_on_the_other_pool(published):
    study, other = sorted(organise(load_csv(published)), key=lambda family: -family.images)
    with_own = [claim for claim in claims(study, (), other) if claim.id == "C8"]
    assert with_own == [claim for claim in claims(study) if claim.id == "C8"]  # it has runs from CLIP's labels itself
    at_10, at_3 = (claim for claim in claims(other) if claim.id == "C8")
    assert (at_10.verdict, at_3.verdict) == (FAILS, HOLDS)  # 3 points are not nothing, and they are a little
    assert "5,000 of a pool of 10,000" in at_10.found
    assert "1,500 of a pool of 10,000" in at_3.found


def test_the_command(published, page, capsys, tmp_path):
    assert main([str(published)]) == 0
    assert capsys.readouterr().out.splitlines() == page
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: folder=")


def test_two_runs_in_one_place_are_refused(published, capsys, tmp_path):
    """Their mean would be that of two settings."""
    write_cells(tmp_path / "results", World(), ("margin",), SEEDS, variant="balanced_10", precision="bfloat16")
    write_csv([*load_csv(published).runs, *load_results(tmp_path / "results").runs], tmp_path / "csv")
    assert main([str(tmp_path / "csv")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "variant=balanced_10 strategy=margin split_seed=12: two runs in one place of a table (precision=" in line
    assert line.endswith("put them into folders of their own")


def test_two_schedules_are_not_averaged(published, capsys, tmp_path):
    write_cells(tmp_path / "results", World(), ("margin",), SEEDS, variant="balanced_10", schedule="converge")
    write_csv([*load_csv(published).runs, *load_results(tmp_path / "results").runs], tmp_path / "csv")
    assert main([str(tmp_path / "csv")]) == 2
    assert "schedule=converge and epoch" in capsys.readouterr().err


def test_rows_that_were_left_out_are_named(published, capsys, tmp_path):
    for name in ("runs.csv", "epochs.csv"):
        text = (published / name).read_text()
        (tmp_path / name).write_text(text.replace("margin", "entropy", 1) if name == "runs.csv" else text)
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("left out: ")
    assert "digest" in printed.err


def test_a_start_that_is_the_same_for_every_seed_is_one_observation(tmp_path):
    write_cells(tmp_path, World(noise=0, seed_spread=0, train=10_000), THREE, SEEDS, variant="balanced_3", init="clip")
    write_cells(tmp_path, World(noise=0.2, train=10_000), THREE, SEEDS, variant="balanced_3")
    assert any(line.startswith("± 0.00: ") for line in answers(load_results(tmp_path)))


def test_what_was_not_run_has_no_row(tmp_path):
    write_cells(tmp_path, World(), ("margin",), SEEDS, variant="balanced_10")
    page = list(answers(load_results(tmp_path)))
    assert [line for line in page if line.startswith("| 10 % | 5,000 |  |")]
    assert not [line for line in page if line.startswith("| 5 % |")]


@pytest.mark.parametrize("strategy", ["stratified", "margin"])
def test_half_of_an_experiment_is_shown(tmp_path, strategy):
    """A baseline that nothing was compared with yet, or strategies whose baseline is elsewhere."""
    stop = "budget" if strategy == "stratified" else "baseline"
    write_cells(tmp_path, World(), (strategy,), SEEDS, variant="imbalanced_3_1", stop=stop)
    (row,) = [line for line in answers(load_results(tmp_path)) if line.startswith("| 3 : 1 |")]
    assert ("1,300, " in row) == (strategy == "stratified")
    assert ("of 3 runs" in row) == (strategy == "margin")
