"""OpenMP's threads sleep while they wait, unless the user has said otherwise, and before torch is loaded."""

import os
import subprocess
import sys

import launch
import pytest

from al.threads import CHOICES, sleep_while_waiting


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # so that monkeypatch puts back what the test changes
    for name in CHOICES:
        monkeypatch.delenv(name, raising=False)


def test_threads_sleep():
    sleep_while_waiting()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"


@pytest.mark.parametrize("name", CHOICES)
def test_what_the_user_chose_is_kept(monkeypatch, name):
    monkeypatch.setenv(name, "17")
    sleep_while_waiting()
    assert {name: os.environ.get(name) for name in CHOICES} == dict.fromkeys(CHOICES) | {name: "17"}


@pytest.mark.parametrize("program", ["train", "data_prep"])
def test_programs_choose_before_torch_is_loaded(program):
    code = (
        f"import importlib, os, runpy, sys\n"
        f"importlib.import_module({program!r})\n"
        "assert 'OMP_WAIT_POLICY' not in os.environ, 'changed by the import alone'\n"
        "sys.argv[1:] = ['--help']\n"
        f"try: runpy.run_module({program!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules\n"
        "print(os.environ['OMP_WAIT_POLICY'], file=sys.stderr)\n"
    )
    env = launch.environment(**dict.fromkeys(CHOICES))
    done = subprocess.run([sys.executable, "-c", code], cwd=launch.ROOT, env=env, capture_output=True, text=True)
    assert done.stderr == "passive\n"
