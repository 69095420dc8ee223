"""What logging a run to W&B offline costs: a finished run is logged again, as it was, and the seconds are compared.

python -m benchmarks.logging_cost --run=results/<cell>/split_seed_12
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from al.config import RunConfig
from al.storage.run_folder import RunFolder
from al.tracking.wandb import open_tracker
from benchmarks import measuring, startup
from benchmarks.measuring import Measurement, Spread
from benchmarks.runs import finished_run, train


def logged_again(folder: RunFolder) -> float:
    """Seconds that everything about a finished run takes to be logged."""
    known = folder.read_json("config.json")
    os.environ["WANDB_MODE"] = "offline"
    with tempfile.TemporaryDirectory() as scratch:
        config = RunConfig.from_mapping(known["config"] | {"results_dir": scratch})
        start = time.perf_counter()
        tracker = open_tracker(config, known["data"]["fingerprint"], None, [], print)
        for record in folder.epochs.read():
            sheet = folder.path / "plots" / "picks" / f"round_{record.round + 1:03d}.png"
            tracker.log_epoch(record, sheet if record.pick else None)
        tracker.log_end(folder.result(), known["data"]["classes"], sorted((folder.path / "plots").glob("*.png")))
        tracker.finish(0)
        return time.perf_counter() - start


def measure(options: argparse.Namespace) -> list[Measurement]:
    with tempfile.TemporaryDirectory() as scratch:
        path = options.run or train(Path(scratch), **startup.RUN, device=options.device).folder
        folder = finished_run(path)
        result = folder.result()
        logged_again(folder)
        seconds = Spread.of([logged_again(folder) for _ in range(options.repeats)])
    epochs, whole = result.total_epochs, result.training_time_seconds
    share = f", {seconds.median / whole:.1%} of its {whole:.0f} s" if options.run else ""
    conditions = f"a run of {epochs} epochs, start and end of W&B included{share}"
    return [Measurement("logging to W&B offline", "s", seconds, conditions=conditions)]


def main(arguments: list[str]) -> None:
    parser = measuring.options(__doc__, "logging_cost")
    parser.add_argument("--run", type=Path, help="folder of a finished run; unset: a short one is made")
    options = parser.parse_args(arguments)
    measuring.report(measure(options), options.csv, options.device)


if __name__ == "__main__":
    main(sys.argv[1:])
