"""Whether whole runs of train.py pick the same images when they are repeated on the device."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.check.results import Result
from benchmarks.check.same_results import WITHOUT_RECORDING
from benchmarks.runs import ROOT

SMALL_RUN = {
    "dataset": "digits",
    "strategy": "typiclust",
    "variant": "balanced_50",
    "budget": 300,
    "batch_fraction": 0.2,
    "max_epochs": 6,
    "patience": 6,
}
"""A run of seconds, of which every part is as in a large one."""
WAYS = {"first": "all", "again": "all", "single steps": "-graphs"}
"""What `AL_FAST` is for each of the runs."""


def whole_runs(device: str) -> list[Result]:
    """The same small run of train.py twice, and once with steps launched one by one: the same picks each time."""
    with tempfile.TemporaryDirectory() as folder:
        with ThreadPoolExecutor() as at_once:
            done = at_once.map(lambda name: _small_run(device, Path(folder, name), WAYS[name]), WAYS)
        for run in done:
            if run.returncode:
                return [_failed(run, device)]
        picks = {name: _picks_of(Path(folder, name)) for name in WAYS}
    return [
        _same_picks("a whole run twice", picks["again"], picks["first"]),
        _same_picks("a whole run with single steps", picks["single steps"], picks["first"], WITHOUT_RECORDING),
    ]


def _command(device: str) -> list[str]:
    return ["train.py", *(f"--{key}={value}" for key, value in SMALL_RUN.items()), f"--device={device}"]


def _small_run(device: str, results: Path, fast: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *_command(device), f"--results_dir={results}"],
        cwd=ROOT,
        env=os.environ | {"WANDB_MODE": "disabled", "AL_FAST": fast},
        capture_output=True,
        text=True,
    )


def _failed(run: subprocess.CompletedProcess, device: str) -> Result:
    whole = run.stderr.strip() or run.stdout.strip()
    last = " ".join(whole.splitlines()[-1:])
    remedy = f"see it end with: WANDB_MODE=disabled python {shlex.join(_command(device))}"
    return Result("a whole run", f"exit status {run.returncode}: {last}", False, remedy=remedy, detail=whole)


def _picks_of(results: Path) -> list[int]:
    (path,) = results.glob("*/*/al_tracking.json")
    return json.loads(path.read_text())["selected_indices"]


def _same_picks(name: str, found: list[int], expected: list[int], remedy: str = "") -> Result:
    if found == expected:
        return Result(name, f"the same {len(expected)} picks", True)
    same = len(set(found) & set(expected))
    return Result(name, f"{same} of {len(expected)} picks are the same", False, remedy=remedy)
