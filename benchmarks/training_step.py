"""A training step of 32 augmented images: batches warped on the device against PIL transforms in a DataLoader.

python -m benchmarks.training_step
"""

import argparse
import sys
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from torch.utils.data import DataLoader

from al.learning.scorer import to_input
from al.learning.trainer import Trainer
from benchmarks import measuring, synthetic, usual
from benchmarks.measuring import Measurement, Target, in_turn
from benchmarks.sides import Sides, both_sides, without_dropout

TOLERANCE = 1e-3
STUDY = {"lr": 0.001, "weight_decay": 0.001, "batch_size": usual.BATCH, "augment": True, "class_weights": False}


def check(sides: Sides, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """One batch without augmentation and dropout: loss and gradient of both sides.

    Raises:
        SystemExit: they differ.
    """
    ours, theirs = (without_dropout(side).train() for side in (sides.ours, sides.theirs))
    batch, targets = sides.runtime.place(images), sides.runtime.place(labels)
    plain = torch.stack([usual.FOR_SCORING(image) for image in images]).to(sides.device)
    losses = [
        F.cross_entropy(ours(to_input(batch, synthetic.SIDE))[0], targets),
        F.cross_entropy(theirs(pixel_values=plain).logits, targets),
    ]
    for loss in losses:
        loss.backward()
    norms = [float(sum(p.grad.square().sum() for p in side.parameters()).sqrt()) for side in (ours, theirs)]
    apart = [abs(a / b - 1) for a, b in ([loss.item() for loss in losses], norms)]
    if max(apart) > TOLERANCE:
        raise SystemExit(f"error: loss and gradient differ by {apart} of theirs, over {TOLERANCE}")
    return f"loss of one batch within {apart[0]:.0e}, length of its gradient within {apart[1]:.0e}"


def measure(options: argparse.Namespace) -> list[Measurement]:
    sides = both_sides(options.device)
    images, labels = synthetic.images(usual.BATCH * options.steps)
    checked = check(sides, images[: usual.BATCH], labels[: usual.BATCH])
    dataset, optimiser = usual.Images(images, labels, usual.FOR_TRAINING), usual.new_optimiser(sides.theirs)

    def their_epoch(batches: DataLoader) -> float:
        return usual.train_epoch(sides.theirs, optimiser, batches, sides.device)

    workers = usual.best_workers(dataset, their_epoch, shuffle=True)
    batches = usual.loader(dataset, workers, shuffle=True)
    config = SimpleNamespace(**STUDY, seed=0)
    trainer = Trainer(sides.ours, sides.runtime, image_size=synthetic.SIDE, settings=config, classes=synthetic.CLASSES)
    placed, rows = sides.runtime.place(images), np.arange(len(images))
    seconds = in_turn(
        {
            "ours": lambda: trainer.epoch(placed, labels, rows, 1),
            "usual": lambda: their_epoch(batches),
        },
        options.repeats,
    )
    rates = {name: spread.rate(len(images)) for name, spread in seconds.items()}
    conditions = f"batches of {usual.BATCH}, {options.steps} steps, float32, usual: {workers} workers"
    target = Target("ratio", 2.5, 4)
    return [
        Measurement("training step, augmented", "images/s", rates["ours"], rates["usual"], target, conditions, checked)
    ]


def main(arguments: list[str]) -> None:
    parser = measuring.options(__doc__, "training_step")
    parser.add_argument("--steps", type=int, default=20, help="in an epoch that is timed")
    options = parser.parse_args(arguments)
    measuring.report(measure(options), options.csv, options.device)


if __name__ == "__main__":
    main(sys.argv[1:])
