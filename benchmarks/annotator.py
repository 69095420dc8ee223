"""An annotator who is never wrong labels CIFAR-10 through files only, beside `train.py` with the same configuration.

    python -m benchmarks.annotator --images=/data/cifar10 --features=MODEL     # minutes on two cores
    python -m benchmarks.annotator ... --coverage=100                          # and how often the interval covers

A part of the images, the same of each class, is linked into a folder: as class folders for `train.py`, and for
`python -m al` under the same paths, whose class folders say nothing as labels come by `next.csv` alone. Both have the
pool in the same order, and draw from generators of the same address (seed, number of the round, name of the stream),
so each round must pick the same images in the same order, with the same scores.

`--coverage=N` repeats N times, with other seeds: label some, propose with an audit, label, propose again. The 95 %
interval of the accuracy from the audit's images is compared with the accuracy on all images that were unlabelled when
the audit was drawn.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from labelling.commands import main as al_command
from labelling.estimates import Interval
from labelling.library import Learner
from labelling.photos import find_photos
from labelling.proposal_files import Predictions
from labelling.records import Pick, Proposal
from labelling.status import Status

ROOT = Path(__file__).resolve().parents[1]
INITIAL, K, ROUNDS, AUDIT = 100, 50, 10, 50
"""Labels before the first round, images of a round, rounds, and random images of the audit."""


def link_images(images: Path, out: Path, per_class: int, test_per_class: int) -> dict[str, str]:
    """Link the first images of each class; returns the class of each training image by its path."""
    truth = {}
    for split, count in (("train", per_class), ("test", test_per_class)):
        for folder in sorted(path for path in (images / split).iterdir() if path.is_dir()):
            (out / split / folder.name).mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.iterdir())[:count]:
                link = out / split / folder.name / path.name
                if not link.exists():
                    link.symlink_to(path.resolve())
                if split == "train":
                    truth[f"{folder.name}/{path.name}"] = folder.name
    return truth


def parameters(options: argparse.Namespace) -> dict[str, object]:
    """What both sides are given."""
    given = {"model": "frozen", "features": options.features, "strategy": options.strategy, "init": "maxherding"}
    if options.features_size:
        given["features_size"] = options.features_size
    return given | {"seed": options.seed, "split_seed": options.split_seed, "device": "cpu"}


def flags(given: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in given.items()]


def run_of_train(options: argparse.Namespace, images: Path) -> tuple[list[dict], dict[int, float]]:
    """`rounds.jsonl` of `train.py`, and its test accuracy in percent by label count."""
    total = INITIAL + K * ROUNDS
    shape = {"variant": "balanced_100", "budget": total, "initial_min": INITIAL, "initial_fraction": INITIAL / total}
    shape |= {"batch_fraction": K / total, "dataset": "imagefolder", "data_dir": images}
    results = options.out / "results"
    command = [sys.executable, "train.py", *flags(parameters(options) | shape | {"results_dir": results})]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"WANDB_MODE": "disabled"}, check=True)
    (folder,) = results.glob("*/split_seed_*")
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    epochs = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    return rounds, {epoch["labels"]: epoch["test"]["accuracy"] for epoch in epochs}


def annotate(table: Path, truth: Mapping[str, str]) -> None:
    """Fill in the column `label` of a `next.csv`, as a person does with a spreadsheet."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(row | {"label": truth[row["path"]]} for row in rows)


def label_by_files(
    options: argparse.Namespace, images: Path, truth: Mapping[str, str]
) -> Iterator[tuple[Proposal, Status]]:
    """Propose, fill in the table, accept: the commands as they are typed, round after round."""
    data, state = images / "train", _fresh(options.out / "al-labels")
    where = [f"--data={data}", f"--state={state}"]
    classes = ",".join(sorted({*truth.values()}))
    learner = Learner.open(data, state)
    for number in range(ROUNDS + 1):
        command = ["propose", *where, f"--k={K if number else INITIAL}", f"--classes={classes}"]
        _typed([*command, *flags(parameters(options))])
        folder = learner.project.folder_of(number)
        yield learner.project.proposal(folder), learner.status()
        annotate(folder / "next.csv", truth)
        _typed(["accept", str(folder / "next.csv"), *where])


def _fresh(state: Path) -> Path:
    """Forget all labels and proposals; the cache stays."""
    shutil.rmtree(state / "proposals", ignore_errors=True)
    for name in ("labels.jsonl", "audit.json", "project.json"):
        (state / name).unlink(missing_ok=True)
    return state


