"""Sweeps of which W&B's server chooses every run, as `sweeps/bayes.yaml` is one, beside those whose runs are fixed."""

import launch as repository
import pytest

from sweeps.runner import launch
from sweeps.runner.grid import load


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(repository.ROOT)


def test_a_dry_run_says_who_chooses(capsys):
    assert launch.main(["sweeps/bayes.yaml", "--dry-run"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "sweeps/bayes.yaml: up to 40 runs, whose parameters W&B's server chooses as it goes"
    assert launch.main(["sweeps/bayes.yaml", "sweeps/demo.yaml", "--dry-run", "--set", "split_seed=1"]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == line
    assert second == "sweeps/demo.yaml: 5 runs, 0 complete, 5 to run"


def test_failed_runs_that_the_server_chose_are_left_to_it(monkeypatch):
    """It hands out others in their place, up to the sweep's cap."""
    sweep = launch.Sweep("entity/project/sweep", load("sweeps/bayes.yaml", on_server=True))
    failed = launch.ServerRun("r1", "failed", "", {"lr": 0.01, "dataset": "digits"})
    monkeypatch.setattr(launch.Sweep, "runs", lambda self: [failed])
    monkeypatch.setattr(launch, "Runner", lambda *_, **__: pytest.fail("started a run that the server did not give"))
    assert launch.retry(sweep, 2) == 0
