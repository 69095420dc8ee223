"""The verdict: against SciPy and by hand, and on simulated settings of which the truth is known."""

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.verdict_simulation import (
    CONTROL,
    PROCEDURES,
    Design,
    claims,
    draw,
    false_claims,
    heights,
    paired_sd,
)
from sweeps.report.comparisons import (
    MAX_MORE_SEEDS,
    Comparison,
    Null,
    Standing,
    accuracy_interval,
    compare,
    moderated,
    more_seeds,
)
from sweeps.report.inference import NAMING, Evidence, HeadlineKind, Measure, judge
from sweeps.report.label_savings import BASELINE, Baseline, Bound, Curve, Saving, TargetKind, find_targets, measure

LABELS = np.array([50.0, 100, 200, 400])


def curve(*accuracy, labels=LABELS, **more):
    labels = np.asarray(labels, float)[: len(accuracy)]
    return Curve(labels, labels, np.array(accuracy, float), **more)


def values(**by_strategy):
    """Areas by strategy and seed, from one list a strategy."""
    return {name: dict(enumerate(map(float, found))) for name, found in by_strategy.items()}


def shifted(points, seeds=5, spread=0.3, start=60):
    """Curves of `seeds` seeds that lie `points` above a common one after the first labels."""
    rng = np.random.default_rng([abs(int(points * 100)), seeds])
    shape = np.array([0, 8, 14, 18.0])
    return {
        seed: curve(*(start + seed + shape + (shape > 0) * (points + spread * rng.standard_normal(4))))
        for seed in range(seeds)
    }


# The distributions are the textbooks'


@pytest.mark.parametrize(("count", "df"), [(2, 4), (3, 8), (5, 16), (12, 44)])
def test_critical_values_of_all_pairs_are_those_of_the_studentised_range(count, df):
    found = Null(count, df, "pairs")
    assert found.critical(0.05) == pytest.approx(stats.studentized_range.isf(0.05, count, df) / 2**0.5, rel=1e-4)
    assert found.tail(4.0) == pytest.approx(stats.studentized_range.sf(4 * 2**0.5, count, df), rel=1e-2)


@pytest.mark.parametrize(("count", "df", "critical"), [(1, 4, 2.776), (2, 8, 2.673), (4, 16, 2.708), (3, 2, 6.065)])
def test_critical_values_against_a_control_are_dunnetts(count, df, critical):
    found = Null(count, df, "control")
    assert found.critical(0.05) == pytest.approx(critical, abs=1e-3)
    assert found.tail(found.critical(0.01)) == pytest.approx(0.01, rel=1e-4)


def test_one_comparison_is_the_paired_t_test():
    a, b = [73.1, 72.4, 74.0, 73.6, 72.9], [72.0, 72.3, 72.8, 72.4, 72.1]
    found = compare(values(margin=a, random=b), "random").with_control[0]
    theirs = stats.ttest_rel(a, b)
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert found.standing is Standing.AHEAD
    assert found.seeds == 5


def test_a_variance_is_half_its_own_and_half_the_familys():
    differences = [np.array([0.0, 2, 4]), np.array([1.0, 1.5, 2])]
    found = moderated(differences, [("a", "c"), ("b", "c")])
    assert found.std**2 == pytest.approx([(4 + 2.125) / 2, (0.25 + 2.125) / 2])
    # Weights 3/4 and 1/4, variances correlated by 1/4: df = 2 / (9/16 + 1/16 + 2 x 3/16 x 1/4).
    assert found.df == pytest.approx([2 / (10 / 16 + 6 / 64)] * 2)


def test_an_interval_leaves_out_zero_exactly_where_p_is_below_the_level():
    rng = np.random.default_rng(0)
    for _ in range(40):
        areas = values(**{name: rng.normal(shift, 1, 5) for name, shift in zip("abcd", (0, 1, 2, 3))})
        found = compare(areas, "a")
        for c in (*found.with_control, *found.among):
            if not np.isnan(c.p):
                assert (c.p < 0.05) == (c.low > 0 or c.high < 0)
                assert (c.p < 0.05) == (c.standing in (Standing.AHEAD, Standing.BEHIND))


