"""The verdict on a setting: by hand, and on simulated settings of which the truth is known."""

from dataclasses import fields, replace

import numpy as np
import pytest

from benchmarks.verdict_simulation import CONTROL, Design, claims, draw, false_claims, tolerated
from sweeps.report.comparisons import Standing
from sweeps.report.inference import Evidence, HeadlineKind, Measure, judge
from sweeps.report.label_savings import BASELINE, Baseline, Bound, Curve, Saving, TargetKind

LABELS = np.array([50.0, 100, 200, 400])


def curve(*accuracy, labels=LABELS, **more):
    labels = np.asarray(labels, float)[: len(accuracy)]
    return Curve(labels, labels, np.array(accuracy, float), **more)


def shifted(points, seeds=5, spread=0.3, start=60):
    """Curves of `seeds` seeds that lie `points` above a common one after the first labels."""
    rng = np.random.default_rng([abs(int(points * 100)), seeds])
    shape = np.array([0, 8, 14, 18.0])
    return {
        seed: curve(*(start + seed + shape + (shape > 0) * (points + spread * rng.standard_normal(4))))
        for seed in range(seeds)
    }


def test_one_seed_says_nothing_and_two_are_a_hint():
    one, two = (judge(Evidence({"random": shifted(0, n), "margin": shifted(5, n)})) for n in (1, 2))
    for found, standing in ((one, Standing.UNKNOWN), (two, Standing.HINT)):
        (comparison,) = found.comparisons.with_control
        assert comparison.standing is standing
        assert np.isnan([comparison.p, comparison.low, comparison.high]).all()
        assert comparison.estimate > 3
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


def test_a_random_control_of_two_seeds_leaves_the_strategies_to_be_compared():
    two = {seed: run for seed, run in shifted(0).items() if seed < 2}
    found = judge(Evidence({"random": two, "margin": shifted(4), "coreset": shifted(1)}))
    assert found.comparisons.of("margin", "random").standing is Standing.HINT
    assert found.comparisons.of("margin", "coreset").standing is Standing.AHEAD
    assert (found.headline.kind, found.headline.strategy) == (HeadlineKind.AHEAD, "margin")


def test_what_more_seeds_could_settle():
    margin = shifted(6)
    swings = (2, -2, 1.5, -2, 0)
    badge = {seed: curve(*(run.accuracy - swings[seed])) for seed, run in margin.items()}
    (open_one,) = judge(Evidence({"random": shifted(0), "margin": margin, "badge": badge})).unsettled
    assert {open_one.a, open_one.b} == {"margin", "badge"}
    assert open_one.more is not None


def test_a_short_run_shortens_its_own_seed_only():
    random, margin = shifted(0), shifted(2)
    margin[0] = curve(*margin[0].accuracy[:2])
    found = judge(Evidence({"random": random, "margin": margin}))
    assert found.spans[0] == (50, 100)
    assert found.spans[1] == (50, 400)


def test_the_area_is_over_the_logarithm_of_the_labels():
    found = judge(Evidence({"random": shifted(0), "margin": {s: curve(40, 50, 60, 70) for s in range(5)}}))
    assert found.measure is Measure.AREA
    assert found.values["margin"][0] == pytest.approx(55)  # counts double: a straight line over their logarithm


def test_random_defines_its_targets_and_is_not_ranked_by_them():
    found = judge(Evidence({"random": shifted(0), "margin": shifted(3)}))
    own = [result for result in found.targets if result.target.kind is TargetKind.CONTROL]
    assert [result.target.fraction for result in own] == [0.5, 0.75, 1.0]
    assert {saving.strategy for result in own for saving in result.savings} == {"margin"}
    assert all(saving.percent > 10 for result in own for saving in result.savings)


def test_a_target_that_the_first_labels_reach_is_no_strategys_merit():
    """The imbalanced variant's baseline is beaten by the balanced first labels before anything was chosen."""
    names = ("uncertainty", "margin", "typiclust")
    runs = {name: {s: curve(75.8 + s, loss=np.array([0.7]), beat_baseline=True) for s in range(5)} for name in names}
    baseline = {s: Baseline(65.1 + s, 4100, 1.0) for s in range(5)}
    found = judge(Evidence(runs, "random", baseline, stops_at_baseline=True))
    assert found.headline == replace(found.headline, kind=HeadlineKind.FIRST_LABELS, strategy=None)
    (result,) = found.targets
    assert result.by_first_labels


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


