"""The files that a finished run leaves, and their aggregate over the split seeds of a cell."""

import fcntl
import json
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from al.identity import identity_of
from al.storage.files import Row, remove_leftovers, write_json
from al.storage.run_folder import COMPLETE

PACKAGES = ("torch", "torchvision", "transformers", "numpy", "faiss-cpu", "scikit-learn", "wandb")
METRICS = ("loss", "accuracy", "precision", "recall", "f1-score")
GROUPS = {
    "averaged_training_metrics_for_best_epochs": "training_metrics_for_best_epoch",
    "averaged_validation_metrics_for_best_epochs": "validation_metrics_for_best_epoch",
    "averaged_test_metrics": "test_metrics",
}
"""Groups of the aggregate, and what of each seed they average."""


def al_tracking(config: Any, rounds: list[Row], budget: int, batch: int) -> dict[str, Any]:
    """The study's `al_tracking.json`, and every round in full."""
    return {
        "strategy": config.strategy,
        "budget": budget,
        "initial_labeled_size": len(rounds[0]["rows"]),
        "acquisition_batch_size": batch,
        "selected_indices": [row for entry in rounds[1:] for row in entry["rows"]],
        "rounds": rounds,
    }


def bought_again(rounds: list[Row]) -> int:
    """Images of the initial pool, free labels among them, that a later round paid for once more."""
    return len({row for entry in rounds[1:] for row in entry["rows"]} & set(rounds[0]["rows"]))


def performance_metrics(
    config: Any, epochs: list[Row], rounds: list[Row], best: Row, facts: dict[str, Any]
) -> dict[str, Any]:
    """`performance_metrics.json` of one run.

    Args:
        epochs, rounds: all rows of `epochs.jsonl` and `rounds.jsonl`.
        best: metrics of the best epoch by group, and its number; no validation images, no metrics on them.
        facts: what the caller knows besides: labels_used, reached_baseline, baseline, data, environment, ...
    """
    phases = epochs[-1]["seconds"].keys()
    seconds = {name: sum(row["seconds"][name] for row in epochs) for name in phases}
    return {
        **{group: best.get(group, {}) for group in GROUPS.values()},
        "initial_labels_bought_again": bought_again(rounds),
        "best_epoch": best["epoch"],
        "training_time_seconds": seconds["round"],
        "total_epochs": len(epochs),
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(),
        "config": config.model_dump(mode="json"),
        "digest": config.digest(),
        **facts,
    }


def aggregate(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and sample standard deviation (0 for one run) over the `performance_metrics.json` of a cell's seeds."""

    def mean_std(values: list[float]) -> tuple[float, float]:
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    result: dict[str, Any] = {}
    for group, source in GROUPS.items():
        result[group] = {}
        for metric in METRICS if all(run[source] for run in runs) else ():
            mean, std = mean_std([run[source][metric] for run in runs])
            result[group] |= {f"{metric}_mean": mean, f"{metric}_std": std}
    for name in ("training_time_seconds", "total_epochs"):
        result[name] = dict(zip(("mean", "std"), mean_std([run[name] for run in runs])))
    return result


def write_aggregate(run: Path) -> list[Path]:
    """Brings `<cell>/aggregated/` up to date after `run`; returns the seeds it holds.

    Seeds made from other images or weights stay out of it. Seeds that end at the same time take turns, so the last
    one written knows them all.
    """
    from al.tracking.plots import plot_aggregate

    folder = run.parent / "aggregated"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        seeds = complete_seeds(run)
        runs = [json.loads((seed / COMPLETE).read_text()) for seed in seeds]
        remove_leftovers(folder)
        plot_aggregate(seeds, folder)
        write_json(folder / COMPLETE, aggregate(runs))
    return seeds


def complete_seeds(like: Path) -> list[Path]:
    """The complete seeds of a cell made from the same images and weights as the run in `like`, itself among them."""

    def made_from(run: Path) -> list[Any]:
        identity = identity_of(json.loads((run / "config.json").read_text()))
        return [identity["fingerprint"], identity["sources"]]

    wanted = made_from(like)
    seeds = (path.parent for path in like.parent.glob(f"split_seed_*/{COMPLETE}"))
    return sorted(seed for seed in seeds if made_from(seed) == wanted)


def refresh_aggregate(run: Path) -> None:
    """Writes the aggregate again where a seed is younger than it, as after a kill between the two."""
    written = run.parent / "aggregated" / COMPLETE
    newest = max((seed / COMPLETE).stat().st_mtime for seed in complete_seeds(run))
    if not written.exists() or written.stat().st_mtime < newest:
        write_aggregate(run)


def environment(device: str, precision: str, threads: int) -> dict[str, Any]:
    """Versions, device, precision of scoring, threads and commit: what a number was measured on."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "device": device}
    found |= {"precision": precision, "threads": threads}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | {"git_commit": _git_commit()}


def _git_commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