def test_a_comparison_reads_the_same_from_either_side():
    found = compare(values(a=[1, 2, 3.5], b=[4, 4.5, 7]), None)
    there, back = found.of("a", "b"), found.of("b", "a")
    assert back.estimate == -there.estimate
    assert (back.low, back.high, back.p) == (-there.high, -there.low, there.p)
    assert back.turned() == there


def test_strategies_are_told_apart_only_where_one_differs_from_random():
    """Nothing differs from random: among themselves nothing is tested, however far apart two of them look."""
    found = compare(values(random=[0, 0, 0, 0], up=[1, 2.2, -0.1, 1.5], down=[-1.4, -0.3, -2.4, -1]), "random")
    assert all(c.standing is Standing.UNCLEAR for c in found.with_control)
    assert np.isnan(found.of("up", "down").p)
    alone = compare(values(up=[1, 2.2, -0.1, 1.5], down=[-1.4, -0.3, -2.4, -1]))
    assert alone.of("up", "down").p < 0.05


# Few and missing seeds


def test_one_seed_says_nothing_and_two_are_a_hint():
    for seeds, standing in ((1, Standing.UNKNOWN), (2, Standing.HINT)):
        found = compare(values(random=[50, 51][:seeds], margin=[60, 61.1][:seeds]), "random").with_control[0]
        assert found.standing is standing
        assert np.isnan([found.p, found.low, found.high]).all()
        assert found.estimate == pytest.approx(10, abs=0.1)
    one, two = (judge(Evidence({"random": shifted(0, n), "margin": shifted(5, n)})) for n in (1, 2))
    assert one.headline.kind is HeadlineKind.NOTHING
    assert (two.headline.kind, two.headline.strategy) == (HeadlineKind.HINT, "margin")


def test_a_strategy_with_a_missing_seed_is_compared_on_the_rest_and_leads_by_no_easy_split():
    random, good = shifted(0), shifted(2)
    easy = {seed: run for seed, run in shifted(0.1).items() if seed in (2, 3, 4)}  # seeds rise: these are the easy ones
    found = judge(Evidence({"random": random, "easy": easy, "good": good}))
    assert np.mean(list(found.values["easy"].values())) > np.mean(list(found.values["random"].values())) + 0.8
    assert found.leader == "good"
    assert found.missing_seeds == {"easy": (0, 1)}
    assert found.comparisons.of("easy", "random").seeds == 3


def test_a_single_seed_never_leads():
    lucky = {4: shifted(9)[4]}
    found = judge(Evidence({"random": shifted(0), "margin": shifted(2), "lucky": lucky}))
    assert found.headline.strategy == found.leader == "margin"
    assert found.headline.kind is HeadlineKind.AHEAD
    assert found.not_told_apart == ("lucky",)


def test_a_short_run_shortens_its_own_seed_only():
    random, margin = shifted(0), shifted(2)
    margin[0] = curve(*margin[0].accuracy[:2])
    found = judge(Evidence({"random": random, "margin": margin}))
    assert found.spans[0] == (50, 100)
    assert found.spans[1] == (50, 400)


def test_equal_differences_are_no_proof():
    found = compare(values(random=[1, 2, 3], margin=[3, 4, 5]), "random").with_control[0]
    assert found.p == pytest.approx(0.25)
    same = compare(values(random=[1, 2, 3], margin=[1, 2, 3]), "random").with_control[0]
    assert same.p == 1
    assert same.negligible


# The areas and the savings


def test_the_area_is_over_the_logarithm_of_the_labels():
    found = judge(Evidence({"random": shifted(0), "margin": {s: curve(40, 50, 60, 70) for s in range(5)}}))
    assert found.measure is Measure.AREA
    assert found.values["margin"][0] == pytest.approx(55)  # counts double: a straight line over their logarithm


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
    saving = found.saving("margin", "random")
    assert saving.bound is Bound.AT_MOST
    assert saving.seeds == 2
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


def test_random_defines_its_targets_and_is_not_ranked_by_them():
    found = judge(Evidence({"random": shifted(0), "margin": shifted(3)}))
    own = [result for result in found.targets if result.target.kind is TargetKind.CONTROL]
    assert [result.target.fraction for result in own] == [0.5, 0.75, 1.0]
    assert {saving.strategy for result in own for saving in result.savings} == {"margin"}
    assert all(saving.percent > 10 for result in own for saving in result.savings)
    assert {s.strategy for s in found.supported_savings} == {"margin"}


