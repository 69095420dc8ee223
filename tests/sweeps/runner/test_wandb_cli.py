"""W&B's real command line and agent against the loopback server: what arrives, stop, preemption, outages, kills."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from wandb_server import ENTITY, ServedRun, WandbServer

from sweeps.runner import launch, local, sync
from sweeps.runner.grid import load
from sweeps.runner.runs import Run, runs_of

ROOT = Path(__file__).parents[3]
TINY = {
    "dataset": "digits", "model": "small_cnn", "weights": "none", "variant": "balanced_10",
    "initial_min": 20, "batch_fraction": 0.3, "max_epochs": 5, "patience": 50,
}  # fmt: skip
QUICK_AGENT = "import wandb.wandb_agent as a; a.Agent.POLL_INTERVAL = 0.2; from wandb.cli.cli import cli; cli()"
"""`wandb` with an agent that asks for work five times a second instead of every five seconds."""


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[WandbServer]:
    monkeypatch.chdir(ROOT)
    with WandbServer() as running:
        yield running


def sweep_file(folder: Path, **choices) -> Path:
    fixed = {name: {"value": value} for name, value in (TINY | {"results_dir": str(folder / "results")}).items()}
    varied = {name: {"values": values} for name, values in choices.items()}
    path = folder / "sweep.yaml"
    metric = {"name": "test/accuracy", "goal": "maximize"}
    content = {"program": "train.py", "method": "grid", "metric": metric, "parameters": fixed | varied}
    path.write_text(yaml.safe_dump(content))
    return path


def environment(server: WandbServer, folder: Path) -> dict[str, str]:
    python = Path(sys.executable).parent
    return server.environment(folder) | {
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        "WANDB_DIR": str(folder / "results"),
        "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "0.2",
    }


def wandb(server: WandbServer, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "wandb", *arguments]
    return subprocess.run(command, env=environment(server, folder), capture_output=True, text=True, timeout=120)


def create(server: WandbServer, folder: Path, **choices) -> str:
    """Creates a sweep as a user does; its path."""
    (folder / "results").mkdir(exist_ok=True)
    done = wandb(server, folder, "sweep", "--project", "tests", str(sweep_file(folder, **choices)))
    assert done.returncode == 0, done.stderr
    return f"{ENTITY}/tests/{list(server.sweeps)[-1]}"


def agent(server: WandbServer, folder: Path, sweep: str, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-c", QUICK_AGENT, "agent", *options, sweep]
    log = (folder / "agent.log").open("ab")
    return subprocess.Popen(command, env=environment(server, folder), stdout=log, stderr=log, process_group=0)


def local_runs(folder: Path) -> list[Run]:
    return runs_of(load(folder / "sweep.yaml"))


def rows_on_disk(run: Run) -> list[dict]:
    return [json.loads(line) for line in (run.folder / "epochs.jsonl").read_text().splitlines()]


def metrics_of(run: Run) -> dict:
    return json.loads((run.folder / "performance_metrics.json").read_text())


def epochs_on_server(run: ServedRun) -> list[int]:
    return [row["epoch"] for row in run.rows if "epoch" in row]


def wait_for_epochs(run: Run, count: int, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while (seen := run.last_epoch()) is None or seen.epoch < count:
        assert time.monotonic() < until, "the run did not get so far"
        time.sleep(0.05)


def without_times(metrics: dict) -> dict:
    """performance_metrics.json less what no two runs share."""
    different = ("training_time_seconds", "seconds", "peak_memory_mb", "environment", "files")
    config = {name: value for name, value in metrics["config"].items() if name != "results_dir"}
    return {name: value for name, value in metrics.items() if name not in different} | {"config": config}


def test_a_baseline_of_another_machine_is_found_through_the_api(server, tmp_path):
    def train(machine: str, *arguments: str) -> subprocess.CompletedProcess:
        variables = environment(server, tmp_path) | {"WANDB_DIR": str(tmp_path / machine), "WANDB_PROJECT": "tests"}
        fixed = [f"--{name}={value}" for name, value in (TINY | {"results_dir": str(tmp_path / machine)}).items()]
        command = [sys.executable, "train.py", *fixed, *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)

    (tmp_path / "here").mkdir()
    missing = train("here", "--strategy=random", "--stop=baseline")
    assert missing.returncode == 2
    assert "--strategy=stratified" in missing.stderr
    assert train("there", "--strategy=stratified").returncode == 0
    assert train("here", "--strategy=random", "--stop=baseline").returncode == 0
    (there,) = (tmp_path / "there").glob("*-stratified-*/split_seed_12/performance_metrics.json")
    (here,) = (tmp_path / "here").glob("*-random-*/split_seed_12/performance_metrics.json")
    baseline, beaten = json.loads(there.read_text())["test_metrics"], json.loads(here.read_text())["baseline"]
    assert (beaten["accuracy"], beaten["loss"]) == pytest.approx((baseline["accuracy"], baseline["loss"]))


def test_a_grid_arrives_and_the_local_runner_does_the_same(server, tmp_path, monkeypatch):
    sweep = create(server, tmp_path, strategy=["margin", "random"], split_seed=[12, 34])
    agents = [agent(server, tmp_path, sweep, "--forward-signals") for _ in range(2)]
    assert [process.wait(timeout=240) for process in agents] == [0, 0]
    assert server.sweeps[sweep.split("/")[2]].state == "FINISHED"
    by_digest = {run.parameters["digest"]: run for run in server.runs.values()}
    runs = local_runs(tmp_path)
    assert set(by_digest) == {run.digest for run in runs}
    for run in runs:
        served, metrics = by_digest[run.digest], metrics_of(run)
        assert (served.state, served.exit_code, served.group) == ("finished", 0, run.config.cell)
        assert served.parameters == run.config.model_dump(mode="json") | {
            "digest": run.digest,
            "cell": run.config.cell,
            "fingerprint": metrics["data"]["fingerprint"],
        }
        assert epochs_on_server(served) == list(range(1, metrics["total_epochs"] + 1))
        for row, written in zip(served.rows, rows_on_disk(run), strict=False):
            assert row["labels"] == written["labels"]
            assert row["test/accuracy"] == pytest.approx(written["test"]["accuracy"])
        assert served.summary["test/accuracy"] == pytest.approx(metrics["test_metrics"]["accuracy"])

    _same_as_local(server, tmp_path, monkeypatch, runs[0])


def _same_as_local(server: WandbServer, folder: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """One of the agent's runs again by the local runner: same digest, parameters and results."""
    for name, value in (environment(server, folder) | {"WANDB_MODE": "offline"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_DIR", str(folder / "local"))
    one = [f"strategy={run.config.strategy}", f"split_seed={run.config.split_seed}"]
    arguments = [str(folder / "sweep.yaml"), "--results-dir", str(folder / "local"), "--set", *one]
    assert local.main(arguments) == 0
    again = folder / "local" / run.folder.relative_to(folder / "results")
    there, here = metrics_of(run), json.loads((again / "performance_metrics.json").read_text())
    assert here["digest"] == there["digest"]
    assert without_times(here) == without_times(there)
    monkeypatch.delenv("WANDB_MODE")
    before = set(server.runs)
    assert sync.main(["--results-dir", str(folder / "local")]) == 0
    uploaded = server.runs[(set(server.runs) - before).pop()]
    served = next(other for other in server.runs.values() if other.parameters["digest"] == run.digest)
    assert uploaded.parameters | {"results_dir": served.parameters["results_dir"]} == served.parameters
    assert [_shown(row) for row in uploaded.rows] == [_shown(row) for row in served.rows]


def _shown(row: dict) -> dict:
    """What a row of the history shows about the learning, which times and file names are not."""
    return {name: row.get(name) for name in ("_step", "epoch", "round", "labels", "test/accuracy", "train/loss")}


@pytest.mark.slow
def test_stop_from_the_page_ends_the_run_with_its_results_so_far(server, tmp_path):
    sweep = create(server, tmp_path, strategy=["margin"], max_epochs=[5000], patience=[5000])
    process = agent(server, tmp_path, sweep, "--forward-signals")
    (run,) = local_runs(tmp_path)
    wait_for_epochs(run, 5)
    (served,) = server.runs.values()
    server.stop(served.name)
    assert process.wait(timeout=60) == 0
    assert served.state == "killed"
    assert not run.is_complete()
    assert epochs_on_server(served) == [row["epoch"] for row in rows_on_disk(run)]


@pytest.mark.slow
def test_a_preempted_run_is_handed_out_again_and_its_history_is_whole(server, tmp_path):
    sweep = create(server, tmp_path, strategy=["margin"], max_epochs=[60])
    first = agent(server, tmp_path, sweep, "--forward-signals", "--max-consecutive-failed-runs", "1")
    (run,) = local_runs(tmp_path)
    wait_for_epochs(run, 5)
    first.send_signal(signal.SIGUSR1)
    first.wait(timeout=60)
    (served,) = server.runs.values()
    assert (served.state, served.exit_code) == ("preempted", 75)
    before = len(rows_on_disk(run))
    assert before < 60
    assert agent(server, tmp_path, sweep, "--forward-signals").wait(timeout=120) == 0
    assert list(server.runs) == [served.name]
    assert (served.state, served.handed_out) == ("finished", 2)
    assert [row["epoch"] for row in rows_on_disk(run)] == list(range(1, 61))
    assert epochs_on_server(served) == list(range(1, 61))


@pytest.mark.slow
def test_a_run_whose_server_goes_away_ends_well_and_is_made_whole_by_sync(server, tmp_path):
    (tmp_path / "results").mkdir()
    run = local_runs_of(tmp_path, strategy=["margin"], max_epochs=[40])
    variables = environment(server, tmp_path) | {"WANDB_FINISH_TIMEOUT": "3"}
    command = [sys.executable, "train.py", *(f"--{name}={value}" for name, value in run.parameters.items())]
    process = subprocess.Popen(command, env=variables)
    wait_for_epochs(run, 5)
    with server.down():
        assert process.wait(timeout=120) == 0
    assert run.is_complete()
    assert [row["epoch"] for row in rows_on_disk(run)] == list(range(1, 41))
    (served,) = server.runs.values()
    assert served.state != "finished"
    synced = [sys.executable, "-m", "sweeps.runner.sync", "--results-dir", str(tmp_path / "results")]
    assert subprocess.run(synced, env=environment(server, tmp_path), timeout=120).returncode == 0
    assert served.state == "finished"
    assert epochs_on_server(served) == list(range(1, 41))
    requests = [name for name, _ in server.requests].count("UpsertBucket")
    assert subprocess.run(synced, env=environment(server, tmp_path), timeout=120).returncode == 0
    assert [name for name, _ in server.requests].count("UpsertBucket") == requests


def local_runs_of(folder: Path, **choices) -> Run:
    sweep_file(folder, **choices)
    return local_runs(folder)[0]


@pytest.mark.slow
def test_a_killed_agent_costs_nothing(server, tmp_path):
    sweep = create(server, tmp_path, strategy=["margin", "random"], max_epochs=[40])
    first = agent(server, tmp_path, sweep)
    wait_for_epochs(local_runs(tmp_path)[0], 3)
    first.kill()
    first.wait()
    assert agent(server, tmp_path, sweep).wait(timeout=240) == 0
    assert [run.state for run in server.runs.values()] == ["finished", "finished"]
    for run in local_runs(tmp_path):
        assert run.is_complete()
    assert all(run.handed_out == 1 for run in server.runs.values())
    assert all(epochs_on_server(run) == list(range(1, 41)) for run in server.runs.values())


@pytest.fixture
def launched(server, tmp_path, monkeypatch):
    """This process's environment and the launcher's agents pointed at the server."""
    for name in list(os.environ):
        if name.startswith("WANDB"):
            monkeypatch.delenv(name)
    for name, value in environment(server, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_DIR")
    monkeypatch.setattr(launch, "POLL", 0.5)
    options = ["agent", "--forward-signals", "--max-consecutive-failed-runs", "1"]
    monkeypatch.setattr(launch, "agent_command", lambda sweep: [sys.executable, "-c", QUICK_AGENT, *options, sweep])
    return server


def launch_it(folder: Path, *options: str) -> int:
    return launch.main([str(folder / "sweep.yaml"), "--results-dir", str(folder / "results"), *options])


@pytest.mark.slow
def test_launch_reports_failures_and_going_on_repairs_them(launched, tmp_path, capsys):
    sweep_file(tmp_path, strategy=["margin"], split_seed=[12, 34])
    blocked = local_runs(tmp_path)[0].folder
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where the run's folder should be")
    assert launch_it(tmp_path) == 1
    captured = capsys.readouterr()
    assert captured.err.count("failed: run") == 1
    assert f"{launched.url}/{ENTITY}/tests/runs/run" in captured.err
    assert sorted(run.state for run in launched.runs.values()) == ["crashed", "finished"]
    blocked.unlink()
    assert launch_it(tmp_path) == 0
    assert len(launched.sweeps) == 1
    assert [run.state for run in launched.runs.values()] == ["finished", "finished"]
    assert all(epochs_on_server(run) == [1, 2, 3, 4, 5] for run in launched.runs.values())
    requests = len([name for name, _ in launched.requests if name == "UpsertBucket"])
    assert launch_it(tmp_path, "--agents", "2") == 0
    assert len([name for name, _ in launched.requests if name == "UpsertBucket"]) == requests


@pytest.mark.slow
def test_the_slurm_script_joins_a_sweep_and_passes_the_preemption_on(server, tmp_path):
    sweep = create(server, tmp_path, strategy=["margin"], max_epochs=[5000], patience=[5000])
    variables = environment(server, tmp_path) | {"SLURM_CPUS_PER_TASK": "1"}
    del variables["WANDB_DIR"]
    task = subprocess.Popen(["bash", "sweeps/slurm.sbatch", sweep], env=variables, process_group=0)
    (run,) = local_runs(tmp_path)
    wait_for_epochs(run, 5)
    task.send_signal(signal.SIGUSR1)
    assert task.wait(timeout=60) == 75
    (served,) = server.runs.values()
    assert (served.state, served.exit_code) == ("preempted", 75)
    assert epochs_on_server(served) == [row["epoch"] for row in rows_on_disk(run)]
    assert not run.is_held()


@pytest.mark.slow
def test_strategies_start_after_their_baselines_and_not_if_those_failed(launched, tmp_path, capsys):
    folder = tmp_path / "baselines"
    folder.mkdir()
    baselines = sweep_file(folder, strategy=["stratified"], variant=["imbalanced_20_5"])
    strategies = sweep_file(tmp_path, strategy=["margin"], stop=["baseline"], variant=["imbalanced_20_5"])
    both = [str(baselines), str(strategies), "--results-dir", str(tmp_path / "results")]
    (run,) = runs_of(load(baselines, {"results_dir": str(tmp_path / "results")}))
    run.folder.parent.mkdir(parents=True)
    run.folder.write_text("a file where the run's folder should be")
    assert launch.main(both) == 1
    assert "its baselines may be among the failed runs" in capsys.readouterr().err
    assert len(launched.runs) == 1
    run.folder.unlink()
    assert launch.main(both) == 0
    assert [served.state for served in launched.runs.values()] == ["finished", "finished"]


def test_launch_without_a_key_or_a_server_is_one_line_at_once(launched, tmp_path, monkeypatch, capsys):
    sweep_file(tmp_path, strategy=["margin"])
    start = time.monotonic()
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert launch_it(tmp_path) == 2
    assert "no answer from http://127.0.0.1:9" in capsys.readouterr().err
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert launch_it(tmp_path) == 2
    assert "the server would never hear of the runs" in capsys.readouterr().err
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert launch_it(tmp_path) == 2
    error = capsys.readouterr().err
    assert "no API key" in error
    assert error.count("\n") == 1
    assert time.monotonic() - start < 10
    assert not launched.requests
