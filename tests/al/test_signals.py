"""Signals end a program with one line and the status that says why, from its first moment on."""

import os
import signal
import subprocess
import sys

import launch
import pytest

CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGUSR1": 75}


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("program", ["train.py", "sweeps/local.py"])
def test_while_the_imports_are_under_way(tmp_path, name, program):
    """`numpy` is the first that takes its time: here it takes for ever."""
    (tmp_path / "numpy.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    env = launch.environment(PYTHONPATH=os.pathsep.join([str(tmp_path), str(launch.ROOT)]))
    module = program.removesuffix(".py").replace("/", ".")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module], cwd=launch.ROOT, env=env, stdout=-1, stderr=-1, text=True
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.Signals[name])
    _, errors = process.communicate(timeout=10)
    assert process.returncode == CODES[name]
    assert errors == f"stopped by {name}: give the same command again to go on\n"


def test_a_closed_terminal_stops_a_run_and_keeps_its_checkpoint(launcher, tmp_path):
    args = launch.small(tmp_path / "results")
    outcome = launcher.run(args, strike=("replace checkpoint.pt", 3, signal.SIGHUP))
    assert outcome.code == 129
    assert list(tmp_path.glob("results/*/*/checkpoint.pt"))
    assert launcher.run(args).code == 0


def test_under_nohup_a_closed_terminal_changes_nothing(tmp_path):
    code = (
        "import os, signal, time; from al.signals import StopSignals; StopSignals().install(); os.kill(os.getpid(), 1)"
    )
    env = launch.environment()
    done = subprocess.run(["nohup", sys.executable, "-c", code], cwd=launch.ROOT, env=env, capture_output=True)
    assert done.returncode == 0
