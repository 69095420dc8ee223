"""What the report says about synthetic runs whose truth is known: savings, decisions, tables."""

import json
import re
import shlex

import numpy as np
import pytest
from report_results import SEEDS, World, write_cells
from scipy.stats import t

from al.config import RunConfig
from sweeps.report import overlaps, tables
from sweeps.report.analysis import analyse, time_ratio, worst_class
from sweeps.report.cells import organise
from sweeps.report.decision import decide
from sweeps.report.first_screen import _chart
from sweeps.report.inference import HeadlineKind
from sweeps.report.label_savings import Bound, TargetKind
from sweeps.report.load import load_results
from sweeps.report.table import Table
from sweeps.report.zero_shot import own_zero_shot

DIGITS = {"dataset": "digits", "model": "small_cnn", "weights": "none", "variant": "balanced_20", "initial_min": 20}
FIVE = ("stratified", "random", "uncertainty", "margin", "typiclust")


def small(**knobs) -> World:
    return World(classes=[str(k) for k in range(10)], train=5000, test=1000, **knobs)


def families(tmp_path):
    return organise(load_results(tmp_path))


def analysed(tmp_path, target=None):
    (family,) = families(tmp_path)
    return analyse(family.settings[0], target)


def saving_of(analysis, strategy, against="baseline"):
    kind = TargetKind.BASELINE if against == "baseline" else TargetKind.CONTROL
    (result,) = [r for r in analysis.verdict.targets if r.target.kind is kind and r.target.fraction in (None, 1.0)]
    return result.need(strategy), result.saving(strategy, against)


def test_the_share_saved_is_the_true_one(tmp_path):
    write_cells(tmp_path, small(noise=0.05), FIVE, SEEDS, **DIGITS)
    # margin lies 4 points above random and the baseline: it reaches the baseline's accuracy at 1,000 labels where
    # 80 - 50 exp(-labels / 400) + 4 is what it is at 1,000 without the 4.
    needed = -400 * np.log(np.exp(-1000 / 400) + 4 / 50)
    need, saving = saving_of(analysed(tmp_path), "margin")
    assert need.reached == 5
    assert np.mean([reach.labels for reach in need.accuracy.values()]) == pytest.approx(needed, abs=10)
    assert saving.percent == pytest.approx(100 * (1 - needed / 1000), abs=1)
    assert saving.bound is Bound.NONE


def test_random_that_never_arrives_makes_the_saving_a_lower_bound(tmp_path):
    write_cells(tmp_path, small(noise=0.05, effects={"random": -3.0}), FIVE, SEEDS, **DIGITS)
    analysis = analysed(tmp_path)
    (target,) = [r for r in analysis.verdict.targets if r.target.kind is TargetKind.BASELINE]
    assert target.need("random").reached == 0
    assert target.saving("margin", "random").bound is Bound.AT_LEAST
    row = next(
        row for row in tables.needs_table([analysis]).rows if row[1].startswith("the strat") and row[5] == "margin"
    )
    assert " or more" in row[10]
    assert "random more than 1,000 (reached in 0 of 5 seeds)" in decide(analysis).text


def curve_values(tmp_path) -> dict[tuple[str, int, int], float]:
    """Accuracy by strategy, label count and seed, from the rows on disk."""
    at = {}
    for path in tmp_path.glob("*/split_seed_*"):
        known = json.loads((path / "config.json").read_text())["config"]
        for row in map(json.loads, (path / "epochs.jsonl").read_text().splitlines()):
            if row["best"] or (known["strategy"], row["labels"], known["split_seed"]) not in at:
                at[known["strategy"], row["labels"], known["split_seed"]] = row["test"]["accuracy"]
    return at


def test_strategies_are_described_against_random_along_the_curve(tmp_path):
    near = {"random": 0.0, "uncertainty": 0.2, "margin": 0.5, "typiclust": -0.4}
    write_cells(tmp_path, small(noise=0.5, effects=near), FIVE, SEEDS, **DIGITS)
    at = curve_values(tmp_path)
    table = tables.curve_table(families(tmp_path))
    counts = sorted({row[1] for row in table.rows})
    assert len(counts) == 4
    assert counts[-1] == 1000
    assert not [column for column in table.columns if column.startswith("p")]  # one family of tests, and not here
    for count in counts:
        accuracy = {name: np.array([at[name, count, seed] for seed in SEEDS]) for name in FIVE[1:]}
        here = {row[2]: row for row in table.rows if row[1] == count}
        assert set(here) == set(accuracy)
        for name in FIVE[2:]:
            _, _, _, seeds, mean, difference = here[name]
            minus = accuracy[name] - accuracy["random"]
            low, high = t.interval(0.95, 4, loc=minus.mean(), scale=minus.std(ddof=1) / 5**0.5)
            assert seeds == len(SEEDS)
            assert mean.startswith(f"{accuracy[name].mean():.1f} [")
            assert difference == f"{minus.mean():.1f} [{low:.1f}, {high:.1f}]"


