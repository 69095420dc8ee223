"""Whatever happens to a run, its server and its attempts, W&B ends with each epoch once and the summary of the end."""

import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGKILL, SIGTERM

import launch
import pytest
import runs
from wandb_server import WandbServer

BEFORE_CHECKPOINT, IN_THE_END = "replace checkpoint.pt", "replace performance_metrics.json"


@pytest.fixture
def server(tmp_path):
    with WandbServer() as running:
        yield running


@pytest.fixture
def env(server, tmp_path):
    """W&B's settings for the loopback server, as `launch.environment` takes them."""
    wanted = {
        name: value for name, value in server.environment(tmp_path).items() if name.startswith(("WANDB", "NETRC"))
    }
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        wanted.pop(name)
    wanted |= {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "0.1"}

    def environment(mode: str | None = None, **changed: str) -> dict[str, str]:
        return launch.environment(tmp_path, **wanted | {"WANDB_MODE": mode} | changed)

    return environment


@pytest.fixture
def synced(env, tmp_path):
    """Runs `make sync`'s command; how it ended."""

    def sync() -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "sweeps.sync", "--results-dir", str(tmp_path / "results")]
        return subprocess.run(command, cwd=launch.ROOT, env=env(), capture_output=True, text=True, timeout=120)

    return sync


def assert_whole(server: WandbServer, results: Path) -> None:
    """The one run on the server is the one on disk: each epoch once, in order, finished, with the end's summary."""
    folder = runs.only_run(results)
    assert not (launch.ROOT / "wandb").exists()
    assert not list((results / "wandb").glob("sync-*"))
    (served,) = server.runs.values()
    assert served.name == runs.read_json(folder / "config.json")["wandb_run_id"]
    written = runs.read_lines(folder / "epochs.jsonl")
    rows = [row for row in served.rows if "epoch" in row]
    assert [row["epoch"] for row in rows] == [row["epoch"] for row in written]
    for row, line in zip(rows, written, strict=True):
        assert row["test/loss"] == pytest.approx(line["test"]["loss"])
    metrics = runs.read_json(folder / "performance_metrics.json")
    assert served.state == "finished"
    assert served.summary["total_epochs"] == metrics["total_epochs"]
    assert served.summary["best/test/accuracy"] == pytest.approx(metrics["test_metrics"]["accuracy"])


STRIKES = {
    "killed": (BEFORE_CHECKPOINT, 3, SIGKILL),
    "stopped": (BEFORE_CHECKPOINT, 3, SIGTERM),
    "cut in its first epoch": (BEFORE_CHECKPOINT, 1, SIGKILL),
}


MODES = [("offline", "offline"), ("offline", "online"), ("online", "offline"), ("online", "online")]


@pytest.mark.parametrize("modes", MODES, ids="-".join)
@pytest.mark.parametrize("strike", STRIKES)
def test_whatever_the_order_of_modes_and_kills(launcher, server, env, synced, tmp_path, modes, strike):
    first, then = modes
    args = launch.small(tmp_path / "results")
    assert launcher.run(args, env(first), strike=STRIKES[strike]).code in (-9, 143)
    if then == "online" and strike == "stopped":
        assert synced().returncode == 0  # what there is so far; the run goes on after it
    assert launcher.run(args, env(then)).code == 0
    assert synced().returncode == 0
    assert_whole(server, tmp_path / "results")
    requests = len(server.requests)
    assert "0 runs uploaded, 1 were already" in synced().stdout
    assert len(server.requests) == requests


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_an_end_that_is_cut_late_is_mirrored_again(launcher, server, env, synced, tmp_path, mode):
    args = launch.small(tmp_path / "results")
    strike = ("unlink checkpoint.pt", 1, SIGTERM)
    assert launcher.run(args, env(mode), strike=strike).code == 143
    assert launcher.run(args, env("online")).code == 0
    assert_whole(server, tmp_path / "results")
    assert synced().returncode == 0
    assert_whole(server, tmp_path / "results")


def test_a_fragment_on_its_own_is_not_needed(launcher, server, env, synced, tmp_path):
    args = launch.small(tmp_path / "results")
    assert launcher.run(args, env("offline")).code == 0
    for log in (tmp_path / "results" / "wandb").glob("offline-run-*/run-*.wandb"):
        log.write_bytes(log.read_bytes()[:100])
    assert synced().returncode == 0
    assert_whole(server, tmp_path / "results")


TROUBLE = ("refused", "reset", "hanging", "500")


@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_run_whose_server_is_away_goes_on_offline(launcher, server, env, synced, tmp_path, trouble):
    args = launch.small(tmp_path / "results", max_epochs=4)
    with contextlib.ExitStack() as during:
        changed = {"WANDB_BASE_URL": "http://127.0.0.1:9"} if trouble == "refused" else {}
        if trouble == "reset":
            during.enter_context(server.down())
        elif trouble == "hanging":
            during.enter_context(server.hung())
        elif trouble == "500":
            during.enter_context(server.failing(500))
        outcome = launcher.run(args, env("online", **changed))
    assert outcome.code == 0, outcome.stderr
    assert "W&B cannot be reached" in outcome.stdout
    assert outcome.seconds < 40  # of which 15 may be for W&B; others work on this machine
    assert synced().returncode == 0
    assert_whole(server, tmp_path / "results")


