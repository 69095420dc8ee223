"""Runs of `train.py`: as a process of their own, watched from outside; or in this process, quietly."""

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from al.config import RunConfig
from al.storage.run_folder import RunFolder
from benchmarks.measuring import peak_mib

ROOT = Path(__file__).resolve().parents[1]
PAUSE = 0.02
"""Seconds between two looks at a run."""


@dataclass(frozen=True)
class Finished:
    """A run that went to its end."""

    folder: Path
    epochs: list[dict[str, Any]]
    """The lines of epochs.jsonl."""
    seconds: float
    """From the start of the process to its end."""
    first_epoch: float
    """From the start of the process to the first line of epochs.jsonl."""
    last_epoch: float
    """From the start of the process to the last one."""
    peak_mib: float
    cpu_seconds: float
    """Of the processor, in the program and its threads, and in the system on their behalf."""


def train(results: Path, *, environment: Mapping[str, str] = os.environ, **parameters: Any) -> Finished:
    """`python train.py` with `parameters`, without W&B.

    Raises:
        SystemExit: the run failed; says what it said.
    """
    command = [sys.executable, "train.py", f"--results_dir={results}", *(f"--{k}={v}" for k, v in parameters.items())]
    peak = first = 0.0
    with tempfile.TemporaryFile("w+") as said:
        start, clock, before = time.perf_counter(), time.time(), _processor_of_children()
        environment = {**environment, "WANDB_MODE": "disabled"}
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT, env=environment)
        while process.poll() is None:
            lines = results.glob("*/*/epochs.jsonl")  # there is an empty one before the first epoch
            first = first or (time.perf_counter() - start if any(path.stat().st_size for path in lines) else 0.0)
            peak = max(peak, _peak(process.pid))
            time.sleep(PAUSE)
        seconds = time.perf_counter() - start
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"error: {' '.join(command)} ended with {process.returncode}\n{said.read()}")
    (lines,) = results.glob("*/*/epochs.jsonl")
    epochs = [json.loads(line) for line in lines.read_text().splitlines()]
    cpu = _processor_of_children() - before
    return Finished(lines.parent, epochs, seconds, first, lines.stat().st_mtime - clock, peak, cpu)


def _processor_of_children() -> float:
    """Seconds of the processor that the children which have ended took."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def finished_run(folder: Path) -> RunFolder:
    """The run in a folder that a benchmark was given.

    Raises:
        SystemExit: there is none, or it has not come to its end.
    """
    run = RunFolder(folder)
    if not run.complete:
        raise SystemExit(f"error: --run={folder}: no finished run; give a folder results/<cell>/split_seed_<s>")
    return run


def _peak(process: int) -> float:
    try:
        return peak_mib(process)
    except ProcessLookupError:
        return 0.0


def run_here(config: RunConfig) -> RunFolder:
    """Carry a run out in this process, without W&B and without a line on the terminal; its folder."""
    from al.distributed import leading
    from al.signals import StopSignals
    from train import run_once

    known = os.environ.get("WANDB_MODE")
    os.environ["WANDB_MODE"] = "disabled"
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), leading() as leader:
            run_once(config, StopSignals(), leader)
    finally:
        os.environ.pop("WANDB_MODE")
        if known is not None:
            os.environ["WANDB_MODE"] = known
    return RunFolder.of(config)