def test_without_random_there_is_nothing_along_the_curve(tmp_path):
    write_cells(tmp_path, small(), ("stratified", "margin", "typiclust"), SEEDS, **DIGITS)
    assert tables.curve_table(families(tmp_path)).rows == []


def test_what_is_compared_is_the_area_over_log_labels(tmp_path):
    write_cells(tmp_path, small(noise=0.5), ("random", "margin"), SEEDS, **DIGITS)
    at, analysis = curve_values(tmp_path), analysed(tmp_path)
    for seed in SEEDS:
        counts = np.array(sorted(labels for name, labels, known in at if (name, known) == ("margin", seed)), float)
        heights = np.array([at["margin", int(labels), seed] for labels in counts])
        x = np.log(counts)
        expected = (np.diff(x) * (heights[1:] + heights[:-1]) / 2).sum() / (x[-1] - x[0])
        assert analysis.verdict.values["margin"][seed] == pytest.approx(expected)


def test_a_clear_winner_is_called_one(tmp_path):
    write_cells(tmp_path, small(noise=0.1, effects={"margin": 9.0}), FIVE, SEEDS, **DIGITS)
    decision = decide(analysed(tmp_path))
    assert decision.headline.startswith("use margin: it beats every other strategy, random sampling by 9.0 points")
    assert "saves" in decision.headline
    assert decision.row[1:3] == ("choosing pays, one is best", "margin")
    assert decision.command == ""


def test_strategies_that_repeat_one_run_are_one_observation(tmp_path):
    """As from CLIP's labels with a linear head: five copies of a pair would prove that the first is ahead."""
    constant = small(noise=0.0, seed_spread=0.0, effects={"margin": 0.4})
    write_cells(tmp_path, constant, ("uncertainty", "margin"), SEEDS, **DIGITS)
    write_cells(tmp_path, small(noise=0.3), ("random",), SEEDS, **DIGITS)
    analysis = analysed(tmp_path)
    assert analysis.verdict.comparisons.of("margin", "uncertainty").seeds == 1
    assert set(analysis.repeated) == {"uncertainty", "margin"}
    assert "one observation: all split seeds of uncertainty and margin gave the same curve" in decide(analysis).text


@pytest.mark.parametrize(
    ("noise", "of_margin"), [(1.5, "margin is within 1 point of it"), (3.0, "margin cannot be told apart from it")]
)
def test_what_falls_behind_is_said_whoever_leads(tmp_path, noise, of_margin):
    """And where the leader may be better by a little, nobody is told not to choose."""
    effects = {"random": 0.0, "margin": 0.4, "uncertainty": -8.0}
    write_cells(tmp_path, small(noise=noise, effects=effects), tuple(effects), SEEDS, **DIGITS)
    analysis = analysed(tmp_path)
    decision = decide(analysis)
    assert analysis.verdict.leader == "margin"
    assert f"uncertainty falls behind it, and {of_margin}" in decision.headline
    assert decision.row[1] == "no strategy ahead, some behind"


def test_the_row_names_who_has_the_highest_mean(tmp_path):
    effects = {"random": 0.0, "margin": -3.0, "uncertainty": -8.0}
    write_cells(tmp_path, small(noise=0.3, effects=effects), tuple(effects), SEEDS, **DIGITS)
    assert decide(analysed(tmp_path)).row[2] == "random sampling"


def test_pairs_of_two_devices_are_told(tmp_path):
    """Each strategy ran on both, and no pair on one."""
    for devices, seeds in ((("cpu", "NVIDIA H100"), SEEDS[:2]), (("NVIDIA H100", "cpu"), SEEDS[2:])):
        for strategy, device in zip(("margin", "random"), devices):
            write_cells(tmp_path, small(noise=0.3, device=device), (strategy,), seeds, **DIGITS)
    assert "not like for like: the device goes with the strategy" in decide(analysed(tmp_path)).text


