"""Whether scoring in bfloat16 picks what float32 picks, with the trained network of a finished run.

python -m benchmarks.precision --run=results/<cell>/split_seed_12
"""

import argparse
import sys
from pathlib import Path

import torch

from al.config import RunConfig
from al.data import DataSet
from al.fast.convolutions import for_training
from al.learning.networks import build_model
from al.learning.scorer import Predictions, Scorer
from al.runtime import Runtime, resolve_runtime
from benchmarks import measuring
from benchmarks.measuring import Measurement, Spread, Target
from benchmarks.runs import finished_run
from benchmarks.scoring import TOP_SHARE, overlap_of_most_uncertain
from data_prep.datasets import load_dataset


def predictions(
    config: RunConfig, data: DataSet, weights: Path, dtype: torch.dtype, device: str
) -> tuple[Predictions, float]:
    """Of the training images, and the accuracy in percent on the test images."""
    runtime = Runtime(resolve_runtime(device).device, dtype)
    size, classes = config.image_size or data.train.images.shape[1], len(data.train.classes)
    model = build_model(config.model, classes, weights=str(weights), dropout=config.dropout, image_size=size, seed=0)
    model = for_training(model) if runtime.on_cpu else model.to(runtime.device)
    scorer = Scorer(model, runtime, size)
    test = scorer.predict(runtime.place(data.test.images))
    accuracy = 100 * float((test.probs.argmax(1) == data.test.labels).mean())
    return scorer.predict(runtime.place(data.train.images)), accuracy


def measure(options: argparse.Namespace) -> list[Measurement]:
    known = finished_run(options.run).read_json("config.json")["config"]
    config = RunConfig.from_mapping(known | {"data_dir": str(options.data_dir or known["data_dir"])})
    data = load_dataset(config.dataset, config.data_dir, config.image_size, split_file=config.split_file)
    weights = options.run / "best_model.safetensors"
    exact, exact_accuracy = predictions(config, data, weights, torch.float32, options.device)
    coarse, accuracy = predictions(config, data, weights, torch.bfloat16, options.device)
    overlap = 100 * overlap_of_most_uncertain(coarse.probs, exact.probs)
    conditions = f"{config.cell}, {len(data.train):,} images of the pool, {len(data.test):,} of the test set"
    what = f"most uncertain {TOP_SHARE:.0%}, bfloat16 as float32"
    return [
        Measurement(what, "%", Spread.of([overlap]), target=Target("value", 95), conditions=conditions),
        Measurement(
            "test accuracy, bfloat16 and float32",
            "%",
            Spread.of([accuracy]),
            Spread.of([exact_accuracy]),
            conditions=conditions,
        ),
    ]


def main(arguments: list[str]) -> None:
    parser = measuring.options(__doc__, "precision", repeats=False)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--data_dir", type=Path, help="where its images are; unset: where they were")
    options = parser.parse_args(arguments)
    measuring.report(measure(options), options.csv, options.device)


if __name__ == "__main__":
    main(sys.argv[1:])
