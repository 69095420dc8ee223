"""What one selection costs: k-means against scikit-learn's MiniBatchKMeans, then every strategy of the registry.

    python -m benchmarks.selection                                    # 50,000 x 1,280, k = 250, 2,500 labelled
    OMP_NUM_THREADS=1 python -m benchmarks.selection --clock=processor --repeats=1   # on a machine that others use too

Every measurement runs in a process of its own, so that its peak memory (which holds the features too) is its own.
Features that stay in a file are measured by `benchmarks.million`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from al.strategies import REGISTRY, Picks, Pool
from al.strategies.clustering import kmeans
from benchmarks import measuring, synthetic
from benchmarks.measuring import Measurement, Spread, Target, peak_mib

PASSES = {"mc_probs": 10, "drop_votes": 3}
CLUSTERS = 100
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
STUDY_ROWS, STUDY_SECONDS = 50_000, Target("value", 30)
"""Of any strategy on the study's pool."""


def softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exp / exp.sum(axis=-1, keepdims=True)).astype(np.float32)


def write_pool(folder: Path, shape: tuple[int, int], dtype: str, labelled: int, strategies: Collection[str]) -> None:
    """Features [N, D], written in parts so that a million rows need no memory, and what the strategies need besides."""
    rng = np.random.default_rng(0)
    features = np.lib.format.open_memmap(folder / "features.npy", "w+", dtype=dtype, shape=shape)
    truth = synthetic.fill_features(features)
    features.flush()
    logits = 2 * np.eye(synthetic.CLASSES)[truth] + rng.standard_normal((len(truth), synthetic.CLASSES))
    known = np.isin(np.arange(len(truth)), rng.choice(len(truth), labelled, False))
    np.save(folder / "labelled.npy", known)
    np.save(folder / "labels.npy", np.where(known, truth, -1))
    np.save(folder / "head.npy", rng.standard_normal((synthetic.CLASSES, shape[1])).astype(np.float32))
    np.save(folder / "probs.npy", softmax(logits))
    if {"bald", "dropquery"} & set(strategies):
        votes = logits + 2 * rng.standard_normal((PASSES["drop_votes"], *logits.shape))
        np.save(folder / "drop_votes.npy", votes.argmax(axis=-1))
        np.save(folder / "mc_probs.npy", softmax(logits + rng.standard_normal((PASSES["mc_probs"], *logits.shape))))


def open_pool(folder: Path, needs: Sequence[str], *, in_file: bool = False) -> Pool:
    """The pool in `folder` with the arrays that a strategy needs; `in_file` leaves them there, memory-mapped."""
    arrays = {}
    for need in needs:
        file = folder / f"{'features' if need == 'activations' else need}.npy"
        arrays[need] = np.load(file, mmap_mode="r" if in_file else None)
    labelled, labels = np.load(folder / "labelled.npy"), np.load(folder / "labels.npy")
    return Pool(labelled=labelled, classes=synthetic.CLASSES, labels=labels, **arrays)


def check(picks: Picks, pool: Pool, k: int, name: str) -> None:
    """End the benchmark where these are not k distinct unlabelled rows."""
    if len(np.unique(picks.positions)) != min(k, len(pool.unlabelled)) or pool.labelled[picks.positions].any():
        raise SystemExit(f"error: {name} did not pick {k} distinct unlabelled rows")


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

    def ours(some: np.ndarray) -> float:
        return float((kmeans(some, CLUSTERS, 0).distance.astype(float) ** 2).sum())

    def theirs(some: np.ndarray) -> float:
        from sklearn.cluster import MiniBatchKMeans

        return float(MiniBatchKMeans(CLUSTERS, n_init="auto", random_state=0).fit(some).inertia_)

    work = {"kmeans": ours, "MiniBatchKMeans": theirs}[what]
    work(features[: 2 * CLUSTERS])  # what either side imports is not timed, also where nothing else warms up
    cost = timed(lambda: work(features), options)
    return cost | {"inertia": cost.pop("result")}


def measure_strategy(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    strategy = REGISTRY[name]
    pool = open_pool(folder, strategy.needs)
    cost = timed(lambda: strategy.select(pool, options.k, np.random.default_rng(0)), options)
    check(cost.pop("result"), pool, options.k, name)
    return cost


def in_own_process(module: str, arguments: Sequence[str]) -> Any:
    """What `python -m benchmarks.MODULE --measure=... ` prints as JSON in its last line.

    Raises:
        SystemExit: it failed; says what it said.
    """
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command[1:])} failed\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(what: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    cost = in_own_process("selection", [f"--measure={what}", f"--folder={folder}", *options.given])
    return cost | {"seconds": Spread.of(cost["seconds"])}


def clustering(folder: Path, options: argparse.Namespace) -> Measurement:
    """k-means of both sides.

    Raises:
        SystemExit: ours is the worse clustering.
    """
    ours, theirs = (measured(what, folder, options) for what in ("kmeans", "MiniBatchKMeans"))
    if ours["inertia"] > 1.001 * theirs["inertia"]:
        raise SystemExit(f"error: inertia {ours['inertia']:,.0f} against {theirs['inertia']:,.0f} of MiniBatchKMeans")
    conditions = f"{options.rows - options.labelled:,} x {options.dimensions:,} {options.dtype}, k = {CLUSTERS}"
    checked = f"inertia {ours['inertia']:,.0f} against {theirs['inertia']:,.0f}"
    target, seconds = Target("ratio", 3, 8), [side["seconds"] for side in (ours, theirs)]
    return Measurement("k-means", "s", *seconds, target, conditions, checked, peak_mib=ours["peak_mib"])


def selecting(name: str, folder: Path, options: argparse.Namespace) -> Measurement:
    """Seconds of one strategy, and its memory."""
    cost = measured(name, folder, options)
    size = f"{options.rows:,} x {options.dimensions:,} {options.dtype}"
    conditions = f"{size}, k = {options.k}, peak {cost['peak_mib']:,.0f} MiB"
    target = STUDY_SECONDS if options.rows == STUDY_ROWS else None
    what, peak = f"selection by {name}", cost["peak_mib"]
    return Measurement(what, "s", cost["seconds"], None, target, conditions, peak_mib=peak)


def measure(options: argparse.Namespace) -> list[Measurement]:
    names = options.strategies.split(",")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_pool(folder, (options.rows, options.dimensions), options.dtype, options.labelled, names)
        found = [clustering(folder, options)]
        return found + [selecting(name, folder, options) for name in names if name in REGISTRY]


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = measuring.options(__doc__, "selection", device=False)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimensions", type=int, default=1280)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
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