def test_without_random_the_baseline_is_the_reference_at_its_own_labels():
    runs = {"margin": shifted(4), "coreset": shifted(0)}
    baseline = {s: Baseline(78.0 + s, 400) for s in range(5)}
    found = judge(Evidence(runs, "random", baseline))
    assert (found.measure, found.reference) == (Measure.FINAL, BASELINE)
    assert found.values["margin"][2] == runs["margin"][2].accuracy[-1]
    assert found.ahead == ("margin",)
    assert found.headline.kind is HeadlineKind.BEST


@pytest.mark.parametrize(
    "more", [{"baseline": True, "targets": (85.0, 99.0)}, {"baseline": True, "stops_at_baseline": True}]
)
def test_so_it_is_with_baselines_and_runs_that_miss_their_target(more):
    draws, rng = 150, np.random.default_rng(5)
    found = [judge(draw(Design(rivals=3, seeds=5, **more), rng)) for _ in range(draws)]
    assert np.mean([bool(claims(one)) for one in found]) <= tolerated(0.05, draws)
    assert any(reach.censored for one in found for r in one.targets for n in r.needs for reach in n.accuracy.values())


def test_a_worse_strategy_is_never_the_headline_in_a_thousand_draws():
    """One of four is better than the rest by 3 points at every count after the first."""
    rng = np.random.default_rng(9)
    named = []
    for k in range(1000):
        design = Design(rivals=3, seeds=(3, 5, 10)[k % 3], effects=(3.0,), counts=6)
        evidence = draw(design, rng)
        named.append(judge(replace(evidence, curves=_shuffled(evidence.curves, rng))).headline)
    assert {headline.strategy for headline in named} <= {"strategy_1", None}
    assert np.mean([headline.strategy == "strategy_1" for headline in named]) > 0.8
    naming = (HeadlineKind.HINT, HeadlineKind.BEST, HeadlineKind.AHEAD)
    assert all((headline.strategy is not None) == (headline.kind in naming) for headline in named)


def test_who_is_ahead_may_save_nothing_that_is_known():
    found = judge(Evidence({"random": shifted(0), "margin": shifted(3)}, targets=(99.0,)))
    assert found.ahead == ("margin",)
    assert {s.bound for s in found.targets[0].savings} == {Bound.UNKNOWN}


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
    assert found.headline.kind is HeadlineKind.NEGLIGIBLE
    assert all(c.negligible and c.settled for c in found.comparisons.with_control)
    assert not found.unsettled


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


def _shuffled(curves, rng):
    names = list(curves)
    return {names[k]: curves[names[k]] for k in rng.permutation(len(names))}


def test_where_the_curves_end_each_strategy_is_looked_at_once_more():
    random, late, early = shifted(0), shifted(3), shifted(3)
    for seed, run in early.items():
        early[seed] = curve(*(run.accuracy + np.array([0, 2, 2, -6])))
    found = judge(Evidence({"random": random, "late": late, "early": early}))
    expected = [early[seed].accuracy[-1] - random[seed].accuracy[-1] for seed in range(5)]
    assert found.at_the_end["early"].mean == pytest.approx(np.mean(expected))
    assert found.comparisons.of("early", "random").standing is Standing.AHEAD
    assert set(found.contradicted_at_the_end) == {"early"}


def test_what_is_within_the_margin_on_average_may_not_be_so_in_the_end():
    random = shifted(0, 10, 0.05)
    swinging = {seed: curve(*(run.accuracy + np.array([0, 3, -1.5, -3]))) for seed, run in random.items()}
    found = judge(Evidence({"random": random, "swinging": swinging}))
    assert found.headline.kind is HeadlineKind.NEGLIGIBLE
    assert found.contradicted_at_the_end["swinging"].mean == pytest.approx(-3)
    small = shifted(0.2, 10, 0.05)
    steady = {seed: curve(*(run.accuracy - np.array([0, 0, 0, 0.4]))) for seed, run in small.items()}
    assert not judge(Evidence({"random": random, "steady": steady})).contradicted_at_the_end


def test_a_baseline_of_few_seeds_is_no_reference_where_the_strategies_share_more():
    runs = {"margin": shifted(4), "coreset": shifted(0)}
    few = judge(Evidence(runs, "random", {0: Baseline(78.0, 400), 1: Baseline(79.0, 400)}))
    assert (few.measure, few.reference, few.seeds) == (Measure.AREA, None, 5)
    alone = judge(Evidence({"margin": shifted(4)}, "random", {0: Baseline(78.0, 400), 1: Baseline(79.0, 400)}))
    assert (alone.measure, alone.reference, alone.seeds) == (Measure.FINAL, BASELINE, 2)
