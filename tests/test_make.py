"""The Make targets, as a user types them; the environment that `make test` set up is used as it is."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NO_ACCOUNT = {"NETRC": os.devnull, "WANDB_API_KEY": "", "WANDB_MODE": ""}

pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or not (ROOT / ".venv" / ".installed").exists(), reason="needs make and its .venv"
)


def make(*arguments: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in (os.environ | NO_ACCOUNT).items() if value}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_help_lists_every_target_and_setting():
    lines = [line.split() for line in make("help").stdout.splitlines() if line]
    targets = {words[1] for words in lines if words[0] == "make"}
    known = {"demo", "compare", "exp1", "exp2", "exp3", "study", "clip", "sync", "report", "dashboard", "test", "lint"}
    assert known <= targets
    settings = {words[0].partition("=")[0] for words in lines if words[0] != "make"}
    assert settings == {"OFFLINE", "JOBS", "AGENTS", "RESULTS", "DATA", "MINUTES", "FEATURES", "ARGS"}


@pytest.mark.parametrize(("target", "runs"), [("exp1", 90), ("exp2", 100), ("exp3", 30), ("study", 220)])
def test_an_experiment_offline_says_what_it_would_run(target, runs, tmp_path):
    done = make(target, "OFFLINE=1", f"RESULTS={tmp_path}", "ARGS=--dry-run")
    assert done.returncode == 0, done.stderr
    assert str(runs) in done.stdout
    assert not list(tmp_path.glob("*/split_seed_*"))


@pytest.mark.parametrize(("target", "runs"), [("exp1", 90), ("demo", 25)])
def test_a_dry_run_needs_no_account_and_no_offline(target, runs, tmp_path):
    done = make(target, f"RESULTS={tmp_path}", "ARGS=--dry-run")
    assert done.returncode == 0, done.stderr
    assert "to run: " in done.stdout
    counts = [int(line.split(": ")[1].split()[0]) for line in done.stdout.splitlines() if " runs, " in line]
    assert sum(counts) == runs
    assert not list(tmp_path.iterdir())


def test_experiment_2_runs_its_baselines_first(tmp_path):
    shown = make("exp2", "OFFLINE=1", f"RESULTS={tmp_path}", "ARGS=--dry-run").stdout
    assert 0 <= shown.find("stratified") < shown.find("until-baseline")


def test_without_an_account_the_online_target_fails_with_one_line(tmp_path):
    done = make("exp1", f"RESULTS={tmp_path}")
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "OFFLINE=1" in errors[0] or "wandb login" in errors[0]
