"""Many machines without a server: jobs that share a results folder, put back into the queue when their time is up."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import launch
import pytest
import runs
import yaml

from al.errors import UserError
from sweeps.runner import local, machines
from sweeps.runner.grid import load_content
from sweeps.runner.machines import Machine, new_executor, parse_settings

ROOT = launch.ROOT


class TestExecutor:
    def test_without_submitit_the_extra_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "submitit", None)
        with pytest.raises(UserError, match=r"^--executor=slurm: needs submitit; pip install submitit$"):
            new_executor("slurm", tmp_path, 10, {})

    def test_without_slurm_it_is_said(self, tmp_path):
        pytest.importorskip("submitit")
        with pytest.raises(UserError, match=r"^--executor=slurm: .*use --executor=submitit-local$") as refused:
            new_executor("slurm", tmp_path, 10, {"slurm_partition": "gpu"})
        assert "\n" not in str(refused.value)

    def test_settings_are_names_and_values(self):
        assert parse_settings(["slurm_partition=gpu", "gpus_per_node=1"]) == {
            "slurm_partition": "gpu",
            "gpus_per_node": "1",
        }
        with pytest.raises(UserError, match="not NAME=VALUE"):
            parse_settings(["gpu"])

    def test_a_job_gives_the_exit_code_of_its_runner(self, tmp_path, monkeypatch):
        monkeypatch.setattr(machines, "POLL", 0.01)
        assert Machine((sys.executable, "-c", "raise SystemExit(3)"), str(tmp_path))() == 3


class TestCheckpoint:
    """As submitit does it: by a signal to the process that waits for the runner."""

    def job(self, code, grace=30):
        script = f"""
import signal, sys
from sweeps.runner import machines
machines.POLL = 0.02
job = machines.Machine((sys.executable, "-c", {code!r}), ".", {grace})
def checkpoint(*_):
    again = job.checkpoint()
    print(again.function == job, flush=True)
signal.signal(signal.SIGUSR2, checkpoint)
print(job())
"""
        process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR2)
        return process.communicate(timeout=60)[0].split()

    def test_lets_the_runner_save_and_is_the_same_job_again(self):
        pytest.importorskip("submitit")
        code = (
            "import signal, sys; signal.signal(10, lambda *_: sys.exit(75)); print('ready', flush=True); signal.pause()"
        )
        assert self.job(code) == ["True", "75"]

    def test_does_not_wait_for_ever(self):
        pytest.importorskip("submitit")
        code = "import signal, time; signal.signal(10, signal.SIG_IGN); print('ready', flush=True); time.sleep(99)"
        assert self.job(code, grace=1) == ["True", "-9"]


class Ended:
    """A job that has ended at once, well or with an error."""

    def __init__(self, job_id, error=None):
        self.job_id, self.error = job_id, error
        self.paths = SimpleNamespace(stderr=f"{job_id}.err")

    def done(self):
        return True

    def exception(self):
        return self.error


def test_jobs_get_the_command_and_what_is_left_over_is_told(tmp_path, monkeypatch, capsys):
    submitted = []

    def submit(executor, arguments, count, minutes):
        submitted.append((executor, arguments, count, minutes))
        return [Ended("11"), Ended("12", RuntimeError("first line\nlost the node"))]

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(machines, "new_executor", lambda name, folder, minutes, settings: (name, settings))
    monkeypatch.setattr(machines, "submit", submit)
    command = ["sweeps/demo.yaml", "--results-dir", str(tmp_path), "--set", "split_seed=1", "--jobs", "3"]
    code = local.main([*command, "--executor=slurm", "--machines=2", "--minutes=7", "--machine", "slurm_partition=gpu"])
    again = ["sweeps/demo.yaml", "--jobs", "3", "--sweep-seed", "42", "--results-dir", str(tmp_path)]
    again += ["--set", "split_seed=1"]
    assert submitted == [(("slurm", {"slurm_partition": "gpu"}), again, 2, 7.0)]
    out, err = capsys.readouterr()
    assert code == 1
    assert "2 jobs for 5 runs: 11, 12; logs in " in out
    assert "job 12: lost the node (log: 12.err)" in err
    assert "error: 5 of 5 runs are not complete, digits-balanced_20-stratified" in err


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sweep_of_twelve_runs_with_a_preemption(tmp_path):
    """Two jobs on this machine, whose time is up before they are through: all twelve are made, none twice."""
    pytest.importorskip("submitit")
    small = {name: {"value": value} for name, value in launch.SMALL.items()}
    small |= {"max_epochs": {"value": 4}, "pictures": {"value": False}}
    small |= {"strategy": {"values": ["margin", "random", "entropy"]}, "split_seed": {"values": [1, 2, 3, 4]}}
    file = tmp_path / "twelve.yaml"
    file.write_text(yaml.safe_dump({"program": "train.py", "method": "grid", "parameters": small}))
    results = tmp_path / "results"
    command = [sys.executable, "-m", "sweeps.local", str(file), "--results-dir", str(results), "--jobs", "1"]
    command += ["--executor", "submitit-local", "--machines", "2", "--minutes", "0.6"]
    done = subprocess.run(command, cwd=ROOT, env=launch.environment(), capture_output=True, text=True, timeout=900)
    again = subprocess.run(command[:8], cwd=ROOT, env=launch.environment(), capture_output=True, text=True, timeout=900)
    assert again.returncode == 0, again.stderr
    assert len(list(results.glob("*/split_seed_*/performance_metrics.json"))) == 12
    logs = "".join(path.read_text() for path in results.glob("logs/machines/*/*log*"))
    assert "timed-out" in logs or "preempted" in logs, done.stdout + done.stderr
    for folder in results.glob("*/split_seed_*"):
        assert [row["epoch"] for row in runs.read_lines(folder / "epochs.jsonl")] == [1, 2, 3, 4]


class TestExamples:
    def test_kubernetes(self):
        job = yaml.safe_load((ROOT / "sweeps/k8s.yaml").read_text())
        assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
        spec = job["spec"]
        assert spec["completionMode"] == "Indexed"
        assert spec["completions"] == spec["parallelism"]
        pod = spec["template"]["spec"]
        assert pod["restartPolicy"] == "Never", "what backoffLimitPerIndex and podFailurePolicy ask for"
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        (rule,) = [rule for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
        assert rule["onExitCodes"]["containerName"] == container["name"]
        self.runs(container["command"])

    def test_sky(self):
        task = yaml.safe_load((ROOT / "sweeps/sky.yaml").read_text())
        assert set(task) == {"name", "num_nodes", "resources", "workdir", "file_mounts", "setup", "run"}
        command = task["run"].replace("\\\n", " ").splitlines()[-1]
        assert command.count("--set") == 1
        assert len(task["run"].split("seeds=(")[1].split(")")[0].split()) == task["num_nodes"]
        subprocess.run(["bash", "-n"], input=task["setup"] + task["run"], text=True, check=True)
        self.runs(["python", *command.split()[1:]])

    def runs(self, command):
        """It is the local runner on a sweep file that is there."""
        assert command[1:3] == ["-m", "sweeps.local"]
        content = yaml.safe_load((ROOT / command[3]).read_text())
        before = Path.cwd()
        os.chdir(ROOT)
        try:
            assert load_content(ROOT / command[3], content).runs
        finally:
            os.chdir(before)
