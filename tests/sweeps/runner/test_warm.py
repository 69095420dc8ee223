"""Runs that a warm process forks are runs like any other."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeps.runner.warm import COMMAND, PROGRAM, WarmStart

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runs are forked on Linux only")


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    found = WarmStart({**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"})
    yield found
    found.close()


def run(warm: WarmStart, argv: list[str], log: Path, **variables: str) -> tuple[int, str]:
    with log.open("wb") as file:
        child = warm.start(["train.py", *argv], {**os.environ, "WANDB_MODE": "disabled", **variables}, file)
    while child.poll() is None:
        time.sleep(0.02)
    return child.poll(), log.read_text()


def test_arguments_environment_output_and_exit_code_are_the_runs_own(warm, tmp_path):
    code, said = run(warm, ["--strategy=marign"], tmp_path / "log")
    assert (code, said.count("\n")) == (2, 1)
    assert "marign" in said
    assert "margin" in said
    code, said = run(warm, ["--help"], tmp_path / "log", COLUMNS="60")
    assert code == 0
    assert said.startswith("usage: train.py")
    code, said = run(warm, ["--dataset=digits"], tmp_path / "log", WANDB_MODE="nonsense")
    assert code == 2
    assert "nonsense" in said


def test_a_run_leads_its_group_once_it_is_known(warm, tmp_path):
    """A signal that is sent to the group at once must find it."""
    with (tmp_path / "log").open("ab") as log:
        for _ in range(10):
            child = warm.start([str(PROGRAM), "--help"], os.environ, log)
            assert os.getpgid(child.pid) == child.pid
            while child.poll() is None:
                time.sleep(0.02)


def test_a_run_that_is_killed_is_reported_as_such_and_costs_no_other(warm, tmp_path):
    small = ["--dataset=digits", "--patience=400", "--max_epochs=400", f"--results_dir={tmp_path}"]
    with (tmp_path / "log").open("wb") as log:
        children = [
            warm.start(["train.py", *small, f"--split_seed={seed}"], {**os.environ, "WANDB_MODE": "disabled"}, log)
            for seed in (1, 2)
        ]
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*/*/epochs.jsonl"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(children[0].pid, signal.SIGKILL)
    while children[0].poll() is None:
        time.sleep(0.02)
    assert children[0].poll() == -signal.SIGKILL
    assert children[1].poll() is None
    os.killpg(children[1].pid, signal.SIGINT)
    while children[1].poll() is None:
        time.sleep(0.02)
    assert children[1].poll() == 128 + signal.SIGINT


def test_once_the_process_that_forks_is_gone_runs_cannot_be_started_and_count_as_killed(tmp_path):
    warm = WarmStart({**os.environ, "WANDB_MODE": "disabled"})
    with (tmp_path / "log").open("wb") as log:
        child = warm.start(["train.py", "--dataset=digits", f"--results_dir={tmp_path}"], dict(os.environ), log)
        warm._process.kill()
        warm._process.wait()
        with pytest.raises(OSError):
            warm.start(["train.py", "--help"], dict(os.environ), log)
    os.killpg(child.pid, signal.SIGKILL)
    assert child.poll() == -signal.SIGKILL


def test_only_train_py_and_the_usual_command_are_forked():
    assert WarmStart.serves(str(PROGRAM), COMMAND)
    assert not WarmStart.serves("/elsewhere/train.py", COMMAND)
    assert not WarmStart.serves(str(PROGRAM), ("nice", *COMMAND))


def test_what_is_imported_beforehand_starts_no_thread_and_asks_no_device():
    """Threads do not survive a fork, and CUDA cannot be used in the child once the parent has asked for it."""
    code = """
import os, importlib, torch
def asked(*_): raise SystemExit("asked for a device")
torch._C._cuda_getDeviceCount = torch._C._cuda_init = asked
from sweeps.runner.warm import MODULES
for module in ("train", *MODULES):
    importlib.import_module(module)
print(len(os.listdir("/proc/self/task")), torch.cuda.is_initialized())
"""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=PROGRAM.parent, env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "False"], done.stderr