def test_equal_strategies_are_not_told_apart_and_all_beat_random(tmp_path):
    write_cells(tmp_path, small(noise=1.0), FIVE, SEEDS, **DIGITS)
    decision = decide(analysed(tmp_path))
    assert decision.headline.startswith("use ")
    assert "it beats random sampling" in decision.headline
    assert "cannot be told apart from it" in decision.headline
    assert "not told apart from" in decision.text


def test_nothing_is_claimed_where_nothing_is_different_and_more_seeds_are_priced(tmp_path):
    near = {"random": 0.0, "uncertainty": 0.0, "margin": 0.4, "typiclust": 0.0}
    write_cells(tmp_path, small(noise=3.0, effects=near), ("random", "margin"), (12, 34, 56), **DIGITS)
    decision = decide(analysed(tmp_path), tmp_path)
    assert decision.headline.startswith("nothing can be told apart yet")
    assert "saves" not in decision.headline
    if decision.command:
        seeds = decision.command.partition("in ")[2].partition(";")[0].split()
        assert seeds[0] == "57"
        assert f"{len(seeds)} more seed" in decision.text
        for strategy in ("margin", "random"):
            assert f"--strategy={strategy}" in decision.command
        assert f"--results_dir={tmp_path} --split_seed=$seed; " in decision.command
    else:
        assert "more than 50 further seeds" in decision.text


def test_where_random_looks_best_nobody_is_named(tmp_path):
    write_cells(tmp_path, small(noise=3.0, effects={"margin": -0.5}), ("random", "margin"), (12, 34, 56), **DIGITS)
    headline = decide(analysed(tmp_path)).headline
    assert headline == "nothing can be told apart yet; no strategy looks ahead of random sampling."


def test_the_command_for_more_seeds_is_one_that_train_takes(tmp_path):
    write_cells(tmp_path, small(noise=4.0, effects={"margin": 1.0}), ("random", "margin"), (12, 34, 56, 78), **DIGITS)
    command = decide(analysed(tmp_path)).command
    assert command.startswith("for seed in 79 ")
    loop = command.partition("do ")[2].removesuffix("; done")
    for run in loop.split("; "):
        words = shlex.split(run.replace("$seed", "79"))
        assert words[:2] == ["python", "train.py"]
        given = dict(word.removeprefix("--").split("=", 1) for word in words[2:])
        config = RunConfig.from_mapping(given)
        assert config.digest(split_seed=False) in {
            run.config.digest(split_seed=False) for run in load_results(tmp_path).runs
        }


@pytest.mark.parametrize("seeds", [(12,), (12, 34)])
def test_few_seeds_give_no_certainty(tmp_path, seeds):
    write_cells(tmp_path, small(noise=0.1, effects={"margin": 9.0}), FIVE, seeds, **DIGITS)
    decision = decide(analysed(tmp_path))
    assert "use " not in decision.headline
    assert "beats" not in decision.headline
    if len(seeds) == 1:
        assert decision.headline == "nothing to compare yet."
    else:
        assert decision.headline.startswith("margin leads so far by 9.")
        assert "2 seeds cannot prove" in decision.headline
        assert "2 split seeds are too few to tell chance from effect" in decision.text
    new = range(max(seeds) + 1, max(seeds) + 4 - len(seeds))
    assert decision.command.startswith(f"for seed in {' '.join(map(str, new))}; do ")
    assert decision.command.count("train.py") == len(FIVE)


@pytest.mark.parametrize(
    ("random", "seeds", "why"),
    [
        ((12,), "34 56", "one split seed in common"),
        ((12, 90), "34 56", "one split seed in common"),
        ((78, 79, 80), "12 34 56", "no two strategies have a split seed in common"),
    ],
)
def test_the_command_fills_in_seeds_that_a_strategy_lacks(tmp_path, random, seeds, why):
    """There are three seeds of one strategy: more of both are not what is missing."""
    write_cells(tmp_path, small(noise=0.1), ("margin",), (12, 34, 56), **DIGITS)
    write_cells(tmp_path, small(noise=0.1), ("random",), random, **DIGITS)
    decision = decide(analysed(tmp_path))
    assert decision.command.startswith(f"for seed in {seeds}; do ")
    assert why in decision.text


def test_a_strategy_that_has_more_seeds_does_not_lead_by_them(tmp_path):
    """While a sweep runs: all seeds of random sampling are there, and two of the strategy that is better in both."""
    write_cells(tmp_path, small(noise=0.1, effects={"margin": 4.0}), ("random",), (12, 34, 56), **DIGITS)
    write_cells(tmp_path, small(noise=0.1, effects={"margin": 4.0}), ("margin",), (12, 34), **DIGITS)
    assert decide(analysed(tmp_path)).headline.startswith("margin leads so far by ")