def test_a_target_that_the_first_labels_reach_is_no_strategys_merit():
    """The imbalanced variant's baseline is beaten by the balanced first labels before anything was chosen."""
    names = ("uncertainty", "margin", "typiclust")
    runs = {name: {s: curve(75.8 + s, loss=np.array([0.7]), beat_baseline=True) for s in range(5)} for name in names}
    baseline = {s: Baseline(65.1 + s, 4100, 1.0) for s in range(5)}
    found = judge(Evidence(runs, "random", baseline, stops_at_baseline=True))
    assert found.headline == replace(found.headline, kind=HeadlineKind.FIRST_LABELS, strategy=None)
    (result,) = found.targets
    assert result.by_first_labels
    assert not found.supported_savings


def test_a_target_of_accuracy_and_loss_shows_both():
    """Accuracy 79 beats the baseline's 75 in every seed; its loss does not."""
    loss = np.array([2.0, 1.8, 1.7, 1.65])
    runs = {"margin": {s: curve(60, 70, 75, 79 + s, loss=loss, beat_baseline=False) for s in range(3)}}
    baseline = {s: Baseline(72.5, 1300, 1.2) for s in range(3)}
    found = judge(Evidence(runs, "random", baseline, stops_at_baseline=True))
    (result,) = found.targets
    need = result.need("margin")
    assert [need.accuracy[s].labels for s in range(3)] == [150] * 3
    assert [need.with_loss[s].censored for s in range(3)] == [True] * 3
    assert result.saving("margin", BASELINE).bound is Bound.NONE
    assert result.saving("margin", BASELINE, with_loss=True).bound is Bound.AT_MOST


def test_no_human_labels_divide_by_nothing():
    free = {s: Curve(LABELS, np.array([0.0, 50, 150, 350]), np.array([60.0, 70, 80, 90])) for s in range(3)}
    runs = {"random": free, "margin": free}
    (target,) = find_targets(runs, None, {}, given=[55.0])
    found = measure(target, runs, "random", {})
    assert found.by_first_labels
    assert found.saving("margin", "random").percent == 0


def test_without_random_the_baseline_is_the_reference_at_its_own_labels():
    runs = {"margin": shifted(4), "coreset": shifted(0)}
    baseline = {s: Baseline(78.0 + s, 400) for s in range(5)}
    found = judge(Evidence(runs, "random", baseline))
    assert (found.measure, found.reference) == (Measure.FINAL, BASELINE)
    assert found.values["margin"][2] == runs["margin"][2].accuracy[-1]
    assert found.ahead == ("margin",)
    assert found.headline.kind is HeadlineKind.BEST


@pytest.mark.parametrize(
    "bad", [{"labels": [50, 50, 60]}, {"labels": [60, 50, 70]}, {"labels": [1, 2]}, {"accuracy": [1, np.nan, 2]}]
)
def test_a_curve_that_cannot_be_read_is_refused(bad):
    arrays = {"labels": [50, 60, 70], "accuracy": [1, 2, 3]} | bad
    arrays = {name: np.array(found, float) for name, found in arrays.items()}
    with pytest.raises(ValueError, match="learning curve"):
        Curve(arrays["labels"], arrays["labels"], arrays["accuracy"])


# How much more, and the range of an accuracy


def test_more_seeds_are_those_of_the_power_of_a_t_test():
    null = Null(1, 4, "control")
    found = more_seeds(1.0, 1.0, 5, null, 0.05, 1.0)
    power = {n: stats.nct.sf(stats.t.isf(0.025, n - 1), n - 1, n**0.5) for n in (9, 10)}
    assert power[9] < 0.8 <= power[10]
    assert found.clear == 5
    assert more_seeds(0.01, 1.0, 5, null, 0.05, 1.0).clear is None
    assert more_seeds(0.01, 1.0, 5, null, 0.05, 1.0).negligible < 15
    assert more_seeds(0.01, 20.0, 5, null, 0.05, 1.0).negligible is None
    assert MAX_MORE_SEEDS == 50


