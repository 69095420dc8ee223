"""From the command to the first epoch on record: a run on digits.

python -m benchmarks.startup
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import measuring
from benchmarks.measuring import Measurement, Spread, Target
from benchmarks.runs import train

RUN = {
    "dataset": "digits",
    "model": "small_cnn",
    "weights": "none",
    "variant": "balanced_50",
    "budget": 300,
    "batch_fraction": 0.5,
    "max_epochs": 3,
}


def first_epoch(device: str) -> float:
    with tempfile.TemporaryDirectory() as results:
        return train(Path(results), **RUN, device=device).first_epoch


def measure(options: argparse.Namespace) -> list[Measurement]:
    first_epoch(options.device)
    seconds = Spread.of([first_epoch(options.device) for _ in range(options.repeats)])
    conditions = "digits, small_cnn, 150 labels; files in the page cache; W&B disabled"
    return [Measurement("start-up to first epoch", "s", seconds, target=Target("value", 6, 3), conditions=conditions)]


def main(arguments: list[str]) -> None:
    options = measuring.options(__doc__, "startup").parse_args(arguments)
    measuring.report(measure(options), options.csv, options.device)


if __name__ == "__main__":
    main(sys.argv[1:])
