"""What the report says about synthetic runs whose truth is known: savings, decisions, tables."""

import json

import numpy as np
import pytest
from report_results import SEEDS, World, write_cells
from scipy.stats import ttest_rel

from sweeps.report import tables
from sweeps.report.analysis import analyse, compare_accuracy, time_ratio, worst_class
from sweeps.report.cells import organise
from sweeps.report.decision import decide
from sweeps.report.load import load_results
from sweeps.report.zero_shot import own_zero_shot

DIGITS = {"dataset": "digits", "model": "small_cnn", "weights": "none", "variant": "balanced_20", "initial_min": 20}
FIVE = ("stratified", "random", "uncertainty", "margin", "typiclust")


def small(**knobs) -> World:
    return World(classes=[str(k) for k in range(10)], train=5000, test=1000, **knobs)


def families(tmp_path):
    return organise(load_results(tmp_path))


def analysed(tmp_path):
    (family,) = families(tmp_path)
    return analyse(family.settings[0], family)


def test_the_share_saved_is_the_true_one(tmp_path):
    world = small(noise=0.05)
    write_cells(tmp_path, world, FIVE, SEEDS, **DIGITS)
    analysis = analysed(tmp_path)
    # margin lies 4 points above random and the baseline: it reaches the baseline's accuracy at 1,000 labels where
    # 80 - 50 exp(-labels / 400) + 4 is what it is at 1,000 without the 4.
    needed = -400 * np.log(np.exp(-1000 / 400) + 4 / 50)
    need = analysis.need("margin")
    assert need.always
    assert need.interval.mean == pytest.approx(needed, abs=10)
    saving = analysis.saved_against_stratified(need)
    assert saving.interval.mean == pytest.approx(100 * (1 - needed / 1000), abs=1)
    assert not saving.at_least


def test_random_that_never_arrives_makes_the_saving_a_lower_bound(tmp_path):
    write_cells(tmp_path, small(noise=0.05, effects={"random": -3.0}), FIVE, SEEDS, **DIGITS)
    analysis = analysed(tmp_path)
    assert analysis.need("random").reached == 0
    saving = analysis.saved_against_random(analysis.need("margin"))
    assert saving.at_least
    text = decide(analysis).text
    assert "against random sampling it saves at least" in text
    assert "random reached it in 0 of 5 split seeds only" in text


def test_strategies_are_compared_with_random_along_the_curve(tmp_path):
    """Numbers taken from the rows on disk, with SciPy's paired test and Holm's rule written out."""
    near = {"random": 0.0, "uncertainty": 0.2, "margin": 0.5, "typiclust": -0.4}
    write_cells(tmp_path, small(noise=0.5, effects=near), FIVE, SEEDS, **DIGITS)
    at = {}
    for path in tmp_path.glob("*/split_seed_*"):
        known = json.loads((path / "config.json").read_text())["config"]
        for row in map(json.loads, (path / "epochs.jsonl").read_text().splitlines()):
            if row["best"] or (known["strategy"], row["labels"], known["split_seed"]) not in at:
                at[known["strategy"], row["labels"], known["split_seed"]] = row["test"]["accuracy"]
    rows = tables.curve_table(families(tmp_path)).rows
    counts = sorted({row[1] for row in rows})
    assert len(counts) == 4
    assert counts[-1] == 1000
    for count in counts:
        accuracy = {name: np.array([at[name, count, seed] for seed in SEEDS]) for name in FIVE[1:]}
        p = {name: ttest_rel(accuracy[name], accuracy["random"]).pvalue for name in FIVE[2:]}
        ordered = sorted(p, key=p.get)
        holm = {name: max(min(1, (3 - i) * p[ordered[i]]) for i in range(n + 1)) for n, name in enumerate(ordered)}
        assert any(tables.p_value(holm[name]) != tables.p_value(p[name]) for name in ordered), "could not fail"
        here = {row[2]: row for row in rows if row[1] == count}
        assert set(here) == set(accuracy)
        for name in ordered:
            _, _, _, seeds, mean, difference, _, adjusted = here[name]
            assert seeds == len(SEEDS)
            assert mean.startswith(f"{accuracy[name].mean():.1f} [")
            assert difference.startswith(f"{(accuracy[name] - accuracy['random']).mean():.1f} [")
            assert adjusted == tables.p_value(holm[name])


def test_without_random_there_is_nothing_along_the_curve(tmp_path):
    write_cells(tmp_path, small(), ("stratified", "margin", "typiclust"), SEEDS, **DIGITS)
    assert tables.curve_table(families(tmp_path)).rows == []