def _typed(arguments: Sequence[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        if code := al_command(arguments):
            raise SystemExit(f"error: python -m al {' '.join(arguments)} ended with {code}")


def compare(options: argparse.Namespace, images: Path, truth: Mapping[str, str]) -> bool:
    """Both sides, round by round; whether every pick is the same."""
    rounds, accuracy = run_of_train(options, images)
    print(f"{'round':>5} {'labels':>6} {'same picks':>10} {'test accuracy %':>15} {'kappa':>6}  advice")
    same_all = True
    for expected, (proposal, status) in zip(rounds, label_by_files(options, images, truth)):
        found, wanted = [f"train/{pick.path}" for pick in proposal.picks], expected["paths"]
        if proposal.round == 0:  # a run writes its first labels down in the order of rows
            found = sorted(found)
        same = sum(a == b for a, b in zip(found, wanted))
        same_all &= found == wanted
        kappa = f"{status.agreement[-1].kappa:.3f}" if status.agreement else "-"
        advice = "stop" if status.stop else "go on" if status.agreement else "-"
        known = accuracy.get(proposal.trained_on, float("nan"))
        counts = f"{proposal.round:5d} {proposal.trained_on:6d} {same:5d}/{len(wanted):<4d}"
        print(f"{counts} {known:15.2f} {kappa:>6}  {advice}", flush=True)
    return same_all


def coverage(options: argparse.Namespace, images: Path, truth: Mapping[str, str]) -> list[tuple[Interval, float]]:
    """The audit's intervals of the model at hand and of the one after it, with the truth, for each seed."""
    data, state = images / "train", options.out / "al-labels"
    found = []
    for seed in range(options.coverage):
        _fresh(state)
        given = parameters(options) | {"init": "random", "seed": seed, "split_seed": seed}
        learner = Learner.open(data, state, **given)
        first = learner.propose(INITIAL, classes=sorted({*truth.values()}))
        learnt = {pick.sha256: truth[pick.path] for pick in first}
        _answer(learner, first, truth)
        second = learner.propose(K, audit=AUDIT)
        _answer(learner, second, truth)
        learner.propose(K)
        for point in learner.status().curve:
            found.append((point.accuracy, true_accuracy(learner, point.round, learnt, truth)))
        print(f"\rseed {seed + 1} of {options.coverage}", end="", flush=True)
    print()
    return found


def _answer(learner: Learner, picks: Sequence[Pick], truth: Mapping[str, str]) -> None:
    learner.accept({pick.path: truth[pick.path] for pick in picks})


def true_accuracy(learner: Learner, number: int, learnt: Mapping[str, str], truth: Mapping[str, str]) -> float:
    """Percent that the model of a round gets right, of all that was unlabelled when the audit was drawn.

    But for the few images of the round in between, which the second model has learnt from.
    """
    folder = learner.project.folder_of(number)
    predicted, classes = Predictions.read(folder).by_image(), learner.project.proposal(folder).classes
    known = {event.sha256 for event in learner.project.answers() if not event.audit} | learnt.keys()
    paths = {photo.sha256: photo.path for photo in find_photos(learner.project.data, learner.project.cache).photos}
    right = [classes[guess] == truth[paths[digest]] for digest, guess in predicted.items() if digest not in known]
    return 100 * float(np.mean(right))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.annotator", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="holds {train,test}/<class>/*, CIFAR-10 as files")
    parser.add_argument("--features", required=True, help="a model of the Hugging Face Hub or its folder")
    parser.add_argument("--features-size", type=int, help="side in pixels that it sees")
    parser.add_argument("--strategy", default="margin")
    parser.add_argument("--per-class", type=int, default=500, help="training images of each class [500]")
    parser.add_argument("--test-per-class", type=int, default=200, help="test images of each class [200]")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--split-seed", type=int, default=12)
    parser.add_argument("--coverage", type=int, default=0, metavar="N", help="seeds that the interval is checked for")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/annotator"), help="folder of all files")
    options = parser.parse_args(arguments)
    os.environ["WANDB_MODE"] = "disabled"
    options.out, images = options.out.resolve(), options.out.resolve() / "images"
    truth = link_images(options.images, images, options.per_class, options.test_per_class)
    if options.coverage:
        found = coverage(options, images, truth)
        enough = True
        for name, part in (("the model that was audited", found[::2]), ("the next model", found[1::2])):
            covered = sum(interval.low <= real <= interval.high for interval, real in part)
            bias = np.mean([interval.value - real for interval, real in part])
            print(
                f"{name}: {covered} of {len(part)} intervals cover; estimate minus truth {bias:+.2f} points on average"
            )
            enough &= covered >= 0.9 * len(part)
        return int(not enough)
    same = compare(options, images, truth)
    print("pick for pick the same" if same else "DIFFERENT PICKS")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
