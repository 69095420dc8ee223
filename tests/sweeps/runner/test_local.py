"""The local runner: what it starts, what it passes over, what it survives. Most tests run a stand-in for train.py."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from al.errors import NoRoom
from al.identity import local_sources
from sweeps.runner import cards, local, processes, terminal
from sweeps.runner.command import command_line, parameter_file
from sweeps.runner.grid import load
from sweeps.runner.plan import estimates_by_machine
from sweeps.runner.runs import Estimate, runs_of

ROOT = Path(__file__).parents[3]

STAND_IN = '''
"""Keeps to train.py's files, locks and exit codes, and learns nothing."""
import fcntl, json, os, signal, sys, time
from pathlib import Path
import yaml
sys.path.insert(0, {root!r})
from al.config import RunConfig
from al.identity import local_sources

given = yaml.safe_load(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).read_text())
config = RunConfig.from_mapping({{name: entry["value"] for name, entry in given.items() if name != "wandb_version"}})
folder = Path(config.results_dir) / config.cell / f"split_seed_{{config.split_seed}}"
folder.mkdir(parents=True, exist_ok=True)
lock = (folder / ".lock").open("a")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(3)
ENV = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_TAGS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
with (folder / "starts.jsonl").open("a") as starts:
    variables = {{name: os.environ.get(name) for name in ENV}}
    starts.write(json.dumps({{"argv": sys.argv[1:], "time": time.time(), **variables}}) + "\\n")
if (folder / "performance_metrics.json").exists():
    sys.exit(0)
data = {{"name": "digits", "fingerprint": "f", "train": 1, "test": 1, "classes": []}}
about = {{"config": config.model_dump(mode="json"), "digest": config.digest(), "data": data}}
about |= {{"sources": local_sources(config), "wandb_run_id": os.environ["WANDB_RUN_ID"]}}
(folder / "config.json").write_text(json.dumps(about))


def stop(number, frame):
    print("stopped")
    sys.exit({{signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 75}}[number])


for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN if config.patience == 99 else stop)
kills = folder / "kills"
if config.lr == 0.25 and (config.weight_decay or not kills.exists()):
    kills.touch()
    os.kill(os.getpid(), signal.SIGKILL)
if config.lr == 0.5:
    raise ValueError("the loss is not finite")
done = folder / "epochs.jsonl"
first = len(done.read_text().splitlines()) if done.exists() else 0
for epoch in range(first + 1, config.max_epochs + 1):
    time.sleep(0.05)
    with done.open("a") as rows:
        rows.write(json.dumps({{"epoch": epoch, "round": epoch, "labels": 10, "test": {{"accuracy": 50.0}}}}) + "\\n")