@pytest.mark.parametrize("test", [{}, {"loss": 1.0}, {"accuracy": float("nan"), "loss": 1.0}])
def test_label_counts_that_one_run_never_tested_are_left_out(tmp_path, test):
    write_cells(tmp_path, small(noise=0.1), ("random", "margin"), (12, 34, 56), **DIGITS)
    path = next(tmp_path.glob("*margin*/split_seed_34/epochs.jsonl"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    untested = {row["labels"] for row in rows} - {rows[0]["labels"], rows[-1]["labels"]}
    rows = [row | ({"test": test} if row["labels"] in untested else {}) for row in rows]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    table = tables.curve_table(families(tmp_path))
    assert table.rows
    assert not untested & {row[1] for row in table.rows}
    assert tables.penalty_table(families(tmp_path)[0]).rows


def test_no_strategy_reaches_the_baseline(tmp_path):
    write_cells(tmp_path, small(baseline_bonus=15.0), FIVE, SEEDS, **DIGITS)
    decision = decide(analysed(tmp_path))
    assert "margin more than 1,000 (reached in 0 of 5 seeds)" in decision.text


def test_a_set_without_stratified_runs_has_its_leader(tmp_path):
    """It leads all along the curve and misses random's final accuracy in no seed by much: nobody is dropped for it."""
    effects = {"typiclust_typical": lambda share: 6.0 * (1 - share) + 0.3, "margin": lambda share: 1.0 - share}
    world = small(noise=0.6, effects=effects)
    write_cells(tmp_path, world, ("random", "margin", "typiclust_typical"), SEEDS, **DIGITS)
    analysis = analysed(tmp_path)
    decision = decide(analysis)
    assert decision.headline.startswith("use typiclust_typical: it beats every other strategy, random sampling by ")
    assert "random needs the fewest" not in decision.text
    assert not [
        row for row in tables.needs_table([analysis]).rows if row[1].startswith("random's") and row[5] == "random"
    ]


def write_imbalanced(tmp_path, world, strategies=("uncertainty", "margin", "typiclust"), variant="imbalanced_10_1"):
    write_cells(tmp_path, world, ("stratified",), SEEDS, variant=variant)
    write_cells(tmp_path, world, strategies, SEEDS, variant=variant, stop="baseline")


def test_a_target_that_the_first_labels_reach_is_no_strategys_merit(tmp_path):
    """The first 410 labels, a balanced draw, beat the baseline: all strategies are one run until then."""
    write_imbalanced(tmp_path, World(baseline_bonus=-40.0))
    decision = decide(analysed(tmp_path))
    assert decision.headline.startswith("the first labels alone reach the stratified baseline's accuracy")
    assert "no strategy's merit" in decision.text
    for word in ("saves", "use ", "lowest mean", "410 labels"):
        assert word not in decision.text


def test_accuracy_without_the_loss_is_told_apart_from_both(tmp_path):
    write_imbalanced(tmp_path, World(loss_penalty=2.0), variant="imbalanced_3_1")
    analysis = analysed(tmp_path)
    text = decide(analysis).text
    assert "no strategy reached" not in text
    (line,) = [line for line in text.splitlines() if "labels to reach" in line]
    assert "the stratified baseline's accuracy (38." in line
    assert ", loss 2." in line
    assert line.count("(with the loss too in 0 of 5 seeds)") == 3
    rows = [row for row in tables.needs_table([analysis]).rows if row[5] == "margin"]
    assert [(row[4], row[6], row[7]) for row in rows] == [("accuracy", 5, 5), ("accuracy and loss", 5, 0)]
    assert rows[1][9].startswith("more than ")


def test_beating_the_baseline_where_runs_stop_there_has_no_p_value(tmp_path):
    write_imbalanced(tmp_path, World())
    analysis = analysed(tmp_path)
    assert "so that they do is no finding" in decide(analysis).text
    table = tables.comparison_table([analysis])
    assert {name for row in table.rows for name in row[1:3]} == {"uncertainty", "margin", "typiclust"}
    assert "does choosing beat" not in decide(analysis).headline
    assert "whether choosing beats random sampling cannot be told" in decide(analysis).text
    assert decide(analysis).command.count("--strategy=random") == 1


def test_random_under_the_same_rule_is_the_control(tmp_path):
    write_imbalanced(tmp_path, World(), ("random", "margin"))
    analysis = analysed(tmp_path)
    assert analysis.verdict.reference == "random"
    assert "cannot be told: it was not run" not in decide(analysis).text


def test_other_numbers_of_threads_are_named_as_they_are(tmp_path):
    write_cells(tmp_path, small(), ("stratified",), SEEDS, **DIGITS)
    write_cells(tmp_path, small(threads=8, device="cpu, 8 threads"), ("margin", "random"), SEEDS, **DIGITS)
    text = decide(analysed(tmp_path)).text
    assert "compute: not compared, the runs differ in number of threads (2, 8)" in text
    assert "different machines" not in text


def test_free_labels_that_reach_the_target_divide_by_nothing(tmp_path):
    """init=clip where 0 human labels reach the target."""
    world = small(noise=0.1, effects={"random": -60.0})
    write_cells(tmp_path, world, ("random", "margin"), SEEDS, **DIGITS, init="clip", initial_fraction=0.5)
    write_cells(tmp_path, small(baseline_bonus=-40.0), ("stratified",), SEEDS, **DIGITS)
    decision = decide(analysed(tmp_path))
    assert "no strategy's merit" in decision.text
    assert tables.needs_table([analysed(tmp_path)]).rows


def test_the_same_number_everywhere(tmp_path):
    write_cells(tmp_path, small(noise=0.5), FIVE, SEEDS, **DIGITS)
    analysis = analysed(tmp_path)
    decision = decide(analysis)
    best, ahead, saved = decision.row[2], decision.row[3], decision.row[4]
    row = next(row for row in tables.verdict_table([analysis]).rows if row[1] == best)
    assert row[4] == ahead
    row = next(r for r in tables.comparison_table([analysis]).rows if r[1:3] == (best, "random sampling"))
    assert row[4] == ahead
    number, low, high = re.fullmatch(r"\+([\d.]+) \[\+([\d.]+), \+([\d.]+)\]", ahead).groups()
    assert f"by {number} points (95 % interval {low} to {high})" in decision.headline
    assert saved in {row[10] for row in tables.needs_table([analysis]).rows if row[5] == best}


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
    assert setting.different_conditions == "device (cpu, cuda)"


REPEAT = (
    "2 runs had deterministic kernels for everything: with the same device, threads and versions, the same seed gives"
)
DIFFER = "2 runs of 4 may give other picks when made again with the same seed: torch has no deterministic Flash"


@pytest.mark.parametrize(
    ("random", "margin", "said"),
    [
        (None, None, ""),
        (None, [], f"{REPEAT} the same picks."),
        ([], ["put_", "Flash Attention"], f"{DIFFER} Attention and put_ on card."),
    ],
)
def test_whether_runs_can_be_made_again_is_told(tmp_path, random, margin, said):
    for name, operations in (("random", random), ("margin", margin)):
        write_cells(tmp_path, small(device="card", not_repeatable=operations), (name,), SEEDS[:2], **DIGITS)
    assert tables.repeatability(load_results(tmp_path).runs) == said


def test_a_target_of_ones_own_is_the_one_that_savings_are_told_by(tmp_path):
    write_cells(tmp_path, small(noise=0.01, seed_spread=0.0), ("stratified", "random", "margin"), SEEDS, **DIGITS)
    analysis = analysed(tmp_path, target=60.0)
    assert "labels to reach 60 %: margin" in decide(analysis).text
    random, margin = (-400 * np.log((80 + effect - 60) / 50) for effect in (0, 4))
    assert analysis.main_target.saving("margin", "random").percent == pytest.approx(100 * (1 - margin / random), abs=1)


def test_intervals_of_accuracies_stay_within_100_percent(tmp_path):
    world = small(noise=1.0, effects=dict.fromkeys(FIVE, 19.5))
    write_cells(tmp_path, world, ("random", "margin"), (12, 34, 56), **DIGITS | {"variant": "balanced_100"})
    (family,) = families(tmp_path)
    shown = [row[5 + k] for row in tables.quality_table([family]).rows for k in range(7)]
    shown += [row[3] for row in tables.verdict_table([analysed(tmp_path)]).rows]
    ends = [float(end) for text in shown if "[" in text for end in text.partition("[")[2].rstrip("]").split(", ")]
    assert ends
    assert max(ends) <= 100


def test_the_worst_class_is_the_one_least_recognised(tmp_path):
    write_cells(tmp_path, small(), ("margin",), (12,), **DIGITS)
    (run,) = load_results(tmp_path).runs
    matrix = np.array(run.result.best.splits["test"].confusion_matrix)
    recall = 100 * matrix.diagonal() / matrix.sum(axis=1)
    assert worst_class(run) == pytest.approx(recall.min(), abs=0.6)


def test_five_percent_of_settings_without_an_effect_show_one(tmp_path):
    finds = 0
    for number in range(40):
        folder = tmp_path / str(number)
        world = small(noise=1.0, effects={"margin": 0.0})
        write_cells(folder, world, ("random", "margin"), range(100 * number, 100 * number + 5), **DIGITS)
        finds += analysed(folder).verdict.headline.kind in (HeadlineKind.BEST, HeadlineKind.AHEAD, HeadlineKind.BEHIND)
    # 40 draws at 5 %: more than 6 finds have a chance below 2 %.
    assert finds <= 6


def test_overlap_of_the_picks(tmp_path):
    write_cells(tmp_path, small(), ("margin", "uncertainty"), (12, 34), **DIGITS)
    (family,) = families(tmp_path)
    setting = family.settings[0]
    names, matrix = overlaps.overlap(setting)
    a, b = (
        set(np.concatenate([round_.rows for round_ in cell.by_seed[12].rounds[1:]]).tolist()) for cell in setting.cells
    )
    c, d = (
        set(np.concatenate([round_.rows for round_ in cell.by_seed[34].rounds[1:]]).tolist()) for cell in setting.cells
    )
    expected = np.mean([len(a & b) / len(a | b), len(c & d) / len(c | d)])
    assert names == ["uncertainty", "margin"]
    assert matrix[0, 1] == matrix[1, 0] == pytest.approx(expected)
    top = overlaps.most_wanted(setting, family.classes, 5)
    everywhere = a & b & c & d
    assert {row[0] for row in top if row[3] == 4} == set(sorted(everywhere)[:5])


def test_markdown_and_csv_keep_hostile_names_as_text():
    table = Table("t", "<b>", ("a|b", "c"), [("<script>alert(1)</script>", 1.5), ("x\ny", float("nan"))])
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
        text = decide(analyse(setting)).text
        assert ("not like for like" in text) == (not setting.config.shares.balanced)


def test_two_seeds_of_random_beat_nobody(tmp_path):
    """Five seeds of the strategies, two of random sampling: while a sweep runs."""
    write_cells(tmp_path, small(noise=0.1, effects={"margin": 6.0}), ("margin", "uncertainty"), SEEDS, **DIGITS)
    write_cells(tmp_path, small(noise=0.1), ("random",), SEEDS[:2], **DIGITS)
    decision = decide(analysed(tmp_path))
    assert decision.headline.startswith(
        "margin has the highest mean and is ahead of uncertainty; random sampling has too"
    )
    assert "beats" not in decision.text
    assert decision.row[1] == "strategies differ, too few seeds of random sampling"
    assert decision.command.startswith("for seed in 56 78 90; do ")
    assert decision.command.count("train.py") == decision.command.count("--strategy=random") == 1


def test_random_on_other_seeds_is_not_what_the_strategies_fall_behind(tmp_path):
    write_cells(tmp_path, small(noise=0.1, effects={"margin": 6.0}), ("margin", "uncertainty"), (12, 34, 56), **DIGITS)
    write_cells(tmp_path, small(noise=0.1), ("random",), (78, 79, 80), **DIGITS)
    decision = decide(analysed(tmp_path))
    assert decision.headline.startswith(
        "margin has the highest mean and is ahead of uncertainty; random sampling has too"
    )
    assert "nan" not in decision.text
    assert decision.command.startswith("for seed in 12 34 56; do ")


def test_a_baseline_of_one_seed_hides_nothing_of_the_strategies(tmp_path):
    write_cells(tmp_path, small(noise=0.1, effects={"margin": 6.0}), ("margin", "uncertainty"), SEEDS[:3], **DIGITS)
    write_cells(tmp_path, small(noise=0.1), ("stratified",), SEEDS[:1], **DIGITS)
    headline = decide(analysed(tmp_path)).headline
    assert headline == "margin is ahead of every other strategy; whether it beats random sampling cannot be told."


def test_who_leads_along_the_curve_and_not_in_the_end_is_told_at_once(tmp_path):
    effects = {"margin": lambda share: 8.0 if share < 0.8 else -3.0}
    write_cells(tmp_path, small(noise=0.1, effects=effects), ("random", "margin"), (12, 34, 56), **DIGITS)
    decision = decide(analysed(tmp_path))
    assert decision.headline.startswith("use margin: it beats random sampling by 6.")
    end = r"; but with 1,000 labels, where the curves end, it is 3\.\d points \(.*\) behind random sampling\.$"
    assert re.search(end, decision.headline)
    assert "not as along the curve against random sampling: with 1,000 labels" in decision.text


def test_who_leads_to_the_end_carries_no_such_words(tmp_path):
    write_cells(tmp_path, small(noise=0.1), ("random", "margin"), (12, 34, 56), **DIGITS)
    assert "where the curves end" not in decide(analysed(tmp_path)).text


class Flat(World):
    """An accuracy that hardly rises any more: half a point is most of the labels."""

    def truth(self, config, labels):
        return 96 + 0.5 * np.log(labels / 100) + {"margin": 0.6}.get(config.strategy, 0.0)


def test_little_accuracy_can_be_many_labels(tmp_path):
    world = Flat(classes=[str(k) for k in range(10)], train=5000, test=1000, noise=0.05, seed_spread=0.1)
    write_cells(tmp_path, world, ("random", "margin", "uncertainty"), (12, 34, 56), **DIGITS)
    analysis = analysed(tmp_path)
    assert analysis.verdict.headline.kind is HeadlineKind.NEGLIGIBLE
    decision = decide(analysis)
    saves = r"use margin to save labels: it saves 7\d % of the labels \(95 % interval .*\), though in accuracy every"
    assert re.match(saves, decision.headline)
    assert decision.row[1] == "choosing pays, by less than 1 point"
    for path in tmp_path.glob("*margin*/split_seed_*/performance_metrics.json"):
        found = json.loads(path.read_text())
        path.write_text(json.dumps(found | {"environment": found["environment"] | {"device": "cuda"}}))
    assert "it was run with another device" in decide(analysed(tmp_path)).headline


def test_not_to_choose_is_advised_only_where_nothing_is_open(tmp_path):
    world = small(noise=2.5, effects={"margin": -0.3, "uncertainty": -9.0})
    write_cells(tmp_path, world, ("random", "uncertainty"), SEEDS, **DIGITS)
    alone = "do not choose: no strategy is ahead of random sampling, and uncertainty falls behind it."
    decision = decide(analysed(tmp_path))
    assert (decision.headline, decision.row[1]) == (alone, "choosing does not pay")
    write_cells(tmp_path, world, ("margin",), SEEDS, **DIGITS)
    beside = (
        "no strategy is ahead of random sampling: uncertainty falls behind it, and margin cannot be told apart from it."
    )
    decision = decide(analysed(tmp_path))
    assert (decision.headline, decision.row[1]) == (beside, "no strategy ahead, some behind")


@pytest.mark.parametrize(("margin", "told"), [("cuda", True), ("cpu", False)])
def test_a_device_that_goes_with_the_strategy_may_be_the_difference(tmp_path, margin, told):
    write_cells(tmp_path, small(noise=0.1, device="cpu"), ("random",), (12, 34, 56), **DIGITS)
    write_cells(tmp_path, small(noise=0.1, device=margin), ("margin",), (12, 34, 56), **DIGITS)
    decision = decide(analysed(tmp_path))
    assert ("; but it was run with another device" in decision.headline) is told
    assert ("the device goes with the strategy" in decision.text) is told


def test_seeds_on_several_devices_are_like_for_like(tmp_path):
    """Every seed on one machine: what the machine changes, it changes for all strategies."""
    for seed, device in ((12, "cpu"), (34, "cuda"), (56, "cuda")):
        write_cells(tmp_path, small(noise=0.1, device=device), ("random", "margin"), (seed,), **DIGITS)
    assert "not like for like" not in decide(analysed(tmp_path)).text


def test_random_that_stopped_with_its_first_labels_was_run(tmp_path):
    write_imbalanced(tmp_path, World(baseline_bonus=-40.0), ("random", "margin"))
    decision = decide(analysed(tmp_path))
    assert "the first labels alone reach" in decision.headline
    assert "not run" not in decision.text
    assert decision.command == ""


def test_strategies_that_picked_the_same_have_one_mean(tmp_path):
    write_cells(tmp_path, small(noise=0.0, effects=dict.fromkeys(FIVE, 0.0)), FIVE[1:4], (12, 34, 56), **DIGITS)
    decision = decide(analysed(tmp_path))
    assert "all have the same mean" in decision.details
    assert "highest mean" not in decision.text
    assert decision.command == ""  # none differs from random: more seeds would not have them tested with each other


def test_free_labels_are_told_from_human_ones_in_what_is_needed(tmp_path):
    write_cells(tmp_path, small(noise=0.1), ("random", "margin"), (12, 34, 56), **DIGITS, init="clip")
    assert "human labels, beside the free ones, to reach what random sampling" in decide(analysed(tmp_path)).text


def test_a_class_without_test_images_is_not_one_that_is_never_found(tmp_path):
    write_cells(tmp_path, small(), ("random", "margin"), (12, 34), **DIGITS)
    for path in tmp_path.glob("*/split_seed_*/performance_metrics.json"):
        found = json.loads(path.read_text())
        found["test_metrics"]["confusion_matrix"][3] = [0] * 10
        found["test_metrics"]["per_class"]["3"].update({"recall": 0.0, "precision": 0.0, "support": 0})
        path.write_text(json.dumps(found))
    (family,) = families(tmp_path)
    assert all(worst_class(run) > 50 for cell in family.everyone for run in cell.runs)
    (table,) = tables.class_tables([family])
    assert all(np.isnan(row[table.columns.index("3")]) for row in table.rows)


def test_runs_that_are_left_out_are_not_counted_among_the_runs(tmp_path):
    write_cells(tmp_path, small(), ("random", "margin", "uncertainty"), (12, 34), **DIGITS)
    for path in tmp_path.glob("*uncertainty*/split_seed_*/rounds.jsonl"):
        first, *rest = path.read_text().splitlines()
        start = json.loads(first)
        start["rows"][0] = next(row for row in range(5000) if row not in start["rows"])
        path.write_text("\n".join([json.dumps(start), *rest]) + "\n")
    results = load_results(tmp_path)
    organise(results)
    assert len(results.left_out) == 2
    assert {run.config.strategy for run in results.runs} == {"random", "margin"}


def chart_rows(tmp_path):
    chart = _chart([analysed(tmp_path)])
    return {row.name: row for row in chart.rows}, chart.note


def test_what_costs_labels_is_not_proved_to_by_being_ahead_along_the_curve(tmp_path):
    effects = {"margin": lambda share: 8.0 if share < 0.3 else -2.0}
    write_cells(tmp_path, small(noise=0.1, effects=effects), ("random", "margin"), (12, 34, 56), **DIGITS)
    rows, note = chart_rows(tmp_path)
    assert rows["margin"].text.startswith("costs 1")
    assert not rows["margin"].proved
    assert note.endswith("the verdict on the whole curve does not say the same.")


def test_a_saving_whose_interval_reaches_over_zero_is_not_proved(tmp_path):
    """Far ahead at first, level with random later: ahead along the curve, and nothing saved for certain."""
    effects = {"margin": lambda share: 12.0 if share < 0.3 else 0.0}
    write_cells(tmp_path, small(noise=0.8, effects=effects), ("random", "margin"), SEEDS, **DIGITS)
    analysis = analysed(tmp_path)
    saving = analysis.saving("margin")
    assert analysis.verdict.ahead == ("margin",)
    assert saving.low < 0 < saving.high
    assert not chart_rows(tmp_path)[0]["margin"].proved


def test_settings_that_differ_in_the_variant_have_titles_that_do(tmp_path):
    for variant in ("balanced_20", "imbalanced_20_5"):
        write_cells(tmp_path, small(), ("random", "margin"), (12,), **DIGITS | {"variant": variant}, budget=300)
    (family,) = families(tmp_path)
    titles = [setting.title for setting in family.settings]
    assert titles == ["digits balanced_20 up to 300 labels", "digits imbalanced_20_5 up to 300 labels"]


def test_a_strategy_with_and_without_a_parameter_is_two_and_no_value_is_unset(tmp_path):
    write_cells(tmp_path, small(), ("random",), (12,), **DIGITS)
    for radius in (None, 0.5):
        write_cells(tmp_path, small(), ("probcover",), (12,), **DIGITS, probcover_delta=radius)
    (family,) = families(tmp_path)
    labels = [cell.label for cell in family.settings[0].cells]
    assert labels == ["random", "probcover (probcover_delta=0.5)", "probcover (probcover_delta=unset)"]


def test_two_seeds_give_no_interval_along_the_curve(tmp_path):
    write_cells(tmp_path, small(noise=1.0), ("random", "margin"), (12, 34), **DIGITS)
    differences = [row[5] for row in tables.curve_table(families(tmp_path)).rows if row[2] == "margin"]
    assert differences
    assert all(re.fullmatch(r"-?\d+\.\d", difference) for difference in differences)
