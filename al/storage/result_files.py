"""The files that a finished run leaves, and their aggregate over the split seeds of a cell."""

import fcntl
import json
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from al.budget import Budget
from al.errors import UserError, first_line
from al.records import METRICS, Environment, RoundRecord, RunResult
from al.storage.files import remove_leftovers, write_json
from al.storage.run_folder import COMPLETE, RunFolder

PACKAGES = ("torch", "torchvision", "transformers", "numpy", "faiss-cpu", "scikit-learn", "wandb")
GROUPS = {
    "averaged_training_metrics_for_best_epochs": "train",
    "averaged_validation_metrics_for_best_epochs": "val",
    "averaged_test_metrics": "test",
}
"""Groups of the aggregate, and the split that each averages."""


def al_tracking(strategy: str, budget: Budget, rounds: Sequence[RoundRecord]) -> dict:
    """The study's `al_tracking.json`, and every round in full."""
    return {
        "strategy": strategy,
        "budget": budget.total,
        "initial_labeled_size": len(rounds[0].rows),
        "acquisition_batch_size": budget.batch,
        "acquisition_batch_sizes": [len(query.rows) for query in rounds[1:]],
        "selected_indices": [row for query in rounds[1:] for row in query.rows],
        "rounds": [query.written() for query in rounds],
    }


def aggregate(runs: Sequence[RunResult]) -> dict:
    """Mean and sample standard deviation (0 for one run) over the results of a cell's seeds."""

    def mean_std(values: list[float]) -> tuple[float, float]:
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    result: dict[str, dict[str, float]] = {}
    averaged = [name for name, metric in METRICS.items() if metric.in_aggregate]
    for group, split in GROUPS.items():
        result[group] = {}
        for name in averaged if all(split in run.best.splits for run in runs) else ():
            mean, std = mean_std([run.best.splits[split].scores[name] for run in runs])
            result[group] |= {f"{name}_mean": mean, f"{name}_std": std}
    for name in ("training_time_seconds", "total_epochs"):
        result[name] = dict(zip(("mean", "std"), mean_std([getattr(run, name) for run in runs])))
    return result


def write_aggregate(run: Path, *, pictures: bool = True) -> list[Path]:
    """Brings `<cell>/aggregated/` up to date after `run`; returns the seeds it holds.

    Seeds made from other images or weights stay out of it. Seeds that end at the same time take turns, so the last
    one written knows them all.
    """
    folder = run.parent / "aggregated"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        seeds = complete_seeds(run)
        runs = [RunFolder(seed).result() for seed in seeds]
        remove_leftovers(folder)
        if pictures:
            from al.tracking.plots import plot_aggregate

            plot_aggregate(seeds, folder)
        write_json(folder / COMPLETE, aggregate(runs))
    return seeds


def complete_seeds(like: Path) -> list[Path]:
    """The complete seeds of a cell made from the same images and weights as the run in `like`, itself among them.

    One whose files are damaged is left out, and said.
    """
    wanted = _made_from(like)
    seeds = []
    for seed in sorted(path.parent for path in like.parent.glob(f"split_seed_*/{COMPLETE}")):
        try:
            if _made_from(seed) == wanted:
                RunFolder(seed).result()
                RunFolder(seed).epochs.read()
                seeds.append(seed)
        except (UserError, ValueError) as error:
            print(f"left out of the aggregate: {first_line(error)}", file=sys.stderr)
    return seeds


def _made_from(run: Path) -> tuple[str, dict]:
    """Fingerprint of the images, and hashes of the local files that a run was made from."""
    identity = RunFolder(run).identity()
    return identity.fingerprint, dict(identity.sources)


def refresh_aggregate(run: Path, *, pictures: bool = True) -> None:
    """Write the aggregate again where it is missing or damaged, or older than a seed, as after a kill."""
    written = run.parent / "aggregated" / COMPLETE
    newest = max(((seed / COMPLETE).stat().st_mtime for seed in complete_seeds(run)), default=0)
    if newest and (not _is_json(written) or written.stat().st_mtime < newest):
        write_aggregate(run, pictures=pictures)


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except (OSError, ValueError):
        return False


def environment(device: str, precision: str, threads: int, not_repeatable: Sequence[str] | None) -> Environment:
    """Versions, device, precision of scoring, threads and commit: what a number was measured on.

    Args:
        not_repeatable: operations without a deterministic kernel; None: not known.
    """
    found = {"python": platform.python_version(), "platform": platform.platform(), "device": device}
    found |= {"precision": precision, "threads": threads, "not_repeatable": not_repeatable}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return Environment(**found, git_commit=_git_commit())


def _git_commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MiB.

    Linux's `getrusage` would count what the parent had before it started this program.
    """
    with suppress(OSError, StopIteration, ValueError):
        status = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
