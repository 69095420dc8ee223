"""Offline runs arrive on the server whole, once, and an upload that failed is noticed."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from wandb_server import WandbServer

from sweeps.runner import sync

ATTEMPT = """
import os, sys, wandb
name, first, last, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
run = wandb.init(id=name, resume="allow", mode="offline", config={"lr": 0.1}, settings=settings)
for epoch in range(first, last + 1):
    run.log({"epoch": epoch}, step=epoch, commit=True)
run.finish(exit_code=int(end))
"""


@pytest.fixture
def server(tmp_path, monkeypatch):
    with WandbServer() as running:
        for name in list(os.environ):
            if name.startswith("WANDB"):
                monkeypatch.delenv(name)
        for name, value in running.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        yield running


def attempt(results: Path, name: str, first: int, last: int, exit_code: int = 0, minute: int = 0) -> Path:
    """Logs epochs offline as one attempt of a run does; its fragment, dated `minute` minutes into some day."""
    results.mkdir(exist_ok=True)
    variables = os.environ | {"WANDB_DIR": str(results), "WANDB_DATA_DIR": str(results / "wandb" / "data")}
    command = [sys.executable, "-c", ATTEMPT, name, str(first), str(last), str(exit_code)]
    subprocess.run(command, env=variables, check=True)
    made = max((results / "wandb").glob(f"offline-run-*-{name}"), key=lambda path: path.stat().st_ctime)
    return made.rename(made.with_name(f"offline-run-20250101_00{minute:02d}00-{name}"))


def cut(fragment: Path) -> None:
    """What a kill in the middle of a write leaves."""
    (log,) = fragment.glob("run-*.wandb")
    log.write_bytes(log.read_bytes()[:-9])


def epochs(server: WandbServer, name: str) -> list[int]:
    return [row["epoch"] for row in server.runs[name].rows]


def test_the_fragments_of_a_run_become_one_history_and_are_sent_once(server, tmp_path, capsys):
    results = tmp_path / "results"
    attempt(results, "whole", 1, 3)
    attempt(results, "resumed", 1, 2, exit_code=1, minute=1)
    attempt(results, "resumed", 3, 5, minute=2)
    assert sync.main(["--results-dir", str(results)]) == 0
    assert "2 runs uploaded, 0 were already" in capsys.readouterr().out
    assert epochs(server, "whole") == [1, 2, 3]
    assert epochs(server, "resumed") == [1, 2, 3, 4, 5]
    assert server.runs["resumed"].parameters == {"lr": 0.1}
    assert server.runs["resumed"].state == "finished"
    asked = len(server.requests)
    assert sync.main(["--results-dir", str(results)]) == 0
    assert "0 runs uploaded, 2 were already" in capsys.readouterr().out
    assert len(server.requests) == asked
    attempt(results, "resumed", 6, 6, minute=3)
    assert sync.main(["--results-dir", str(results)]) == 0
    assert epochs(server, "resumed") == [1, 2, 3, 4, 5, 6]


def test_a_fragment_cut_in_a_record_does_not_hold_back_the_next(server, tmp_path, capsys):
    results = tmp_path / "results"
    cut(attempt(results, "killed", 1, 3, minute=1))
    attempt(results, "killed", 4, 5, minute=2)
    assert sync.main(["--results-dir", str(results)]) == 0
    assert "1 runs uploaded" in capsys.readouterr().out
    assert epochs(server, "killed") == [1, 2, 3, 4, 5]
    assert server.runs["killed"].state == "finished"
    assert sync.main(["--results-dir", str(results)]) == 0
    assert epochs(server, "killed") == [1, 2, 3, 4, 5]


def test_a_run_that_is_running_is_left_alone(server, tmp_path, capsys):
    results = tmp_path / "results"
    attempt(results, "busy", 1, 2)
    run = results / "cell" / "split_seed_12"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"wandb_run_id": "busy"}))
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sync.main(["--results-dir", str(results)]) == 0
        assert "0 runs uploaded, 0 were already, 1 are still running" in capsys.readouterr().out
        assert not server.runs
    assert sync.main(["--results-dir", str(results)]) == 0
    assert epochs(server, "busy") == [1, 2]


def test_rows_that_a_run_adds_while_it_is_sent_are_sent_next_time(tmp_path, monkeypatch):
    folder = tmp_path / "cell/split_seed_1"
    folder.mkdir(parents=True)
    rows = folder / "epochs.jsonl"
    rows.write_text("first\n")

    def mirror_while_the_run_goes_on(*_) -> bool:
        rows.write_text("first\nsecond\n")
        return True

    monkeypatch.setattr(sync, "mirror", mirror_while_the_run_goes_on)
    monkeypatch.setattr(sync, "states_on_server", lambda ids: {})
    run, memory = sync.TrackedRun("abc", sync.RunFolder(folder)), sync.Memory(tmp_path)
    assert sync._send([run], memory) == {}
    assert memory.sent["abc"] != run.extent


def test_an_upload_that_failed_is_an_error_though_wandb_exits_0(server, tmp_path, monkeypatch, capsys):
    results = tmp_path / "results"
    attempt(results, "refused", 1, 2)
    monkeypatch.setattr(WandbServer, "_on_UpsertBucket", None)
    assert sync.main(["--results-dir", str(results)]) == 1
    captured = capsys.readouterr()
    assert "0 runs uploaded" in captured.out
    assert "wandb sync: ERROR" in captured.err
    assert "1 runs not uploaded: refused" in captured.err


def test_bad_input_is_one_line(server, tmp_path, monkeypatch, capsys):
    results = tmp_path / "results"
    assert sync.main(["--results-dir", str(results)]) == 2
    assert "no such folder" in capsys.readouterr().err
    results.mkdir()
    assert sync.main(["--results-dir", str(results)]) == 0
    assert "0 runs uploaded, 0 were already" in capsys.readouterr().out
    (results / "wandb" / "offline-run-20250101_000000-x").mkdir(parents=True)
    (results / "wandb" / "offline-run-20250101_000000-x" / "run-x.wandb").touch()
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert sync.main(["--results-dir", str(results)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: W&B: no answer from http://127.0.0.1:9")
    assert error.count("\n") == 1


def test_a_results_folder_that_cannot_be_written_to_is_told_before_anything_is_sent(tmp_path, monkeypatch, capsys):
    (tmp_path / "wandb").touch()
    monkeypatch.setattr(sync, "sync", lambda _: pytest.fail("sent what it could not take a note of"))
    assert sync.main(["--results-dir", str(tmp_path)]) == 2
    assert "wandb/, where it is noted what was sent, cannot be written to (File exists)" in capsys.readouterr().err


def test_two_at_once_do_not_send_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sync, "sync", lambda _: sync.main(["--results-dir", str(tmp_path)]))
    assert sync.main(["--results-dir", str(tmp_path)]) == 2, "that of the inner one"
    assert capsys.readouterr().err.endswith(": another process is sending its runs; leave it to that\n")
    monkeypatch.setattr(sync, "sync", lambda _: 0)
    assert sync.main(["--results-dir", str(tmp_path)]) == 0, "the lock goes with the work"