def test_more_seeds_do_settle_it():
    """Simulated: with the seeds asked for, eight in ten repetitions are clear."""
    found = compare(values(random=[0, 0, 0, 0, 0], margin=[0.1, 1.9, -0.2, 1.7, 1.5]), "random").with_control[0]
    assert found.standing is Standing.UNCLEAR
    rng, n = np.random.default_rng(0), 5 + found.more.clear
    p = stats.ttest_1samp(rng.normal(found.estimate, found.std, (2000, n)), 0, axis=1).pvalue
    assert 0.77 < (p < 0.05).mean() < 0.9


def test_an_interval_of_accuracies_stays_between_0_and_100():
    for accuracies in ([99.0, 100, 100], [0.0, 0.5, 0.2], [97, 99.9, 99.9, 99.8]):
        found = accuracy_interval(accuracies)
        assert 0 <= found.low <= found.mean <= found.high <= 100
    middle = accuracy_interval([50, 52, 51, 49, 50.5])
    low, high = stats.t.interval(0.95, 4, loc=50.5, scale=stats.sem([50, 52, 51, 49, 50.5]))
    assert (middle.low, middle.high) == pytest.approx((low, high), abs=0.01)
    assert accuracy_interval([100.0, 100, 100])[:3] == (100, 100, 100)
    assert np.isnan(accuracy_interval([70.0, 71])[1:3]).all()


# Simulations: what may be relied on


def tolerated(level, draws):
    """A rate that a procedure with this error exceeds once in two hundred sittings."""
    return level + 2.6 * (level * (1 - level) / draws) ** 0.5


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("rivals", [1, 4])
def test_under_no_effect_one_report_in_twenty_claims_one(seeds, rivals):
    draws, rng = 500, np.random.default_rng([seeds, rivals])
    found = [compare(_named(row), "0") for row in heights(Design(rivals=rivals, seeds=seeds), draws, rng)]
    wrong = [any(c.p < 0.05 for c in (*one.with_control, *one.among)) for one in found]
    assert np.mean(wrong) <= tolerated(0.05, draws)


@pytest.mark.parametrize(
    "more", [{"baseline": True, "targets": (85.0, 99.0)}, {"baseline": True, "stops_at_baseline": True}]
)
def test_so_it_is_with_baselines_and_runs_that_miss_their_target(more):
    draws, rng = 150, np.random.default_rng(5)
    found = [judge(draw(Design(rivals=3, seeds=5, **more), rng)) for _ in range(draws)]
    assert np.mean([bool(claims(one)) for one in found]) <= tolerated(0.05, draws)
    assert any(reach.censored for one in found for r in one.targets for n in r.needs for reach in n.accuracy.values())


def test_where_some_are_better_no_false_claim_comes_with_it():
    """Two of four are better by 10 points: that uses up nothing of what protects the other comparisons."""
    draws, rng = 400, np.random.default_rng(6)
    areas = heights(Design(rivals=4, seeds=5, effects=(10.0, 10.0)), draws, rng)
    wrong = 0
    for row in areas:
        found = compare(_named(row), "0")
        equal = [found.of(a, b) for a, b in (("1", "2"), ("3", "4"), ("3", "0"), ("4", "0"))]
        wrong += any(c.p < 0.05 for c in equal)
    assert wrong / draws <= tolerated(0.05, draws)


def test_power_of_one_comparison_and_in_a_family():
    """An effect of two paired standard deviations with five seeds; the family has four strategies beside random."""
    power = {}
    for rivals in (1, 4):
        design, draws = Design(rivals=rivals, seeds=5), 400
        areas = heights(design, draws, np.random.default_rng(rivals))
        areas[:, 1] += 2 * paired_sd(design)
        power[rivals] = np.mean([compare(_named(row), "0").with_control[0].p < 0.05 for row in areas])
    assert 0.86 < power[1] < 0.94
    assert 0.78 < power[4] < 0.90


def test_it_finds_more_than_the_corrected_t_test_and_claims_less_than_one_variance_for_all():
    design, rng, draws = Design(rivals=4, seeds=3, control_noise=2.0), np.random.default_rng(8), 600
    null = heights(design, draws, rng)
    size = {name: (PROCEDURES[name](null).min(axis=1) < 0.05).mean() for name in PROCEDURES}
    found = null.copy()
    found[:, 1] += 2 * paired_sd(design)
    power = {name: (PROCEDURES[name](found)[:, 0] < 0.05).mean() for name in PROCEDURES}
    assert size["half own, half pooled"] <= tolerated(0.05, draws)
    assert size["Dunnett, one variance"] > 0.08
    assert power["half own, half pooled"] > 2 * power["paired t, Holm"]
    assert power["sign flips, max t"] == 0


