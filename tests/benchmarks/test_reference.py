"""The learning curves of all strategies are those that are kept in `benchmarks/reference`."""

import dataclasses

import numpy as np
import pytest

from al.learning import linear_probe
from al.strategies import REGISTRY
from al.strategies.scores import ranking, smallest_margin
from benchmarks.reference import __main__ as command
from benchmarks.reference import toy_sets
from benchmarks.reference.curves import (
    BENCHES,
    CHECKED,
    DIGITS,
    SEEDS,
    THREE_CLUST,
    check,
    compare,
    mean_areas,
)


@pytest.mark.parametrize("strategy", DIGITS.strategies)
def test_the_area_of_every_strategy_is_where_it_was(strategy):
    found = check(DIGITS, strategy)
    assert found.holds, f"{found}; where that is meant: python -m benchmarks.reference --update"


def test_every_strategy_of_the_registry_is_kept():
    kept = {(point.strategy, point.seed) for point in DIGITS.kept()}
    assert kept == {(name, seed) for name, method in REGISTRY.items() if not method.baseline for seed in SEEDS}


class TestChangesThatAreSeen:
    """What somebody may break without a word; each moves a curve out of its interval."""

    def test_the_wrong_end_of_a_ranking(self, monkeypatch):
        backwards = ranking(lambda probs: -smallest_margin(probs))
        monkeypatch.setitem(REGISTRY, "margin", dataclasses.replace(REGISTRY["margin"], choose=backwards))
        assert not check(DIGITS, "margin").holds

    def test_a_head_that_is_not_at_its_optimum(self, monkeypatch):
        monkeypatch.setattr(linear_probe, "ITERATIONS", 2)
        assert not check(DIGITS, "random").holds

    def test_the_command_says_so_and_fails(self, monkeypatch, capsys):
        monkeypatch.setitem(REGISTRY, "margin", REGISTRY["random"])
        assert command.main(["--strategies", "margin"]) == 1
        said = capsys.readouterr()
        assert "MOVED" in said.out
        assert "error: 1 areas moved" in said.err


def test_sets_without_a_strategy_are_passed_over(capsys):
    assert command.main(["--bench", "three_clust", "--strategies", "bait"]) == 0
    assert "bait" not in capsys.readouterr().out


def test_uncertainty_falls_into_the_trap_that_was_set_for_it():
    """CDALBench's ThreeClust: a third of the points are of either class alike, and there a model is unsure."""
    rows = {row.strategy: row for row in mean_areas(THREE_CLUST.kept())}
    for strategy in ("margin", "entropy"):
        assert rows[strategy].ahead + rows[strategy].half < 0
        assert check(THREE_CLUST, strategy, CHECKED[:2]).strategy == strategy
    assert rows["typiclust_typical"].ahead - rows["typiclust_typical"].half > 0


@pytest.mark.slow
@pytest.mark.parametrize("bench", ["three_clust", "diverging_sin"])
def test_the_areas_on_the_toy_sets_are_where_they_were(bench):
    found = [check(BENCHES[bench], strategy) for strategy in BENCHES[bench].strategies]
    assert all(comparison.holds for comparison in found), "\n".join(map(str, found))


def test_what_may_move_follows_from_the_seeds():
    kept = {seed: 80 + seed % 2 for seed in SEEDS}  # a standard deviation of 0.513
    same = compare("it", kept, {seed: kept[seed] for seed in CHECKED})
    assert (same.same, same.holds) == (True, True)
    assert same.allowed == pytest.approx(0.75 * np.std(list(kept.values()), ddof=1))
    assert compare("it", kept, {seed: kept[seed] + 0.3 for seed in CHECKED}).holds
    assert not compare("it", kept, {seed: kept[seed] - 0.5 for seed in CHECKED}).holds


def test_three_clust_is_as_cdalbench_defines_it():
    points, labels = toy_sets.three_clust(np.random.default_rng(0), size=4000)
    quarters = points.reshape(4, 4000, 2)
    assert quarters.mean(axis=1) == pytest.approx(np.array([(0, 0), (4, 3), (0, 6), (4, 3)]), abs=0.06)
    assert labels.reshape(4, 4000).min(axis=1).tolist() == labels.reshape(4, 4000).max(axis=1).tolist() == [1, 1, 0, 0]


def test_diverging_sin_runs_apart():
    points, labels = toy_sets.diverging_sin(np.random.default_rng(0), noise=0.0)
    above, below = points[labels == 1], points[labels == 0]
    assert above[:, 1] - below[:, 1] == pytest.approx(np.linspace(0, 10, 100))
    assert above[:, 1] + below[:, 1] == pytest.approx(2 * np.sin(2 * np.linspace(0, 10, 100)))
