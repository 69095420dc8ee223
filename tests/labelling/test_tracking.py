"""Rounds on W&B: a row each, labels and proposals as artifacts that lead from one to the next; never required."""

import json

import photos
import pytest
import wandb
from wandb_server import WandbServer

import al
from al.errors import UserError
from labelling import tracking


@pytest.fixture
def server(tmp_path, monkeypatch):
    with WandbServer() as server:
        for name, value in server.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("WANDB_MODE")
        for name in ("WANDB_DIR", "WANDB__TRANSACTION_LOG_FLUSH_INTERVAL", "WANDB_FINISH_TIMEOUT"):
            monkeypatch.setenv(name, str(tmp_path) if name == "WANDB_DIR" else "1" if "LOG" in name else "20")
        yield server
        wandb.teardown()  # its settings outlive a run: the next test of this process has another server


def test_rounds_are_runs_of_one_row_with_lineage(server, folder, truth, features):
    learner = al.open(folder, features=features)
    for _ in range(2):
        picks = learner.propose(9, classes=photos.CLASSES)
        learner.accept({pick.path: truth[pick.path] for pick in picks})
    first, second = sorted(server.runs.values(), key=lambda run: run.display)
    assert (first.display, second.display) == ("labelling-photos-round-0", "labelling-photos-round-1")
    assert first.group == second.group == "labelling-photos"
    assert second.job_type == "propose"
    (row,) = second.rows
    proposal = learner.project.rounds()[1]
    assert {name: row[name] for name in ("round", "labels", "trained_on", "picks")} == {
        "round": 1,
        "labels": 9,
        "trained_on": 9,
        "picks": 9,
    }
    assert row["cross_validation"] == pytest.approx(proposal.cross_validation)
    assert second.parameters["strategy"] == "margin"
    assert server.artifacts.keys() == {"labelling-photos-labels", "labelling-photos-proposal"}
    aliases = [
        sorted(alias["alias"] for alias in variables["input"]["aliases"])
        for operation, variables in server.requests
        if operation == "CreateArtifact" and variables["input"].get("aliases")
    ]
    assert ["latest", "round-1"] in aliases
    used = [variables["name"] for operation, variables in server.requests if operation == "ArtifactMembershipByName"]
    assert used == ["labelling-photos-proposal:round-0"]


def test_a_server_that_is_away_ends_nothing(server, folder, truth, features):
    said = []
    learner = al.open(folder, features=features, say=said.append)
    with server.down():
        assert len(learner.propose(5)) == 5
    assert any("W&B does not listen" in line for line in said)


def test_a_wrong_mode_is_said_before_anything_is_done(folder, truth, features, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(UserError, match="not a mode"):
        al.open(folder, features=features).propose(3)


def test_disabled_writes_nothing(folder, truth, features):
    learner = al.open(folder, features=features)
    learner.propose(3)
    assert not (learner.project.state / "wandb").exists()


def test_metrics_are_of_the_status(folder, truth, features):
    learner = al.open(folder, features=features)
    learner.accept(dict(list(truth.items())[:9]))
    for _ in range(2):
        learner.accept({pick.path: truth[pick.path] for pick in learner.propose(3, audit=2)})
    learner.propose(3)
    status = learner.status()
    row = tracking.metrics(learner.project.rounds()[-1], status)
    assert row["audit/accuracy"] == status.accuracy.value
    assert row["kappa"] == status.agreement[-1].kappa
    json.dumps(row, allow_nan=False)
