"""What each part of `al.fast` buys: everything measured with all parts, and again without one of them at a time.

    python -m benchmarks.ablation                       # about fifteen minutes on two cores
    python -m benchmarks.ablation --parts=folding,slices --repeats=7

Each side is a process of its own with AL_FAST set, as the allocator's setting cannot be taken back. All are asked in
turn, and what is compared are times of one turn: a drift of the machine then meets both sides alike. Ratios are of
wall time, and of processor time in brackets, which other processes on the machine disturb less.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from al.fast.switch import PARTS, VARIABLE
from benchmarks import measuring, synthetic, usual
from benchmarks.measuring import Measurement, Spread
from benchmarks.runs import train
from benchmarks.startup import RUN
from benchmarks.training_step import STUDY
from benchmarks.whole_run import BATCH, INITIAL, POOL, Costs

WITH, WITHOUT_ALL = "all", "none"
ROOT = Path(__file__).resolve().parents[1]
STEPS, IMAGES = 6, 500
"""Of one turn: steps of training, and images scored."""
WORTH = 1.05
"""A part that is not this many times as fast with it, anywhere, is not worth its lines."""
COLUMNS = {
    "step": "training step",
    "score": "scoring",
    "half": "scoring, bfloat16",
    "select": "typiclust selection",
    "start": "start-up",
}
TOUCHES = {
    "adam": ("step", "start"),
    "allocator": ("step", "score", "half", "start"),
    "channels_last": ("step", "score", "half", "start"),
    "folding": ("score", "half", "start"),
    "graphs": (),  # nothing on a CPU
    "inplace": ("score", "half"),
    "launches": ("step",),
    "padding": (),  # nothing on a CPU
    "pointwise": ("step", "score", "half"),
    "pooling": ("half",),
    "sketch": ("select",),
    "slices": ("step",),
}
"""Part -> the columns it can change; the others are as with all parts."""


class Seconds(NamedTuple):
    """What one turn took."""

    wall: float
    cpu: float


class Side:
    """A process with some parts of `al.fast`, which does a piece of work whenever it is asked."""

    def __init__(self, fast: str, folder: Path):
        self.environment = os.environ | {VARIABLE: fast}
        command = [sys.executable, "-m", "benchmarks.ablation", f"--serve={folder}"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()

    def take(self, column: str) -> Seconds:
        """Raises SystemExit where the process has died; it has said why."""
        if column == "start":
            return self._start()
        print(column, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"error: the process with {VARIABLE}={self.environment[VARIABLE]} has died")
        return Seconds(*json.loads(answer))

    def _start(self) -> Seconds:
        """From the command to the first epoch of a run on digits; processor time is that of the whole small run."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with tempfile.TemporaryDirectory() as results:
            wall = train(Path(results), **RUN, device="cpu", environment=self.environment).first_epoch
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return Seconds(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def serve(folder: Path) -> None:
    """One side: does what standard input names, a line at a time, and answers with seconds."""
    work = _work(folder)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        work[line.strip()]()
        print(json.dumps((time.perf_counter() - wall, time.process_time() - cpu)), flush=True)


def _work(folder: Path) -> dict[str, Callable[[], object]]:
    """Column -> what is timed of it, on the network and the features in `folder`."""
    import torch

    from al.fast.convolutions import for_training
    from al.learning.networks import build_model
    from al.learning.scorer import Scorer
    from al.learning.trainer import Trainer
    from al.runtime import Runtime, resolve_runtime

    runtime, network = resolve_runtime("cpu"), str(folder / "network")
    shape = {"weights": "imagenet", "dropout": 0.2, "image_size": synthetic.SIDE, "seed": 0}
    model, still = (for_training(build_model(network, synthetic.CLASSES, **shape)) for _ in range(2))
    config = SimpleNamespace(**STUDY, seed=0)
    trainer = Trainer(model, runtime, image_size=synthetic.SIDE, settings=config, classes=synthetic.CLASSES)
    images, labels = synthetic.images(IMAGES)
    placed, rows = runtime.place(images), np.arange(STEPS * usual.BATCH)
    scorer = Scorer(still, runtime, synthetic.SIDE)  # of weights that stay: training would change what scoring meets
    half = Scorer(still, Runtime(runtime.device, torch.bfloat16), synthetic.SIDE)
    features = np.load(folder / "features.npy", mmap_mode="r")
    return {
        "step": lambda: trainer.epoch(placed, labels, rows, 1),
        "score": lambda: scorer.predict(placed, features=True),
        "half": lambda: half.predict(placed, features=True),
        "select": lambda: _select(features),
    }


def _select(features: np.ndarray) -> None:
    from al.strategies import REGISTRY, Pool

    probs = np.random.default_rng(0).dirichlet(np.full(synthetic.CLASSES, 0.3), len(features)).astype(np.float32)
    pool = Pool(np.zeros(len(features), bool), synthetic.CLASSES, probs=probs, features=features)
    REGISTRY["typiclust"].select(pool, BATCH, np.random.default_rng(0))


def prepare(folder: Path) -> None:
    """A network whose batch normalisation has seen images, and features of a whole pool."""
    import torch

    network = usual.efficientnet_b0(synthetic.CLASSES).train()
    images, _ = synthetic.images(4 * usual.BATCH)
    batches = torch.stack([usual.FOR_SCORING(image) for image in images]).split(usual.BATCH)
    with torch.no_grad():
        for _ in range(5):  # running averages move by a tenth with each batch
            for batch in batches:
                network(pixel_values=batch)
    usual.save(network, folder / "network")
    np.save(folder / "features.npy", synthetic.features(POOL - INITIAL))


Turns = dict[str, dict[str, list[Seconds]]]
"""Side -> column -> seconds, one for each turn."""


def turns(sides: dict[str, Side], repeats: int) -> Turns:
    """All sides in turn, column by column, after a warm-up of each."""
    taken: Turns = {name: {column: [] for column in COLUMNS} for name in sides}
    for repeat in range(repeats + 1):
        for column in COLUMNS:
            for name, side in sides.items():
                if column not in TOUCHES.get(name, COLUMNS) or (column == "start" and not repeat):
                    continue  # each start is a new process: there is nothing to warm up
                seconds = side.take(column)
                if repeat:
                    taken[name][column].append(seconds)
        print(f"turn {repeat} of {repeats}", file=sys.stderr, flush=True)
    return {
        name: {column: own or taken[WITH][column] for column, own in columns.items()} for name, columns in taken.items()
    }


def ratio(without: list[Seconds], with_it: list[Seconds]) -> Seconds:
    """How many times as long it takes without: the median over the turns."""
    pairs = list(zip(without, with_it, strict=True))
    return Seconds(*(statistics.median(a[kind] / b[kind] for a, b in pairs) for kind in (0, 1)))


def whole_run(columns: dict[str, list[Seconds]]) -> list[Seconds]:
    """Seconds of a typiclust run of the study's schedule from each turn's parts: extrapolated."""
    runs = []
    for step, score, select, start in zip(*(columns[name] for name in ("step", "score", "select", "start"))):
        costs = zip(step, score, select, start)
        runs.append(Seconds(*(Costs(a / STEPS, b / IMAGES, b / IMAGES, c, once=d).whole_run() for a, b, c, d in costs)))
    return runs


def table(taken: Turns) -> list[str]:
    """A line a part: times as long without it, wall and in brackets processor time."""
    titles = [*COLUMNS.values(), "whole run"]
    lines = [f"{'without':<16}" + "".join(f"{title:>21}" for title in titles)]
    for name, columns in taken.items():
        if name == WITH:
            continue
        found = [ratio(columns[column], taken[WITH][column]) for column in COLUMNS]
        found.append(ratio(whole_run(columns), whole_run(taken[WITH])))
        cells = "".join(f"{f'{r.wall:.2f}x ({r.cpu:.2f}x)':>21}" for r in found)
        verdict = "" if max(min(r) for r in found) >= WORTH else "  buys under 5 % everywhere"
        lines.append(f"{name:<16}{cells}{verdict}")
    return lines


def measurements(taken: Turns) -> list[Measurement]:
    """Rows of the CSV file: wall seconds of a turn with the part, and as `usual` without it."""
    rows = []
    for name, columns in taken.items():
        for column in COLUMNS if name != WITH else ():
            spreads = [Spread.of([turn.wall for turn in side[column]]) for side in (taken[WITH], columns)]
            conditions = f"{VARIABLE}={name if name == WITHOUT_ALL else f'-{name}'}"
            rows.append(Measurement(f"{COLUMNS[column]}, without {name}", "s", *spreads, conditions=conditions))
    return rows


def main(arguments: list[str]) -> None:
    parser = measuring.options(__doc__, "ablation", device=False)
    parser.set_defaults(repeats=5)
    here = [part for part in PARTS if TOUCHES[part]]
    parser.add_argument("--parts", default=",".join(here), help=f"comma-separated, of {', '.join(PARTS)}")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.serve)
        return
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--parts={','.join(sorted(unknown))}: no such part; use {', '.join(PARTS)}")
    values = {WITH: WITH, **{part: f"-{part}" for part in parts}, WITHOUT_ALL: WITHOUT_ALL}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        prepare(Path(name))
        sides = {side: stack.enter_context(Side(value, Path(name))) for side, value in values.items()}
        taken = turns(sides, options.repeats)
    print("\n".join(table(taken)))
    measuring.write_csv(options.csv, measurements(taken))


if __name__ == "__main__":
    main(sys.argv[1:])