def test_a_clear_winner_is_called_one(tmp_path):
    write_cells(tmp_path, small(noise=0.1, effects={"margin": 9.0}), FIVE, SEEDS, **DIGITS)
    decision = decide(analysed(tmp_path))
    assert decision.headline.startswith("margin needs the fewest labels: ")
    others = ("uncertainty and typiclust", "typiclust and uncertainty")  # in the order that the runs' noise gives them
    assert any(f"fewer labels than {pair} beyond chance" in decision.text for pair in others)


def test_equal_strategies_have_no_winner(tmp_path):
    write_cells(tmp_path, small(noise=1.0), FIVE, SEEDS, **DIGITS)
    decision = decide(analysed(tmp_path))
    assert decision.headline.startswith("no clear winner; ")
    assert "not told apart from" in decision.text


@pytest.mark.parametrize(
    ("seeds", "headline", "sure"),
    [
        ((12,), "is ahead so far", "one split seed, so this is one observation"),
        ((12, 34), "is ahead so far", "2 split seeds are too few to tell chance from effect"),
    ],
)
def test_few_seeds_give_no_certainty(tmp_path, seeds, headline, sure):
    write_cells(tmp_path, small(noise=0.1, effects={"margin": 9.0}), FIVE, seeds, **DIGITS)
    decision = decide(analysed(tmp_path))
    assert headline in decision.headline
    assert sure in decision.text
    assert "beyond chance" not in decision.text


def test_no_strategy_beats_the_baseline(tmp_path):
    write_cells(tmp_path, small(baseline_bonus=15.0), FIVE, SEEDS, **DIGITS)
    decision = decide(analysed(tmp_path))
    assert decision.headline.startswith("no strategy reached what stratified sampling reached")
    assert "saves" not in decision.text


def test_without_a_baseline_random_is_the_target(tmp_path):
    write_cells(tmp_path, small(noise=0.05), ("random", "margin"), SEEDS, **DIGITS)
    decision = decide(analysed(tmp_path))
    assert "what random sampling reached with the whole budget" in decision.headline
    assert "against stratified sampling: not known, its runs are missing" in decision.text


def test_a_saving_that_may_be_nothing_is_called_so(tmp_path):
    write_cells(tmp_path, small(noise=1.5, effects={"margin": 0.3}), ("stratified", "margin"), SEEDS, **DIGITS)
    analysis = analysed(tmp_path)
    need = analysis.need("margin")
    if need.always:
        saving = analysis.saved_against_stratified(need).interval
        assert ("may be nothing" in decide(analysis).text) == (saving.low <= 0 <= saving.high)
    else:
        assert "split seed; there is no saving to report" in decide(analysis).text


def test_compute_is_compared_only_on_one_machine(tmp_path):
    write_cells(tmp_path, small(), ("stratified", "margin"), SEEDS, **DIGITS)
    write_cells(tmp_path, small(device="cuda"), ("typiclust",), SEEDS, **DIGITS)
    (family,) = families(tmp_path)
    setting = family.settings[0]
    margin, typiclust = setting.cell("margin"), setting.cell("typiclust")
    assert time_ratio(margin, setting.baseline).mean == pytest.approx(
        np.mean([r.seconds for r in margin.runs]) / np.mean([r.seconds for r in setting.baseline.runs]), rel=1e-6
    )
    assert time_ratio(typiclust, setting.baseline) is None
    assert not setting.same_machine


def test_a_target_of_ones_own_is_read_off_the_baselines_of_growing_variants(tmp_path):
    world = small(noise=0.01, seed_spread=0.0)
    for variant in ("balanced_20", "balanced_10", "balanced_5"):
        write_cells(tmp_path, world, ("stratified",), SEEDS, **DIGITS | {"variant": variant})
    write_cells(tmp_path, world, ("margin",), SEEDS, **DIGITS)
    (family,) = families(tmp_path)
    analysis = analyse(family.settings[0], family, target=70.0)
    low, high = (80 - 50 * np.exp(-labels / 400) for labels in (500, 1000))
    assert analysis.stratified[12] == pytest.approx(500 + 500 * (70 - low) / (high - low), abs=3)
    assert analysis.target == "70 %"


