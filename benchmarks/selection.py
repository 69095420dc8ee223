"""What one selection costs: k-means against scikit-learn's MiniBatchKMeans, then every strategy of the registry.

    python -m benchmarks.selection                                    # 50,000 x 1,280, k = 250, 2,500 labelled
    OMP_NUM_THREADS=1 python -m benchmarks.selection --clock=processor --repeats=1   # on a machine that others use too
    python -m benchmarks.selection --rows=1000000 --dtype=float16 --memory-map --strategies=typiclust --repeats=1

Every measurement runs in a process of its own, so that its peak memory (which holds the features too, unless they
are memory-mapped) is its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from al.strategies import REGISTRY, Pool
from al.strategies.clustering import kmeans
from benchmarks import measuring, synthetic
from benchmarks.measuring import Measurement, Spread, Target, peak_mib

PASSES = {"mc_probs": 10, "drop_votes": 3}
CLUSTERS = 100
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
MILLION = 1_000_000
LIMIT_SECONDS, LIMIT_MIB = Target("value", 120, 45), Target("value", 4096, 2048)
"""Of typiclust on a million stored features of 1,280 dimensions."""
STUDY_ROWS, STUDY_SECONDS = 50_000, Target("value", 30)
"""Of any strategy on the study's pool."""


def softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exp / exp.sum(axis=-1, keepdims=True)).astype(np.float32)


def write_pool(folder: Path, options: argparse.Namespace) -> None:
    """Features [N, D], written in parts so that a million rows need no memory, and what goes with them."""
    rng = np.random.default_rng(0)
    shape = (options.rows, options.dimensions)
    features = np.lib.format.open_memmap(folder / "features.npy", "w+", dtype=options.dtype, shape=shape)
    truth = synthetic.fill_features(features)
    features.flush()
    logits = 2 * np.eye(synthetic.CLASSES)[truth] + rng.standard_normal((options.rows, synthetic.CLASSES))
    labelled = np.isin(np.arange(options.rows), rng.choice(options.rows, options.labelled, False))
    np.save(folder / "labelled.npy", labelled)
    np.save(folder / "labels.npy", np.where(labelled, truth, -1))
    np.save(folder / "head.npy", rng.standard_normal((synthetic.CLASSES, options.dimensions)).astype(np.float32))
    np.save(folder / "probs.npy", softmax(logits))
    if set(options.strategies.split(",")) & {"bald", "dropquery"}:
        votes = logits + 2 * rng.standard_normal((PASSES["drop_votes"], *logits.shape))
        np.save(folder / "drop_votes.npy", votes.argmax(axis=-1))
        np.save(folder / "mc_probs.npy", softmax(logits + rng.standard_normal((PASSES["mc_probs"], *logits.shape))))


