"""Memory of a run as its pool grows tenfold: what it takes more, beside what the images take more.

python -m benchmarks.memory
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import measuring, synthetic, usual
from benchmarks.measuring import Measurement, Spread, Target
from benchmarks.runs import train
from data_prep.datasets import load_dataset

TEST = 500
IMAGE_MIB = synthetic.SIDE**2 * 3 / 2**20
RUN = {
    "dataset": "imagefolder",
    "variant": "balanced_100",
    "budget": 400,
    "initial_min": 200,
    "batch_fraction": 0.5,
    "max_epochs": 2,
}


def peak_of_run(pool: int, strategy: str, device: str) -> float:
    """MiB at most of a run that scores the pool once and selects from it."""
    with tempfile.TemporaryDirectory() as scratch:
        network, data = Path(scratch, "network"), Path(scratch, "data")
        usual.save(usual.efficientnet_b0(synthetic.CLASSES), network)
        synthetic.write_folder(data, pool, TEST)
        load_dataset("imagefolder", data)  # decoding fills the cache, and is no part of a run
        finished = train(
            Path(scratch, "results"), **RUN, data_dir=data, model=network, strategy=strategy, device=device
        )
        return finished.peak_mib


def measure(options: argparse.Namespace) -> list[Measurement]:
    measured = []
    for strategy in options.strategies.split(","):
        small, large = (peak_of_run(pool, strategy, options.device) for pool in (options.pool, 10 * options.pool))
        images = 9 * options.pool * IMAGE_MIB
        sizes = f"pool {options.pool:,} to {10 * options.pool:,} of 32x32 ({images:.0f} MiB more)"
        conditions = f"{sizes}, EfficientNet-B0: {small:,.0f} to {large:,.0f} MiB"
        grown = Spread.of([large - small])
        measured.append(
            Measurement(
                f"memory of a {strategy} run, 10x pool: growth",
                "MiB",
                grown,
                target=Target("value", images),
                conditions=conditions,
                peak_mib=large,
            )
        )
    return measured


def main(arguments: list[str]) -> None:
    parser = measuring.options(__doc__, "memory", repeats=False)
    parser.add_argument("--pool", type=int, default=5000, help="images of the smaller pool")
    parser.add_argument("--strategies", default="uncertainty,typiclust")
    options = parser.parse_args(arguments)
    measuring.report(measure(options), options.csv, options.device)


if __name__ == "__main__":
    main(sys.argv[1:])
