"""Comparisons of strategies: against SciPy and by hand, and on simulated settings of which the truth is known."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.verdict_simulation import PROCEDURES, Design, heights, named, paired_sd, tolerated
from sweeps.report.comparisons import (
    MAX_MORE_SEEDS,
    Standing,
    accuracy_interval,
    compare,
    moderated,
    more_seeds,
)
from sweeps.report.largest_t import Null


def values(**by_strategy):
    """Areas by strategy and seed, from one list a strategy."""
    return {name: dict(enumerate(map(float, found))) for name, found in by_strategy.items()}


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


def test_a_variance_is_shrunk_to_the_familys():
    differences = [np.array([0.0, 2, 4]), np.array([1.0, 1.5, 2])]
    found = moderated(differences, [("a", "c"), ("b", "c")])
    assert found.std**2 == pytest.approx([(2 * 4 + 4 * 2.125) / 6, (2 * 0.25 + 4 * 2.125) / 6])
    # Weights 2/3 and 1/3, variances correlated by 1/3: df = 2 / (4/9 + 1/9 + 2 x 2/9 x 1/3).
    assert found.df == pytest.approx([2 / (19 / 27)] * 2)


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


def test_equal_differences_are_no_proof():
    found = compare(values(random=[1, 2, 3], margin=[3, 4, 5]), "random").with_control[0]
    assert found.p == pytest.approx(0.25)
    same = compare(values(random=[1, 2, 3], margin=[1, 2, 3]), "random").with_control[0]
    assert same.p == 1
    assert same.negligible


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


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("rivals", [1, 4])
def test_under_no_effect_one_report_in_twenty_claims_one(seeds, rivals):
    draws, rng = 400, np.random.default_rng([seeds, rivals])
    found = [compare(named(row), "0") for row in heights(Design(rivals=rivals, seeds=seeds), draws, rng)]
    wrong = [any(c.p < 0.05 for c in (*one.with_control, *one.among)) for one in found]
    assert np.mean(wrong) <= tolerated(0.05, draws)


def test_so_it_is_where_seeds_are_missing():
    draws, rng, wrong = 150, np.random.default_rng(7), 0
    for row in heights(Design(rivals=4, seeds=5), draws, rng):
        areas = named(row)
        for runs in areas.values():
            for seed in rng.choice(5, rng.integers(0, 3), replace=False):
                del runs[int(seed)]
        found = compare(areas, "0")
        wrong += any(c.p < 0.05 for c in (*found.with_control, *found.among))
    assert wrong / draws <= tolerated(0.05, draws)


def test_where_some_are_better_no_false_claim_comes_with_it():
    """Two of four are better by 10 points: that uses up nothing of what protects the other comparisons."""
    draws, rng = 400, np.random.default_rng(6)
    areas = heights(Design(rivals=4, seeds=5, effects=(10.0, 10.0)), draws, rng)
    wrong = 0
    for row in areas:
        found = compare(named(row), "0")
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
        power[rivals] = np.mean([compare(named(row), "0").with_control[0].p < 0.05 for row in areas])
    assert 0.86 < power[1] < 0.94
    assert 0.78 < power[4] < 0.90


def test_it_finds_more_than_the_corrected_t_test_and_claims_less_than_one_variance_for_all():
    design, rng, draws = Design(rivals=4, seeds=3, control_noise=2.0), np.random.default_rng(8), 300
    null = heights(design, draws, rng)
    size = {name: (PROCEDURES[name](null).min(axis=1) < 0.05).mean() for name in PROCEDURES}
    found = null.copy()
    found[:, 1] += 2 * paired_sd(design)
    power = {name: (PROCEDURES[name](found)[:, 0] < 0.05).mean() for name in PROCEDURES}
    assert size["moderated t, max t"] <= tolerated(0.05, draws)
    assert size["Dunnett, one variance"] > 0.07
    assert power["moderated t, max t"] > 2 * power["paired t, Holm"]
    assert power["sign flips, max t"] == 0