def test_a_key_that_is_not_accepted_is_one_line_at_once(launcher, server, env, tmp_path):
    start = time.monotonic()
    with server.failing(401):
        outcome = launcher.run(launch.small(tmp_path / "results"), env("online"))
    assert outcome.code == 2
    assert "does not accept the API key" in outcome.complaint
    assert time.monotonic() - start < 15


def test_a_server_that_fails_is_one_line_at_once(server, env, synced, launcher, tmp_path):
    assert launcher.run(launch.small(tmp_path / "results", max_epochs=4), env("offline")).code == 0
    start = time.monotonic()
    with server.failing(500):
        done = synced()
    assert done.returncode == 2
    assert done.stderr.startswith("error: W&B: ")
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - start < 30


def test_a_listing_that_fails_is_one_line(server, env, synced, launcher, tmp_path, monkeypatch):
    assert launcher.run(launch.small(tmp_path / "results", max_epochs=4), env("offline")).code == 0
    monkeypatch.setattr(WandbServer, "_on_Runs", None)
    done = synced()
    assert done.returncode == 2
    assert done.stderr.startswith("error: W&B: cannot list the runs")
    assert done.stderr.count("\n") == 1


def test_a_stop_while_the_server_is_away_waits_seconds(launcher, server, env, tmp_path):
    args = launch.small(tmp_path / "results", max_epochs=4000, patience=4000, lr=0.00001)
    run = launcher.start(args, env("online", WANDB_FINISH_TIMEOUT="2"))
    run.until(lambda: len(_lines(tmp_path)) >= 4)
    with server.down():
        start = time.monotonic()
        run.send(SIGTERM)
        assert run.wait().code == 143
        assert time.monotonic() - start < 20  # of which 2 for W&B; others work on this machine
    folder = runs.only_run(tmp_path / "results")
    assert (folder / "checkpoint.pt").exists()


def _lines(folder: Path) -> list[str]:
    return list(itertools.chain(*(path.read_text().splitlines() for path in folder.glob("results/*/*/epochs.jsonl"))))


def test_damaged_files_of_one_run_do_not_hold_back_the_others(launcher, server, env, synced, tmp_path):
    for seed in (12, 34):
        args = launch.small(tmp_path / "results", max_epochs=4, split_seed=seed)
        assert launcher.run(args, env("offline")).code == 0
    damaged, whole = sorted((tmp_path / "results").glob("*/split_seed_*"))
    (damaged / "epochs.jsonl").write_text('{"epoch": 1}\n')
    done = synced()
    assert done.returncode == 1
    assert "1 runs uploaded" in done.stdout
    assert json.loads((damaged / "config.json").read_text())["wandb_run_id"] in done.stderr
    assert "Traceback" not in done.stderr
    states = {run.name: run.state for run in server.runs.values()}
    assert states[runs.read_json(whole / "config.json")["wandb_run_id"]] == "finished"


def test_a_run_on_the_server_has_its_picks_its_model_its_labels_and_its_output(launcher, server, env, tmp_path):
    args = launch.small(tmp_path / "results")
    outcome = launcher.run(args, env("online", WANDB_TAGS="the sweep"), draw=True)
    assert outcome.code == 0
    assert "W&B does not listen" not in outcome.stdout
    assert_whole(server, tmp_path / "results")
    (served,) = server.runs.values()
    folder = runs.only_run(tmp_path / "results")
    picked = [row for line in runs.read_lines(folder / "rounds.jsonl") for row in line["rows"]]
    (table,) = [row["picks"] for row in served.rows if "picks" in row]
    assert table["nrows"] == len(picked)
    assert set(server.artifacts) >= {f"{folder.parent.name}-12-model", f"{folder.parent.name}-12-labels"}
    assert (folder / "best_model.safetensors").read_bytes() in server.uploads.values()
    assert b"round" in served.files["output.log"]
    assert set(served.tags) >= {"digits", "balanced_20", "the sweep"}


@pytest.mark.parametrize("wanted", [True, False])
def test_a_failure_is_an_alert_where_it_is_wanted(launcher, server, env, tmp_path, wanted):
    args = launch.small(tmp_path / "results")
    assert launcher.run(args, strike=("replace checkpoint.pt", 1, SIGTERM)).code == 143
    plots = runs.only_run(tmp_path / "results") / "plots"
    shutil.rmtree(plots)
    plots.write_text("a file where the pictures should be")
    environment = env("online", **({"ACTIVE_LEARNING_ALERTS": "1"} if wanted else {}))
    assert launcher.run(args, environment).code == 1
    assert ("NotifyScriptableRunAlert" in [name for name, _ in server.requests]) == wanted


@pytest.mark.slow
def test_a_target_that_is_reached_is_an_alert_where_it_is_wanted(launcher, server, env, tmp_path):
    common = {"variant": "balanced_3", "max_epochs": 40}
    results = tmp_path / "results"
    assert launcher.run(launch.small(results, **common, strategy="stratified")).code == 0
    args = launch.small(results, **common, budget=400, strategy="margin", stop="baseline")
    assert launcher.run(args, env("online", ACTIVE_LEARNING_ALERTS="1")).code == 0
    (alert,) = [variables for name, variables in server.requests if name == "NotifyScriptableRunAlert"]
    assert alert["title"].startswith("Baseline beaten: digits-balanced_3-margin-")
