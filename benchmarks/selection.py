"""What one selection costs: k-means against scikit-learn's MiniBatchKMeans, then every strategy of the registry.

    python benchmarks/selection.py                                    # 50,000 x 1,280, k = 250, 2,500 labelled
    python benchmarks/selection.py --rows=1000000 --dtype=float16 --memory-map --strategies=typiclust --repeats=1

Every measurement runs in a process of its own, so that its peak memory (which holds the features too, unless they
are memory-mapped) is its own. Features are made to look like a network's: non-negative, classes, a decaying spectrum.
"""

import argparse
import csv
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from al.neighbours import kmeans
from al.strategies import REGISTRY, Pool

CLASSES = 10
PASSES = {"mc_probs": 10, "drop_votes": 3}
COLUMNS = ("what", "rows", "dimensions", "dtype", "memory_map", "k", "labelled", "repeats", "seconds_median")
COLUMNS += (
    "seconds_min",
    "seconds_max",
    "cpu_seconds",
    "peak_mib",
    "inertia",
    "cpus",
    "threads",
    "machine",
    "numpy",
    "faiss",
    "scikit_learn",
)


def softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exp / exp.sum(axis=-1, keepdims=True)).astype(np.float32)


def write_pool(folder: Path, options: argparse.Namespace) -> None:
    """Features [N, D], written in parts so that a million rows need no memory, and what goes with them."""
    rng = np.random.default_rng(0)
    scale = (1 / np.sqrt(np.arange(1, 65))).astype(np.float32)
    centres = scale * rng.standard_normal((CLASSES, 64), dtype=np.float32)
    mixing = rng.standard_normal((64, options.dimensions), dtype=np.float32)
    truth = rng.integers(CLASSES, size=options.rows)
    shape = (options.rows, options.dimensions)
    features = np.lib.format.open_memmap(folder / "features.npy", "w+", dtype=options.dtype, shape=shape)
    for start in range(0, options.rows, 8192):
        part = truth[start : start + 8192]
        latent = centres[part] + scale * rng.standard_normal((len(part), 64), dtype=np.float32)
        noise = 0.3 * rng.standard_normal((len(part), options.dimensions), dtype=np.float32)
        features[start : start + len(part)] = np.maximum(latent @ mixing + noise, 0)
    features.flush()
    logits = 2 * np.eye(CLASSES)[truth] + rng.standard_normal((options.rows, CLASSES))
    votes = logits + 2 * rng.standard_normal((PASSES["drop_votes"], *logits.shape))
    np.save(
        folder / "labelled.npy", np.isin(np.arange(options.rows), rng.choice(options.rows, options.labelled, False))
    )
    np.save(folder / "probs.npy", softmax(logits))
    np.save(folder / "drop_votes.npy", votes.argmax(axis=-1))
    np.save(folder / "mc_probs.npy", softmax(logits + rng.standard_normal((PASSES["mc_probs"], *logits.shape))))


def peak_mib() -> float:
    """Most memory that this process held; getrusage would count what its parent held before the exec."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measured(work, repeats: int) -> dict:
    """Seconds of `work()` after one warm-up, the process's peak memory, and what the last call returned."""
    work()
    seconds, busy = [], time.process_time()
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return {
        "cpu_seconds": round((time.process_time() - busy) / repeats, 3),
        "seconds_median": round(statistics.median(seconds), 3),
        "seconds_min": round(min(seconds), 3),
        "seconds_max": round(max(seconds), 3),
        "peak_mib": round(peak_mib()),
        "result": result,
    }


def measure_kmeans(what: str, folder: Path, options: argparse.Namespace) -> dict:
    """The clustering of one typiclust round: the unlabelled into 100 clusters. Inertia is that of the last repeat."""
    rows = np.flatnonzero(~np.load(folder / "labelled.npy"))
    features = np.load(folder / "features.npy")[rows].astype(np.float32)

    def ours() -> float:
        return float((kmeans(features, 100, 0).distance.astype(float) ** 2).sum())

    def theirs() -> float:
        from sklearn.cluster import MiniBatchKMeans

        return float(MiniBatchKMeans(100, n_init="auto", random_state=0).fit(features).inertia_)

    cost = measured({"kmeans": ours, "MiniBatchKMeans": theirs}[what], options.repeats)
    return cost | {"inertia": round(cost.pop("result"))}


def measure_strategy(name: str, folder: Path, options: argparse.Namespace) -> dict:
    strategy = REGISTRY[name]
    arrays = {need: np.load(folder / f"{need}.npy") for need in strategy.needs if need != "features"}
    if "features" in strategy.needs:
        arrays["features"] = np.load(folder / "features.npy", mmap_mode="r" if options.memory_map else None)
    pool = Pool(labelled=np.load(folder / "labelled.npy"), classes=CLASSES, **arrays)
    cost = measured(lambda: strategy.select(pool, options.k, np.random.default_rng(0)), options.repeats)
    picks = cost.pop("result")
    if len(np.unique(picks.rows)) != min(options.k, len(pool.unlabelled)) or pool.labelled[picks.rows].any():
        raise SystemExit(f"{name} did not pick {options.k} distinct unlabelled rows")
    return cost


def in_own_process(what: str, folder: Path, options: argparse.Namespace) -> dict:
    arguments = [sys.executable, __file__, f"--measure={what}", f"--folder={folder}", *options.given]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: measuring {what} failed\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def environment(options: argparse.Namespace) -> dict:
    return {
        "rows": options.rows,
        "dimensions": options.dimensions,
        "dtype": options.dtype,
        "memory_map": options.memory_map,
        "k": options.k,
        "labelled": options.labelled,
        "repeats": options.repeats,
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "machine": platform.processor() or platform.machine(),
        "numpy": version("numpy"),
        "faiss": version("faiss-cpu"),
        "scikit_learn": version("scikit-learn"),
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimensions", type=int, default=1280)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--memory-map", action="store_true", help="leave the features on disk")
    parser.add_argument("--k", type=int, default=250)
    parser.add_argument("--labelled", type=int, default=2500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--strategies", default=",".join(REGISTRY), help="comma-separated; kmeans: only the k-means")
    parser.add_argument("--csv", type=Path, default=Path(__file__).parent / "selection.csv")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.given = arguments
    return options


def main() -> None:
    options = parse(sys.argv[1:])
    if options.measure:
        measure = measure_strategy if options.measure in REGISTRY else measure_kmeans
        print(json.dumps(measure(options.measure, options.folder, options)))
        return
    names = [name for name in options.strategies.split(",") if name in REGISTRY]
    clustering = [] if options.memory_map else ["kmeans", "MiniBatchKMeans"]
    with tempfile.TemporaryDirectory() as folder, options.csv.open("w", newline="") as file:
        write_pool(Path(folder), options)
        table = csv.DictWriter(file, COLUMNS, restval="")
        table.writeheader()
        for what in clustering + names:
            cost = in_own_process(what, Path(folder), options)
            table.writerow({"what": what, **environment(options), **cost})
            spread = f"{cost['seconds_min']:.2f} to {cost['seconds_max']:.2f}"
            inertia = f", inertia {cost['inertia']:,}" if "inertia" in cost else ""
            cpu, peak = f"{cost['cpu_seconds']:.2f} CPU s", f"{cost['peak_mib']:,} MiB"
            print(f"{what:<18}{cost['seconds_median']:8.2f} s ({spread}), {cpu}, {peak}{inertia}", flush=True)


if __name__ == "__main__":
    main()