def timed(work: Callable[[], Any], options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the repeats after a warm-up where there are several, the peak memory, and the last result."""
    if options.repeats > 1:
        work()
    seconds, clock = [], CLOCKS[options.clock]
    for _ in range(options.repeats):
        start = clock()
        result = work()
        seconds.append(clock() - start)
    return {"seconds": seconds, "peak_mib": peak_mib(), "result": result}


def measure_kmeans(what: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The clustering of one typiclust round: the unlabelled into 100 clusters. Inertia is that of the last repeat."""
    rows = np.flatnonzero(~np.load(folder / "labelled.npy"))
    features = np.load(folder / "features.npy")[rows].astype(np.float32)

    def ours() -> float:
        return float((kmeans(features, CLUSTERS, 0).distance.astype(float) ** 2).sum())

    def theirs() -> float:
        from sklearn.cluster import MiniBatchKMeans

        return float(MiniBatchKMeans(CLUSTERS, n_init="auto", random_state=0).fit(features).inertia_)

    cost = timed({"kmeans": ours, "MiniBatchKMeans": theirs}[what], options)
    return cost | {"inertia": cost.pop("result")}


def measure_strategy(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    strategy = REGISTRY[name]
    arrays = {
        need: np.load(folder / f"{need}.npy") for need in strategy.needs if need not in ("features", "activations")
    }
    for need in set(strategy.needs) & {"features", "activations"}:
        arrays[need] = np.load(folder / "features.npy", mmap_mode="r" if options.memory_map else None)
    labelled, labels = np.load(folder / "labelled.npy"), np.load(folder / "labels.npy")
    pool = Pool(labelled=labelled, classes=synthetic.CLASSES, labels=labels, **arrays)
    cost = timed(lambda: strategy.select(pool, options.k, np.random.default_rng(0)), options)
    picks = cost.pop("result")
    if len(np.unique(picks.positions)) != min(options.k, len(pool.unlabelled)) or pool.labelled[picks.positions].any():
        raise SystemExit(f"error: {name} did not pick {options.k} distinct unlabelled rows")
    return cost


def in_own_process(what: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    module = [sys.executable, "-m", "benchmarks.selection"]
    arguments = [*module, f"--measure={what}", f"--folder={folder}", *options.given]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode:
        raise SystemExit(f"error: measuring {what} failed\n{done.stderr}")
    cost = json.loads(done.stdout.splitlines()[-1])
    return cost | {"seconds": Spread.of(cost["seconds"])}


def clustering(folder: Path, options: argparse.Namespace) -> Measurement:
    """k-means of both sides.

    Raises:
        SystemExit: ours is the worse clustering.
    """
    ours, theirs = (in_own_process(what, folder, options) for what in ("kmeans", "MiniBatchKMeans"))
    if ours["inertia"] > 1.001 * theirs["inertia"]:
        raise SystemExit(f"error: inertia {ours['inertia']:,.0f} against {theirs['inertia']:,.0f} of MiniBatchKMeans")
    conditions = f"{options.rows - options.labelled:,} x {options.dimensions:,} {options.dtype}, k = {CLUSTERS}"
    checked = f"inertia {ours['inertia']:,.0f} against {theirs['inertia']:,.0f}"
    target, seconds = Target("ratio", 3, 8), [side["seconds"] for side in (ours, theirs)]
    return Measurement("k-means", "s", *seconds, target, conditions, checked, peak_mib=ours["peak_mib"])


def selecting(name: str, folder: Path, options: argparse.Namespace) -> list[Measurement]:
    """Seconds of one strategy, and its memory where that is bounded."""
    cost = in_own_process(name, folder, options)
    stored = f"{options.dtype}{' in a file' if options.memory_map else ''}"
    conditions = (
        f"{options.rows:,} x {options.dimensions:,} {stored}, k = {options.k}, peak {cost['peak_mib']:,.0f} MiB"
    )
    bounded = name == "typiclust" and options.rows >= MILLION
    what = f"selection by {name}" + (" from a million" if bounded else "")
    target = LIMIT_SECONDS if bounded else STUDY_SECONDS if options.rows == STUDY_ROWS else None
    peak = cost["peak_mib"]
    found = [Measurement(what, "s", cost["seconds"], None, target, conditions, peak_mib=peak)]
    if bounded:
        found.append(Measurement(f"{what}: memory", "MiB", Spread.of([peak]), None, LIMIT_MIB, conditions))
    return found


def measure(options: argparse.Namespace) -> list[Measurement]:
    names = options.strategies.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_pool(folder, options)
        found = [] if options.memory_map else [clustering(folder, options)]
        for name in names:
            if name in REGISTRY:
                found += selecting(name, folder, options)
    return found


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = measuring.options(__doc__, "selection")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimensions", type=int, default=1280)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--memory-map", action="store_true", help="leave the features on disk")
    parser.add_argument("--k", type=int, default=250)
    parser.add_argument("--labelled", type=int, default=2500)
    parser.add_argument("--strategies", default=",".join(REGISTRY), help="comma-separated; kmeans: only the k-means")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: what all threads took together")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.given = arguments
    return options


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    if options.measure:
        one = measure_strategy if options.measure in REGISTRY else measure_kmeans
        print(json.dumps(one(options.measure, options.folder, options)))
        return
    measuring.report(measure(options), options.csv)


if __name__ == "__main__":
    main(sys.argv[1:])