def test_a_worse_strategy_is_never_the_headline_in_a_thousand_draws():
    """One of four is better than the rest by 3 points at every count after the first."""
    rng = np.random.default_rng(9)
    named = []
    for k in range(1000):
        design = Design(rivals=3, seeds=(3, 5, 10)[k % 3], effects=(3.0,))
        evidence = draw(design, rng)
        named.append(judge(replace(evidence, curves=_shuffled(evidence.curves, rng))).headline)
    assert {headline.strategy for headline in named} <= {"strategy_1", None}
    assert np.mean([headline.strategy == "strategy_1" for headline in named]) > 0.8
    assert all((headline.strategy is not None) == (headline.kind in NAMING) for headline in named)


def test_a_better_strategy_that_misses_a_target_in_one_seed_still_leads():
    """Random defines its target and so always reaches it; the rival misses it once and leads everywhere else."""
    random, better = shifted(0), shifted(3)
    better[0] = curve(*np.minimum(better[0].accuracy, random[0].accuracy[-1] - 0.5))
    found = judge(Evidence({"random": random, "better": better}))
    assert any(reach.censored for r in found.targets for reach in r.need("better").accuracy.values())
    assert found.leader == "better"
    assert found.headline.strategy in ("better", None)


def test_stopping_at_the_baseline_saves_labels_without_any_merit_and_has_no_p_value():
    """Random sampling stops when it happens to beat a baseline on the same test set: labels "saved", no finding."""
    rng = np.random.default_rng(10)
    design = Design(rivals=1, seeds=5, baseline=True, stops_at_baseline=True)
    found = [judge(draw(design, rng)) for _ in range(100)]
    results = [result for one in found for result in one.targets]
    assert all(result.target.by_construction for result in results)
    savings = [result.saving(CONTROL, BASELINE, with_loss=True) for result in results]
    assert np.mean([s.percent for s in savings]) > 10
    assert np.isnan([(s.low, s.high) for s in savings]).all()
    assert "p" not in {field.name for field in fields(Saving)}
    assert all(BASELINE not in (c.a, c.b) for one in found for c in one.comparisons.with_control)
    assert np.mean([bool(claims(one)) for one in found]) <= tolerated(0.05, 100)


def test_claims_are_counted_against_the_truth():
    found = judge(Evidence({"random": shifted(0), "margin": shifted(5)}))
    assert claims(found) == {("margin", "random")}
    assert false_claims(found, {"margin": 5.0}) == 0
    assert false_claims(found, {}) == 1


def test_all_within_the_margin_is_an_answer_of_its_own():
    found = judge(Evidence({"random": shifted(0, 10, 0.1), "margin": shifted(0.02, 10, 0.1)}))
    assert found.headline.kind in (HeadlineKind.NEGLIGIBLE, HeadlineKind.BEST)
    assert all(isinstance(c, Comparison) and c.negligible for c in found.comparisons.with_control)


def test_random_ahead_names_nobody():
    found = judge(Evidence({"random": shifted(4), "typiclust": shifted(0), "coreset": shifted(1)}))
    assert found.headline.kind is HeadlineKind.BEHIND
    assert found.headline.strategy is None
    assert found.behind == ("coreset", "typiclust")
    assert found.leader == "random"


def test_the_leader_is_compared_with_everybody_by_the_same_numbers():
    found = judge(Evidence({"random": shifted(0), "margin": shifted(3), "badge": shifted(2.9), "coreset": shifted(1)}))
    assert {c.b for c in found.against_leader} == set(found.estimates) - {found.leader}
    against_random = next(c for c in found.against_leader if c.b == "random")
    assert against_random in found.comparisons.with_control
    assert set(found.not_told_apart) | set(found.worse_than_leader) == set(found.estimates) - {found.leader}


def _named(areas):
    return {str(k): dict(enumerate(map(float, row))) for k, row in enumerate(areas)}


def _shuffled(curves, rng):
    names = list(curves)
    return {names[k]: curves[names[k]] for k in rng.permutation(len(names))}
