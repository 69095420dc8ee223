"""What it costs that images do not fit on the device: one run with a bound on its memory, beside one without.

python -m benchmarks.staging
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from al.runtime import MEMORY
from benchmarks import measuring, synthetic
from benchmarks.measuring import Measurement, Spread, Target
from benchmarks.runs import Finished, train
from data_prep.datasets import load_dataset

TEST = 500
RUN = {
    "dataset": "imagefolder",
    "model": "small_cnn",
    "weights": "none",
    "strategy": "margin",
    "variant": "balanced_100",
    "budget": 1000,
    "initial_min": 600,
    "initial_fraction": 0.6,
    "batch_fraction": 0.2,
    "max_epochs": 3,
}
MOST = 1.15
"""Seconds of the processor with the bound, over those without, at most."""


def both(options: argparse.Namespace) -> tuple[Finished, Finished]:
    """The run with the bound and the run without; they must pick the same.

    Raises:
        SystemExit: they do not.
    """
    with tempfile.TemporaryDirectory() as scratch:
        data = synthetic.write_folder(Path(scratch, "data"), options.images, TEST, options.side)
        load_dataset("imagefolder", data)  # decoding fills the cache, and is no part of a run
        found, picks = [], []
        for name, mib in (("bound", str(options.mib)), ("free", "")):
            environment = {**os.environ, MEMORY: mib}
            found.append(
                train(Path(scratch, name), environment=environment, data_dir=data, device=options.device, **RUN)
            )
            picks.append(json.loads((found[-1].folder / "al_tracking.json").read_text())["selected_indices"])
    if picks[0] != picks[1]:
        raise SystemExit("error: other picks with the bound than without")
    return found[0], found[1]


def measure(options: argparse.Namespace) -> list[Measurement]:
    bound, free = both(options)
    pixels = options.images * options.side**2 * 3 / 2**20
    took = [f"{run.cpu_seconds:.1f} s of CPU in {run.seconds:.1f} s" for run in (bound, free)]
    conditions = (
        f"{options.images:,} images of {options.side}x{options.side} ({pixels:,.0f} MiB), "
        f"a device of {options.mib} MiB: {took[0]}, without bound {took[1]}"
    )
    slower = Spread.of([bound.cpu_seconds / free.cpu_seconds])
    return [
        Measurement(
            "run with images beside the device, CPU time", "x", slower, target=Target("value", MOST),
            conditions=conditions, checked="the same picks", peak_mib=bound.peak_mib,
        )
    ]  # fmt: skip


def main(arguments: list[str]) -> None:
    parser = measuring.options(__doc__, "staging", repeats=False)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=96, help="in pixels")
    parser.add_argument("--mib", type=int, default=256, help="what the device pretends to have")
    options = parser.parse_args(arguments)
    measuring.report(measure(options), options.csv, options.device)


if __name__ == "__main__":
    main(sys.argv[1:])