metrics = about | {{"training_time_seconds": 2.0, "labels_used": 70, "best_epoch": 1, "total_epochs": 3}}
metrics |= {{"test_metrics": {{"accuracy": 80.0 + config.split_seed}}, "environment": {{"device": "cpu"}}}}
(folder / "performance_metrics.json").write_text(json.dumps(metrics))
'''


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the stand-in and no W&B settings of the outside."""
    (tmp_path / "train.py").write_text(STAND_IN.format(root=str(ROOT)))
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("WANDB") or name == "OMP_NUM_THREADS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # no graphics card, also where there is one
    cards.cards.cache_clear()
    monkeypatch.setattr(local, "RECHECK", 0.2)
    yield tmp_path
    cards.cards.cache_clear()


def sweep(folder: Path, name: str = "sweep", **choices) -> str:
    choices = {"dataset": ["digits"], "max_epochs": [3], "strategy": ["margin"]} | choices
    parameters = {name: {"values": values} for name, values in choices.items()}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"program": "train.py", "method": "grid", "parameters": parameters}))
    return str(path)


def starts(folder: Path) -> dict[str, list[dict]]:
    return {
        f"{path.parent.parent.name}/{path.parent.name}": [json.loads(line) for line in path.read_text().splitlines()]
        for path in folder.glob("results/*/split_seed_*/starts.jsonl")
    }


def runner_process(*arguments: str) -> subprocess.Popen:
    """The runner as a user starts it, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sweeps.runner.local", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_starts(folder: Path, count: int, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while len(starts(folder)) < count:
        assert time.monotonic() < until, "the runs did not start"
        time.sleep(0.05)


class TestCards:
    def seen(self, project, monkeypatch, visible, *arguments, **choices):
        """By run, the cards that it may use."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        cards.cards.cache_clear()
        assert local.main([sweep(project, **choices), *arguments]) == 0
        return [lines[0]["CUDA_VISIBLE_DEVICES"] for lines in starts(project).values()]

    def test_runs_are_spread_over_them(self, project, monkeypatch):
        seen = self.seen(project, monkeypatch, "GPU-a,GPU-b", "--jobs", "2", split_seed=[1, 2, 3, 4])
        assert set(seen) == {"GPU-a", "GPU-b"}
        assert len(seen) == 4

    def test_by_how_many_are_at_work_on_each(self, project, monkeypatch):
        seen = self.seen(project, monkeypatch, "0,1,2", "--jobs", "6", split_seed=[1, 2, 3, 4, 5, 6], max_epochs=[20])
        assert sorted(seen) == ["0", "0", "1", "1", "2", "2"]

    @pytest.mark.parametrize(
        ("visible", "choices"), [("3", {}), ("", {}), ("0,1", {"device": ["cuda:1"]})], ids=["one", "none", "named"]
    )
    def test_elsewhere_runs_see_what_the_runner_sees(self, project, monkeypatch, visible, choices):
        assert self.seen(project, monkeypatch, visible, "--jobs", "2", split_seed=[1, 2], **choices) == [visible] * 2

    def test_auto_is_one_a_card(self, project, monkeypatch, capsys):
        self.seen(project, monkeypatch, "0,1", "--jobs", "auto", "--dry-run")
        assert "1 to run" in capsys.readouterr().out
        assert cards.chosen("auto", "jobs", project) == 2


def test_every_run_is_started_once_as_an_agent_would_and_passed_over_after(project, capsys):
    path = sweep(project, split_seed=[1, 2], strategy=["margin", "random"])
    assert local.main([path, "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    assert "81.50 ± 0.71" in out
    assert "results: results" in out
    begun = starts(project)
    assert [len(lines) for lines in begun.values()] == [1] * 4
    first = begun[next(name for name in begun if "margin" in name and name.endswith("_1"))][0]
    assert first["argv"] == ["--dataset=digits", "--max_epochs=3", "--split_seed=1", "--strategy=margin"]
    assert first["WANDB_SWEEP_ID"] is None
    assert len({lines[0]["WANDB_RUN_ID"] for lines in begun.values()}) == 4
    assert int(first["OMP_NUM_THREADS"]) == max(1, len(os.sched_getaffinity(0)) // 2)
    assert local.main([path]) == 0
    assert starts(project) == begun
    assert "4 of 4 runs are complete already" in capsys.readouterr().out


def test_thread_numbers_of_the_user_are_kept(project, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert local.main([sweep(project, split_seed=[1])]) == 0
    assert next(iter(starts(project).values()))[0]["OMP_NUM_THREADS"] == "3"


def test_the_sweeps_name_is_a_tag_beside_the_users(project, monkeypatch):
    monkeypatch.setenv("WANDB_TAGS", "mine")
    assert local.main([sweep(project, "study", split_seed=[1])]) == 0
    assert next(iter(starts(project).values()))[0]["WANDB_TAGS"] == "mine,study"


def test_failures_do_not_end_the_others_and_are_listed(project, capsys):
    path = sweep(project, split_seed=[1, 2], lr=[0.5, 0.01])
    assert local.main([path]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("ValueError: the loss is not finite (log: results/logs/") == 2
    assert "2 of 4 runs failed" in captured.err
    assert len(list(project.glob("results/*/*/performance_metrics.json"))) == 2
    log = next(Path(line.split("log: ")[1].rstrip(")")) for line in captured.err.splitlines() if "log: " in line)
    assert "Traceback" in log.read_text()


def test_a_run_that_is_killed_is_tried_once_more(project, capsys):
    assert local.main([sweep(project, lr=[0.25], weight_decay=[0])]) == 0
    assert "by SIGKILL; trying it once more" in capsys.readouterr().out
    assert [len(lines) for lines in starts(project).values()] == [2]


def test_a_run_that_is_killed_again_fails_by_the_signals_name(project, capsys):
    common = {"variant": ["imbalanced_10_1"], "lr": [0.25], "split_seed": [1]}
    baselines = sweep(project, "baselines", strategy=["stratified"], **common)
    strategies = sweep(project, "strategies", stop=["baseline"], **common)
    assert local.main([baselines, strategies]) == 1
    assert "killed by SIGKILL, twice (log: " in capsys.readouterr().err
    assert [len(lines) for lines in starts(project).values()] == [2]


def test_baselines_come_first_even_when_listed_last(project):
    strategies = sweep(project, "strategies", variant=["imbalanced_10_1"], stop=["baseline"], split_seed=[1, 2])
    baselines = sweep(project, "baselines", variant=["imbalanced_10_1"], strategy=["stratified"], split_seed=[1, 2])
    assert local.main([strategies, baselines, "--jobs", "4"]) == 0
    metrics = {path.parent: path.stat().st_mtime for path in project.glob("results/*/*/performance_metrics.json")}
    for folder, (begun,) in starts(project).items():
        if "until-baseline" in folder:
            seed = folder.rsplit("_", 1)[1]
            baseline = next(p for p in metrics if "stratified" in str(p) and str(p).endswith(f"_{seed}"))
            assert begun["time"] > metrics[baseline]


def test_a_failed_baseline_takes_its_strategies_with_it(project, capsys):
    common = {"variant": ["imbalanced_10_1"], "lr": [0.5], "split_seed": [1]}
    baselines = sweep(project, "baselines", strategy=["stratified"], **common)
    strategies = sweep(project, "strategies", stop=["baseline"], **common)
    assert local.main([baselines, strategies]) == 1
    assert "its baseline digits-imbalanced_10_1-stratified" in capsys.readouterr().err
    assert len(starts(project)) == 1


def test_ctrl_c_stops_the_runs_and_the_next_start_goes_on(project):
    path = sweep(project, split_seed=[1, 2, 3], max_epochs=[40])
    process = runner_process(path, "--jobs", "2")
    wait_for_starts(project, 2)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "3 of 3 runs to go" in errors
    rows = [len(path.read_text().splitlines()) for path in project.glob("results/*/*/epochs.jsonl")]
    assert rows
    assert max(rows) < 40
    assert local.main([path, "--jobs", "3", "--set", "max_epochs=40"]) == 0
    begun = starts(project)
    assert sorted(len(lines) for lines in begun.values()) == [1, 2, 2]
    assert all(len({line["WANDB_RUN_ID"] for line in lines}) == 1 for lines in begun.values())


def test_a_second_ctrl_c_kills_what_does_not_stop(project):
    process = runner_process(sweep(project, max_epochs=[4000], patience=[99]))
    wait_for_starts(project, 1)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5)
    assert process.returncode == 130


def test_runs_stop_when_who_reads_the_output_has_gone(project):
    """`python -m sweeps.local ... | less`, and then q: nobody is left to be told of runs that would go on."""
    short = sweep(project, "short", max_epochs=[4], split_seed=[1])
    long = sweep(project, "long", max_epochs=[400], split_seed=[2, 3])
    process = runner_process(short, long, "--jobs", "2")
    wait_for_starts(project, 2)
    process.stdout.close()  # the end of the first run is the next thing to be told
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert "stopped with 2 of 3 runs to go" in process.stderr.read()
    assert len(starts(project)) == 2
    assert "stopped" in "".join(path.read_text() for path in project.glob("results/logs/*.log"))
    assert max(len(path.read_text().splitlines()) for path in project.glob("results/*/*/epochs.jsonl")) < 400


def test_preemption_is_passed_on_and_exits_75(project):
    process = runner_process(sweep(project, split_seed=[1, 2], max_epochs=[400]))
    wait_for_starts(project, 1)
    time.sleep(0.3)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=10)
    assert process.returncode == 75
    assert len(starts(project)) == 1
    assert "stopped" in next(project.glob("results/logs/*.log")).read_text()


def test_two_runners_share_the_work(project):
    path = sweep(project, split_seed=[1, 2, 3, 4, 5, 6], max_epochs=[6])
    processes = [runner_process(path, "--jobs", "2") for _ in range(2)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    begun = starts(project)
    assert [len(lines) for lines in begun.values()] == [1] * 6
    logs = list(project.glob("results/logs/*.log"))
    assert len(logs) == 6


def test_a_run_held_by_another_process_is_waited_for(project, capsys):
    path = sweep(project, split_seed=[1, 2], max_epochs=[20])
    run = runs_of(load(path))[0]
    parameters = project / "by_hand.yaml"
    parameters.write_text(parameter_file(run.parameters))
    environment = os.environ | {"WANDB_SWEEP_PARAM_PATH": str(parameters), "WANDB_RUN_ID": "byhand"}
    other = subprocess.Popen([sys.executable, "train.py"], env=environment)
    wait_for_starts(project, 1)
    assert local.main([path]) == 0
    other.wait(timeout=10)
    assert "completed by another process" in capsys.readouterr().out
    assert [len(lines) for lines in starts(project).values()] == [1, 1]


def complete(run, seconds: float) -> None:
    run.folder.mkdir(parents=True)
    data = {"name": "digits", "fingerprint": "f", "train": 1, "test": 1, "classes": []}
    about = {"config": run.config.model_dump(mode="json"), "digest": run.digest, "data": data}
    about["sources"] = local_sources(run.config)
    (run.folder / "config.json").write_text(json.dumps(about))
    metrics = about | {"training_time_seconds": seconds, "labels_used": 1, "best_epoch": 1, "total_epochs": 1}
    metrics |= {"test_metrics": {"accuracy": 1.0}, "environment": {"device": "cpu"}}
    (run.folder / "performance_metrics.json").write_text(json.dumps(metrics))


def test_a_hundred_complete_runs_are_passed_over_in_seconds_without_a_process(project, monkeypatch):
    path = sweep(project, split_seed=list(range(100)))
    for run in runs_of(load(path)):
        complete(run, 1.0)
    monkeypatch.setattr(processes.subprocess, "Popen", None)
    start = time.monotonic()
    assert local.main([path]) == 0
    assert time.monotonic() - start < 5


def test_results_of_another_configuration_do_not_count(project):
    run = runs_of(load(sweep(project)))[0]
    complete(run, 1.0)
    assert run.is_complete()
    about = json.loads((run.folder / "config.json").read_text())
    (run.folder / "config.json").write_text(json.dumps(about | {"digest": "0" * 64}))
    assert not run.is_complete()


def test_results_from_another_folder_or_another_file_are_for_train_py_to_judge(project):
    weights = project / "w.pth"
    weights.write_bytes(b"one")
    path = sweep(project, weights=[str(weights)], data_dir=["data"])
    (run,) = runs_of(load(path))
    complete(run, 1.0)
    assert run.is_complete()
    (elsewhere,) = runs_of(load(path, {"data_dir": "other"}))
    elsewhere.folder.parent.mkdir(parents=True, exist_ok=True)
    if elsewhere.folder != run.folder:
        run.folder.rename(elsewhere.folder)
    assert not elsewhere.is_complete()
    weights.write_bytes(b"two")
    (replaced,) = runs_of(load(path))
    assert not replaced.is_complete()


@pytest.mark.parametrize("damage", ["{", "", "[1, 2]", "{}", "null"])
def test_results_that_cannot_be_read_are_made_again(project, capsys, damage):
    path = sweep(project, split_seed=[1, 2])
    assert local.main([path]) == 0
    results = sorted(project.glob("results/*/*/performance_metrics.json"))
    results[0].write_text(damage)
    capsys.readouterr()
    assert local.main([path]) == 0
    out = capsys.readouterr().out
    assert "1 of 2 runs are complete already" in out
    assert "its results cannot be read" in out
    assert "81.50 ± 0.71" in out
    assert sorted(len(lines) for lines in starts(project).values()) == [1, 2]


def test_summary_fits_a_narrow_terminal(project, capsys, monkeypatch):
    path = sweep(project, strategy=["margin", "typiclust"], schedule=["converge"])
    runs = runs_of(load(path))
    for run in runs:
        complete(run, 100.0)
    _, of_file = local.make_jobs([load(path)])
    monkeypatch.setattr(terminal, "Console", lambda **_: Console(width=80))
    terminal.print_summaries((str(path), jobs) for path, jobs in of_file.items())
    heading, *rows = [line.split() for line in capsys.readouterr().out.splitlines() if "…" in line or "/1" in line]
    assert heading[0] == "digits-balanced_20-…"
    assert "failed" not in heading
    assert [row[0] for row in rows] == [run.folder.parent.name.removeprefix("digits-balanced_20-") for run in runs]


def test_dry_run_says_what_is_done_and_estimates_from_the_runs_most_alike(project, capsys):
    path = sweep(project, split_seed=[1, 2, 3], strategy=["margin", "typiclust"])
    runs = runs_of(load(path))
    complete(next(run for run in runs if run.config.strategy == "margin"), 100.0)
    complete(next(run for run in runs if run.config.strategy == "typiclust"), 300.0)
    assert local.main([path, "--dry-run", "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    assert "6 runs, 2 complete, 4 to run" in out
    assert "to run: 4; time: about 7 min with --jobs 2" in out
    assert not starts(project)
    assert not list(project.glob("results/logs"))


def test_dry_run_says_why_it_knows_no_time(project, capsys):
    digits, cifar = (sweep(project, dataset=[name], name=name) for name in ("digits", "cifar10"))
    assert local.main([digits, cifar, "--dry-run"]) == 0
    assert "to run: 2; time: unknown, as no run like these is complete yet" in capsys.readouterr().out
    complete(runs_of(load(sweep(project, dataset=["digits"], split_seed=[2], name="other")))[0], 120.0)
    assert local.main([digits, cifar, "--dry-run"]) == 0
    said = "to run: 2; time: about 2 min with --jobs 1, not counting 1 of them, as no run like those is complete yet"
    assert said in capsys.readouterr().out


def test_estimates_need_a_run_of_the_same_model_and_data(project):
    digits, cifar = (runs_of(load(sweep(project, dataset=[name])))[0].config for name in ("digits", "cifar10"))
    estimate = Estimate()
    estimate.add(digits.model_dump(), 5.0)
    assert estimate.seconds(digits) == 5.0
    assert estimate.seconds(cifar) is None


@pytest.mark.parametrize("config", [3, "x", [1], None, {"model": "small_cnn", "dataset": ["digits"]}])
def test_a_damaged_file_estimates_nothing_and_stops_nobody(project, config):
    path = sweep(project)
    folder = project / "results/other/split_seed_1"
    folder.mkdir(parents=True)
    found = {"config": config, "training_time_seconds": 5.0, "environment": 3}
    (folder / "performance_metrics.json").write_text(json.dumps(found))
    assert local.main([path, "--dry-run"]) == 0
    estimates_by_machine(["results"])


def test_a_run_whose_files_cannot_be_written_fails_alone(project, monkeypatch, capsys):
    """A full disk, at the moment at which a run is started: those under way are not left behind."""
    written = []

    def write(path, content):
        written.append(path)
        if len(written) == 2:
            raise NoRoom(path)
        path.write_text(content)

    monkeypatch.setattr(local, "write_atomically", write)
    assert local.main([sweep(project, split_seed=[1, 2, 3]), "--jobs", "3"]) == 1
    assert "cannot be started (No space left on device)" in capsys.readouterr().err
    assert len(list(project.glob("results/*/*/performance_metrics.json"))) == 2


def test_a_run_that_cannot_be_locked_fails_alone(project, capsys):
    path = sweep(project, split_seed=[1, 2])
    first = runs_of(load(path))[0]
    (project / "results/logs" / f"{first.name}.lock").mkdir(parents=True)
    assert local.main([path]) == 1
    captured = capsys.readouterr()
    assert "1 of 2 runs failed" in captured.err
    assert ".lock: cannot be locked (Is a directory)" in captured.err
    assert len(starts(project)) == 1


def test_damaged_results_that_cannot_be_set_aside_fail_alone(project, capsys):
    path = sweep(project, split_seed=[1, 2])
    first = runs_of(load(path))[0]
    (first.folder / "performance_metrics.damaged").mkdir(parents=True)
    (first.folder / "performance_metrics.json").write_text("{")
    assert local.main([path]) == 1
    assert "cannot be read, nor set aside (Is a directory); remove it" in capsys.readouterr().err
    assert len(starts(project)) == 1


def test_a_run_that_fails_without_a_log_fails_alone(project, monkeypatch, capsys):
    """Somebody has tidied up the folder of logs meanwhile."""
    collect = local.Runner._collect

    def without_logs(runner):
        for log in project.glob("results/logs/*.log"):
            log.unlink()
        collect(runner)

    monkeypatch.setattr(local.Runner, "_collect", without_logs)
    assert local.main([sweep(project, split_seed=[1], lr=[0.5, 0.01])]) == 1
    assert "exit code 1 (log: " in capsys.readouterr().err
    assert len(starts(project)) == 2


def test_a_full_disk_is_one_line(project, monkeypatch, capsys):
    def full(jobs, *, shared):
        raise NoRoom(Path("results/logs"))

    monkeypatch.setattr(local, "make_log_folders", full)
    assert local.main([sweep(project)]) == 1
    assert capsys.readouterr().err == f"error: {NoRoom(Path('results/logs'))}\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["sweep.yaml", "--machines", "2"], "--machines 2 --minutes 240: no machines without --executor"),
        (["sweep.yaml", "--machine", "gpus_per_node=1"], "--machine gpus_per_node=1: no machines without --executor"),
        (["sweep.yaml", "--executor", "slurm", "--minutes", "nan"], "both must be more than nothing"),
        (["nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["sweep.yaml", "--jobs", "0"], "--jobs 0: runs nothing"),
        (["sweep.yaml", "--sweep-seed", "-1"], "--sweep-seed -1: not a seed"),
        (["sweep.yaml", "--set", "lrr=1"], "did you mean 'lr'"),
        (["sweep.yaml", "--results-dir", "/proc/nowhere"], "choose another with --results-dir"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(project, capsys, arguments, error):
    sweep(project)
    assert local.main(arguments) == 2
    captured = capsys.readouterr().err
    assert error in captured
    assert captured.startswith("error: ")
    assert captured.count("\n") == 1


def test_progress_of_a_running_job_is_read_from_its_rows(project):
    run = runs_of(load(sweep(project)))[0]
    assert run.last_epoch() is None
    run.folder.mkdir(parents=True)
    rows = [{"epoch": n, "round": 1, "labels": 5, "test": {"accuracy": 61.25}} for n in (1, 2, 3)]
    lines = [json.dumps(row) for row in rows]
    (run.folder / "epochs.jsonl").write_text(f"{lines[0]}\n{lines[1]}\n[1]\n{lines[2][:-9]}")
    assert str(run.last_epoch()) == "epoch 2, round 1, 5 labels, 61.2 %"


MACROS = ("args", "args_no_hyphens", "args_no_equals", "args_no_boolean_flags", "args_json", "args_append_hydra")
VALUES = {"augment": True, "class_weights": False, "lr": 0.01, "minority_classes": ["a", "b"], "clip_prompt": "a {}."}


@pytest.mark.parametrize("macro", [*MACROS, "args_override_hydra", "nonsense"])
def test_command_macros_are_those_of_the_agent(macro, monkeypatch):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    monkeypatch.setenv("WHERE", "here")
    command = ["${env}", "nice", "${envvar:WHERE}-x${envvar:NOT_SET}", "${program}", "${" + macro + "}"]
    theirs = create_sweep_command_args({"args": {name: {"value": value} for name, value in VALUES.items()}})
    middle = create_sweep_command(list(command))[1:3]
    expected = ["/usr/bin/env", *middle, "train.py", *theirs.get(macro, [])]
    assert command_line(command, "train.py", VALUES, "args.json") == expected


def test_parameter_file_is_that_of_the_agent(tmp_path):
    from wandb.sdk.lib.config_util import save_config_file_from_dict

    save_config_file_from_dict(
        str(tmp_path / "theirs.yaml"), {name: {"value": value} for name, value in VALUES.items()}
    )
    assert parameter_file(VALUES) == (tmp_path / "theirs.yaml").read_text()


def test_the_live_display_says_where_each_job_is_and_how_long_it_takes(project):
    import io

    from rich.console import Console

    from sweeps.runner import terminal as display

    jobs = [local.Job(run) for run in runs_of(load(sweep(project, split_seed=[1, 2, 3])))]
    estimates = Estimate()
    estimates.add(jobs[0].run.config.model_dump(), 600.0)
    runner = local.Runner(jobs, 1, display.Display(), estimates)
    jobs[0].state = "done"
    jobs[1].state, jobs[1].started = "running", time.monotonic() - 120
    runner.running.append(jobs[1])
    jobs[1].run.folder.mkdir(parents=True)
    row = {"epoch": 7, "round": 5, "labels": 140, "test": {"accuracy": 61.25}}
    (jobs[1].run.folder / "epochs.jsonl").write_text(json.dumps(row) + "\n")
    screen = io.StringIO()
    Console(file=screen, width=80).print(display.progress(runner))
    shown = screen.getvalue()
    assert "digits-balanced_20-margin 2" in shown
    assert "epoch 7, round 5, 140 labels, 61.2 %" in shown
    assert "1 of 3 runs  about 18 min left" in shown
