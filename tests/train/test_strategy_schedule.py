"""`strategy=FIRST,SECOND`: each round is chosen as the strategy whose turn it is would choose it alone."""

from signal import SIGKILL

import launch
import pytest
import runs

TWO = {"strategy": "typiclust_typical,margin", "switch_after": 2, "batch_fraction": 0.08}


def rounds_of(launcher, results, **changed):
    outcome = launcher.run(launch.small(results, **TWO | changed))
    assert outcome.code == 0, outcome.stderr
    return runs.read_lines(runs.only_run(results) / "rounds.jsonl")[1:]


@pytest.fixture(scope="module")
def finished(launcher, tmp_path_factory):
    """Results folder and rounds of a run whose second strategy takes over in its third round."""
    results = tmp_path_factory.mktemp("schedule")
    return results, rounds_of(launcher, results)


def test_the_first_rounds_are_those_of_the_first_strategy(launcher, tmp_path, finished):
    alone = rounds_of(launcher, tmp_path, strategy="typiclust_typical")
    together = finished[1]
    assert len(together) > 3
    assert [entry["rows"] for entry in together[:2]] == [entry["rows"] for entry in alone[:2]]
    assert together[2]["rows"] != alone[2]["rows"]


def test_the_others_are_those_of_the_second(finished):
    """Typicalities are positive and margins are not; margins come closest first."""
    typical, margins = finished[1][:2], finished[1][2:]
    assert all(score > 0 for entry in typical for score in entry["scores"])
    assert all(score <= 0 for entry in margins for score in entry["scores"])
    assert all(entry["scores"] == sorted(entry["scores"], reverse=True) for entry in margins)


def test_the_switch_is_counted_from_the_start_of_a_run_that_was_cut(launcher, tmp_path, finished):
    outcome = launcher.run(launch.small(tmp_path, **TWO), strike=("replace checkpoint.pt", 3, SIGKILL))
    assert outcome.code == -SIGKILL, outcome.stderr
    assert rounds_of(launcher, tmp_path)[-1]["rows"] == finished[1][-1]["rows"]
    runs.assert_same(runs.only_run(tmp_path), runs.only_run(finished[0]))


def test_its_folder_names_both(finished):
    assert "-typiclust_typical-then-margin-" in runs.only_run(finished[0]).parent.name
    assert runs.read_json(runs.only_run(finished[0]) / "al_tracking.json")["strategy"] == TWO["strategy"]


def test_a_switch_that_never_comes_is_refused(launcher, tmp_path):
    outcome = launcher.run(launch.small(tmp_path, **TWO | {"switch_after": 30}))
    assert outcome.code == 2
    assert "switch_after=30: the budget is spent after" in outcome.stderr
    assert not list(tmp_path.rglob("*.json*"))
