"""Over which NVIDIA cards runs are spread, and how many go at a time. Asks the driver, and loads no torch."""

import argparse
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from al.errors import UserError
from sweeps.runner.command import cores

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Environment variable: the cards that a process may use, by number or name; empty or -1: none."""
PIPES = "CUDA_MPS_PIPE_DIRECTORY"
"""Environment variable: where the control daemon of NVIDIA's Multi-Process Service listens."""
MPS_DAEMON = "nvidia-cuda-mps-control"
CHECKED = "benchmarks/check.json"
"""In the folder of results, what `make check-device` found."""
AUTO = "auto"


@cache
def cards() -> tuple[str, ...]:
    """What `CUDA_VISIBLE_DEVICES` is to be for one card each; empty where there is none, or all are hidden."""
    shown = os.environ.get(VISIBLE)
    if shown is not None:
        return tuple(name.strip() for name in shown.split(",") if name.strip() not in ("", "-1", "NoDevFiles"))
    driver = shutil.which("nvidia-smi")
    if driver is None:
        return ()
    ask = [driver, "--query-gpu=uuid", "--format=csv,noheader"]  # numbers are another order than CUDA's own
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in said.splitlines() if line.strip().startswith("GPU-"))


def free_card(taken: Iterable[str], devices: Iterable[str] = ()) -> str:
    """The card for one more run or agent: that which fewest of those at work have; "" where they need not be spread.

    Args:
        taken: the card of each that is at work.
        devices: values of `device` that it may use; one that names a card by its number wants to see all of them.
    """
    there = cards()
    if len(there) < 2 or any(":" in device for device in devices):
        return ""
    busy = Counter(taken)
    return min(there, key=lambda card: busy[card])


def variables_of(card: str) -> dict[str, str]:
    """What the environment of a process that has this card needs."""
    return {VISIBLE: card} if card else {}


def chosen(workers: str | int, option: str, results_dir: Path) -> int:
    """How many runs go at a time: the number given, or for `auto` what this machine does best.

    That is what `make check-device` found, on each card; without its file one run a card; without a card, one a core.

    Raises:
        UserError: neither a whole number from 1 on nor `auto`.
    """
    if str(workers).strip().lower() == AUTO:
        return best(results_dir)
    try:
        count = int(workers)
    except ValueError:
        raise UserError(f"--{option} {workers}: not a number of runs; use 1 or more, or {AUTO}") from None
    if count < 1:
        raise UserError(f"--{option} {count}: runs nothing; use 1 or more, or {AUTO}")
    return count


def best(results_dir: Path) -> int:
    """See `chosen`."""
    there = cards()
    each = _checked(results_dir, on_card=bool(there))
    if there:
        return len(there) * (each or 1)
    return each or cores()


def _checked(results_dir: Path, *, on_card: bool) -> int | None:
    """Runs at a time that the device check found best, on one card or on this CPU; None where it has not run here."""
    try:
        found = json.loads((results_dir / CHECKED).read_text())
        if bool(found["on_cpu"]) is on_card:
            return None
        return max(1, int(found["best_runs_at_a_time"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def advice(workers: int) -> str:
    """What would make `workers` runs on these cards faster; empty where nothing is known to."""
    there = cards()
    if not there or workers <= len(there) or mps_is_running() or shutil.which(MPS_DAEMON) is None:
        return ""
    return (
        f"{workers} runs on {len(there)} card{'s' * (len(there) > 1)} take turns on it; with NVIDIA's Multi-Process "
        f"Service they share it: start that with `{MPS_DAEMON} -d`, and end it with `echo quit | {MPS_DAEMON}`"
    )


def mps_is_running() -> bool:
    """Whether its daemon listens; runs started from here then use it by themselves."""
    return (Path(os.environ.get(PIPES) or "/tmp/nvidia-mps") / "control").exists()


def add_workers_option(parser: argparse.ArgumentParser, option: str, what: str) -> None:
    parser.add_argument(
        f"--{option}",
        default="1",
        metavar="N",
        help=f"{what} at a time; they share cards and cores (default 1; {AUTO}: what `make check-device` found best)",
    )
