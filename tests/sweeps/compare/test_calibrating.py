"""How many seeds and strategies the time is for."""

from pathlib import Path

import pytest

from al.errors import UserError
from sweeps.compare.calibrating import SEEDS, Pace, check_time, plan, seeds_of
from sweeps.compare.choosing import FEWEST, Images, Wishes, choose

PHOTOS = Images(Path("/photos"), {"cat": (90, 30), "dog": (90, 30)}, {(64, 64): 240}, None)
CHOICE = choose(PHOTOS, Wishes(features="file:vectors.npz"))
ASKED = choose(PHOTOS, Wishes("file:vectors.npz", None, ("margin", "badge", "coreset")))
QUICK, SLOW = Pace(first=20, run=4), Pace(first=600, run=300)


def test_the_runs_fit_into_the_time():
    for minutes in (3, 5, 10, 20):
        planned = plan(CHOICE, QUICK, minutes, limit=1)
        assert 0.5 * 60 * minutes < planned.seconds <= 60 * minutes or planned.seeds == SEEDS


def test_more_time_gives_more_seeds_and_they_add_to_the_fewer():
    counts = []
    for minutes in (2, 3, 4, 5):
        planned = plan(CHOICE, QUICK, minutes, limit=1)
        assert planned.seeds == SEEDS[: len(planned.seeds)]
        counts.append(len(planned.seeds))
    assert counts == sorted(set(counts))


def test_runs_at_a_time_take_less_of_it():
    assert len(plan(CHOICE, QUICK, 3, limit=2).seeds) > len(plan(CHOICE, QUICK, 3, limit=1).seeds)


def test_strategies_go_before_there_are_fewer_than_three_seeds():
    planned = plan(CHOICE, SLOW, 75, limit=1)
    assert len(planned.seeds) == 3
    assert planned.choice.strategies == CHOICE.strategies[: FEWEST + 1]
    left_out, seeds = planned.reasons
    assert left_out.chosen == "margin, dropquery"
    assert "fit into 75 minutes" in seeds.why


def test_too_little_time_is_said_with_what_would_do():
    planned = plan(CHOICE, SLOW, 10, limit=1)
    assert len(planned.seeds) == 1
    assert len(planned.choice.strategies) == FEWEST
    assert "take 50 minutes" in planned.reasons[-1].why  # 600 s + 8 runs of 300 s


def test_what_was_asked_for_is_kept():
    assert plan(ASKED, SLOW, 10, limit=1).choice.strategies == ASKED.strategies
    planned = plan(CHOICE, SLOW, 10, limit=1, seeds=12)
    assert planned.choice.strategies == CHOICE.strategies
    assert planned.seeds == seeds_of(12)
    assert len(set(planned.seeds)) == 12


@pytest.mark.parametrize(
    ("values", "words"),
    [((0, None), "--minutes=0"), ((float("nan"), None), "--minutes=nan"), ((30, 0), "--seeds=0")],
)  # fmt: skip
def test_numbers_that_are_none_are_one_line(values, words):
    with pytest.raises(UserError, match=words):
        check_time(*values)