def test_the_worst_class_is_the_one_least_recognised(tmp_path):
    write_cells(tmp_path, small(), ("margin",), (12,), **DIGITS)
    (run,) = load_results(tmp_path).runs
    matrix = np.array(run.test["confusion_matrix"])
    recall = 100 * matrix.diagonal() / matrix.sum(axis=1)
    assert worst_class(run) == pytest.approx(recall.min(), abs=0.6)


def test_five_percent_of_settings_without_an_effect_show_one(tmp_path):
    finds = 0
    for number in range(40):
        folder = tmp_path / str(number)
        world = small(noise=1.0, effects={"margin": 0.0})
        write_cells(folder, world, ("stratified", "margin"), range(100 * number, 100 * number + 5), **DIGITS)
        (family,) = families(folder)
        ((_, p),) = compare_accuracy(family.settings[0]).values()
        finds += p < 0.05
    # 40 draws at 5 %: more than 6 finds have a chance below 2 %.
    assert finds <= 6


def test_overlap_of_the_picks(tmp_path):
    write_cells(tmp_path, small(), ("margin", "uncertainty"), (12, 34), **DIGITS)
    (family,) = families(tmp_path)
    setting = family.settings[0]
    names, matrix = tables.overlap(setting)
    a, b = (
        set(np.concatenate([round_.rows for round_ in cell.by_seed[12].rounds[1:]]).tolist()) for cell in setting.cells
    )
    c, d = (
        set(np.concatenate([round_.rows for round_ in cell.by_seed[34].rounds[1:]]).tolist()) for cell in setting.cells
    )
    expected = np.mean([len(a & b) / len(a | b), len(c & d) / len(c | d)])
    assert names == ["uncertainty", "margin"]
    assert matrix[0, 1] == matrix[1, 0] == pytest.approx(expected)
    top = tables.most_wanted(setting, family.classes, 5)
    everywhere = a & b & c & d
    assert {row[0] for row in top if row[3] == 4} == set(sorted(everywhere)[:5])


def test_summary_rows_for_the_demo(tmp_path):
    configs = write_cells(tmp_path, small(), FIVE, (12, 34), **DIGITS)
    rows = tables.summary_table(tmp_path)
    assert [row.strategy for row in rows] == list(FIVE)
    runs = [run for run in load_results(tmp_path).runs if run.config.strategy == "margin"]
    margin = rows[3]
    accuracies = [run.test["accuracy"] for run in runs]
    assert margin.accuracy == pytest.approx(np.mean(accuracies))
    assert margin.accuracy_std == pytest.approx(np.std(accuracies, ddof=1))
    assert (margin.labels, margin.seeds) == (1000, 2)
    only = tables.summary_table(tmp_path, [configs[-1].cell])
    assert [row.strategy for row in only] == ["typiclust"]


def test_markdown_and_csv_keep_hostile_names_as_text():
    table = tables.Table("t", "<b>", ("a|b", "c"), [("<script>alert(1)</script>", 1.5), ("x\ny", float("nan"))])
    assert "<script>" not in table.markdown()
    assert "a\\|b" in table.markdown()
    assert table.csv().splitlines()[0] == "a|b,c"


def test_own_zero_shot_labels_are_read_from_what_data_prep_writes(tmp_path):
    from data_prep.zero_shot import statistics as clip_statistics

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    probs = rng.dirichlet(np.ones(3), 300).astype(np.float32)
    made, _ = clip_statistics.report("digits", "train", labels, probs, ["a", "b", "c"], np.arange(150))
    clip_statistics.write(made, {}, tmp_path / "clip" / "0123")
    (found,) = own_zero_shot(tmp_path)
    assert found.classes == ("a", "b", "c")
    assert found.total == 300
    assert found.right == (probs.argmax(1) == labels).sum()
    assert sum(count for _, _, count in found.histogram) == 300
    assert found.confidence[0] == pytest.approx(probs.max(1)[probs.argmax(1) == 0].mean(), abs=1e-3)
    (tmp_path / "clip" / "0123" / "clip_statistics.csv").write_text("nothing\n")
    assert own_zero_shot(tmp_path) == []


def test_an_unlike_comparison_is_called_one(tmp_path):
    for variant, stop in (("balanced_1", "budget"), ("imbalanced_3_1", "baseline")):
        write_cells(tmp_path, World(), ("stratified",), (12,), variant=variant)
        write_cells(tmp_path, World(), ("margin",), (12,), variant=variant, stop=stop)
    (family,) = families(tmp_path)
    assert len(family.settings) == 2
    for setting in family.settings:
        text = decide(analyse(setting, family)).text
        assert ("not like for like" in text) == (not setting.config.shares.balanced)
