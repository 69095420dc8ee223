"""Synthetic results in exactly the format of train.py, with known effects: the oracle of the report's tests.

A run's accuracy follows `ceiling - span * exp(-labels / scale)`; a strategy shifts it by a known number of points, each
split seed by an offset that all strategies share (which pairing removes), each epoch by noise. Nothing is trained.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from al.config import RunConfig

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SEEDS = (12, 34, 56, 78, 90)
EFFECTS = {"stratified": 0.0, "random": 0.0, "uncertainty": 4.0, "margin": 4.0, "typiclust": 4.0}
"""Points of accuracy by which a strategy's curve lies above random's, unless told otherwise; a function of the share of
the budget that is spent where they change along the curve."""
SLOWNESS = {"stratified": 1.0, "random": 0.8, "uncertainty": 1.0, "margin": 1.0, "typiclust": 1.5}


class World:
    """Where the numbers come from; every knob is an effect that the report should find."""

    def __init__(
        self,
        classes=CIFAR,
        train=50_000,
        test=10_000,
        effects=None,
        noise=0.3,
        seed_spread=1.0,
        clip_cost=0.0,
        weight_gain=0.0,
        baseline_bonus=0.0,
        slowness=None,
        fingerprint="f" * 64,
        device="cpu",
        threads=2,
        not_repeatable=None,
        sources=None,
        loss_penalty=0.0,
        embedding=None,
    ):
        self.classes, self.train, self.test = tuple(classes), train, test
        self.effects = EFFECTS | (effects or {})
        self.slowness = SLOWNESS | (slowness or {})
        self.noise, self.seed_spread = noise, seed_spread
        self.clip_cost, self.weight_gain, self.baseline_bonus = clip_cost, weight_gain, baseline_bonus
        self.fingerprint, self.device, self.threads = fingerprint, device, threads
        self.not_repeatable = not_repeatable
        self.sources = sources or {}
        self.loss_penalty = loss_penalty
        self.embedding = embedding
        """Seconds that computing the embeddings took; None: records of before it was timed."""

    def truth(self, config: RunConfig, labels: float) -> float:
        """Accuracy in percent without seed offset and noise."""
        base = 80 - 50 * np.exp(-labels * 12.5 / self.train)
        effect = self.effects.get(config.strategy, 0.0)
        base += effect(labels / self.size(config)) if callable(effect) else effect
        base += self.weight_gain * config.class_weights
        base -= self.clip_cost * (config.init == "clip")
        if config.strategy == "stratified":
            base += self.baseline_bonus
            base -= 0.0 if config.shares.balanced else 6.0
        return float(base)

    def offset(self, split_seed: int) -> float:
        return float(np.random.default_rng(split_seed).normal(0, self.seed_spread))

    def size(self, config: RunConfig) -> int:
        per_class = self.train // len(self.classes)
        minority = 0 if config.shares.balanced else 2
        majority = len(self.classes) - minority
        return round(per_class * (config.shares.majority * majority + config.shares.minority * minority) / 100)

    def rng(self, config: RunConfig) -> np.random.Generator:
        return np.random.default_rng(int(config.digest()[:12], 16))


def write_run(root: Path, config: RunConfig, world: World, *, complete=True, tail=8) -> Path:
    """Writes one run's folder and returns it; `complete=False` leaves out performance_metrics.json."""
    folder = root / config.cell / f"split_seed_{config.split_seed}"
    folder.mkdir(parents=True)
    rng = world.rng(config)
    data = {
        "name": config.dataset,
        "fingerprint": world.fingerprint,
        "train": world.train,
        "test": world.test,
        "classes": list(world.classes),
    }
    head = {"config": config.model_dump(mode="json"), "digest": config.digest(), "cell": config.cell, "data": data}
    head["sources"] = {name: digest for name, digest in world.sources.items() if name in _reads(config)}
    _dump(folder / "config.json", {**head, "wandb_run_id": config.digest()[:8]})
    epochs, rounds = _history(config, world, rng, tail)
    _lines(folder / "epochs.jsonl", epochs)
    _lines(folder / "rounds.jsonl", rounds)
    if complete:
        _dump(folder / "performance_metrics.json", _metrics(config, world, rng, epochs, rounds) | {"data": data})
    return folder


def _reads(config: RunConfig) -> set[str]:
    return {"model", "weights"} | ({"features"} if config.uses_embeddings else set())


def write_cells(root: Path, world: World, strategies, seeds=SEEDS, **parameters: Any) -> list[RunConfig]:
    """A run for every strategy and split seed."""
    configs = [RunConfig(strategy=strategy, split_seed=seed, **parameters) for strategy in strategies for seed in seeds]
    for config in configs:
        write_run(root, config, world)
    return configs


def write_study(root: Path, world: World, seeds=SEEDS) -> list[RunConfig]:
    """The 44 configurations of the study."""
    three = ("uncertainty", "margin", "typiclust")
    made = []
    for percent in (75, 50, 10, 5, 3, 1):
        strategies = ("stratified",) if percent > 10 else ("stratified", *three)
        made += write_cells(root, world, strategies, seeds, variant=f"balanced_{percent}")
    for percent in (10, 3):
        made += write_cells(root, world, three, seeds, variant=f"balanced_{percent}", init="clip")
    for variant in ("imbalanced_50_1", "imbalanced_10_1", "imbalanced_3_1"):
        for weights in (False, True)[: 1 if variant == "imbalanced_50_1" else 2]:
            common = {"variant": variant, "class_weights": weights}
            made += write_cells(root, world, ("stratified",), seeds, **common)
            made += write_cells(root, world, three, seeds, stop="baseline", **common)
    return made


def schedule(config: RunConfig, world: World) -> list[int]:
    """Label counts by round."""
    size = world.size(config)
    if config.strategy == "stratified":
        return [size]
    budget = config.budget or size
    first = max(round(config.initial_fraction * budget), config.initial_min)
    step = max(1, round(config.batch_fraction * budget))
    return [*range(first, budget, step), budget]


def _history(config, world, rng, tail):
    counts = schedule(config, world)
    offset = world.offset(config.split_seed)
    start = np.random.default_rng(config.split_seed + (10_000 if config.init == "clip" else 0))
    order = start.permutation(world.train)[: counts[0]]
    rest = rng.permutation(np.setdiff1d(np.arange(world.train), order))
    rows = np.concatenate([order, rest[: counts[-1] - counts[0]]])
    free = counts[0] if config.init == "clip" and config.strategy != "stratified" else 0
    rounds = [_round(config, world, rng, 0, 0, rows[: counts[0]], counts[0], free)]
    epochs = []
    beaten = _baseline_accuracy(config, world) if config.stop == "baseline" else np.inf
    for number, labels in enumerate(counts):
        truth = world.truth(config, labels) + offset
        for _ in range(1 if number < len(counts) - 1 else tail):
            epochs.append(_epoch(config, world, rng, len(epochs) + 1, number, labels, free, truth, len(counts) - 1))
        if epochs[-1]["test"]["accuracy"] > beaten and not world.loss_penalty:
            break
        if number + 1 < len(counts):
            new = rows[labels : counts[number + 1]]
            rounds.append(_round(config, world, rng, number + 1, len(epochs), new, counts[number + 1], 0))
    best = min(epochs, key=lambda row: row["val"]["loss"])
    best["best"] = True
    return epochs, rounds


def _baseline_accuracy(config, world) -> float:
    """The test accuracy that `write_run` gives the baseline of this run."""
    baseline = config.baseline_of()
    epochs, _ = _history(baseline, world, world.rng(baseline), 8)
    return next(row["test"]["accuracy"] for row in epochs if row["best"])


def _beats_baseline(config, world, last) -> bool:
    return last["test"]["accuracy"] > _baseline_accuracy(config, world) and not world.loss_penalty


def _epoch(config, world, rng, number, round_, labels, free, truth, last):
    accuracy = float(np.clip(truth + rng.normal(0, world.noise), 0, 100))
    acquires = round_ < last
    slow = world.slowness.get(config.strategy, 1.0)
    train_s = labels / 500 * slow
    seconds = {"train": train_s, "evaluate": 1.0, "score": 2.0 * acquires * slow, "select": 0.5 * acquires * slow}
    seconds["cluster"] = 0.4 * acquires * slow if config.strategy == "typiclust" else 0.0
    seconds["round"] = sum(seconds[name] for name in ("train", "evaluate", "score", "select"))
    if world.embedding is not None:
        seconds["embed"] = world.embedding if number == 1 else 0.0
    fraction = accuracy / 100
    group = {
        "loss": 3 - 2.5 * fraction + world.loss_penalty * (config.strategy != "stratified"),
        "accuracy": accuracy,
        "precision": fraction,
        "recall": fraction,
        "f1-score": fraction - 0.01,
        "balanced_accuracy": accuracy,
    }
    return {
        "epoch": number,
        "round": round_,
        "labels": labels,
        "human_labels": labels - free,
        "free_labels": free,
        "wrong_labels": 0,
        "wrong_labels_by_class": dict.fromkeys(world.classes, 0),
        "train_size": labels - round(0.15 * labels),
        "val_size": round(0.15 * labels),
        "pool_size": world.train - labels,
        "lr": 0.001 * 0.5 ** (number // 6),
        "train": {**group, "accuracy": min(99.9, accuracy + 20)},
        "val": {**group, "ece": 0.05},
        "test": {**group, "ece": 0.08},
        "per_class": {
            name: {"precision": fraction, "recall": fraction, "f1-score": fraction, "accuracy": accuracy}
            for name in world.classes
        },
        "labels_by_class": {name: labels // len(world.classes) for name in world.classes},
        "seconds": seconds,
        "pick": {"mean_score": 0.5, "class_entropy": 0.9, "duplicates": 0} if acquires else None,
        "curve": {"accuracy": accuracy, "loss": group["loss"], "f1-score": fraction} if acquires else None,
        "best": False,
        "time": 1.7e9 + number,
    }


def _round(config, world, rng, number, epoch, rows, labels, free):
    # Cats and dogs are picked more often than the rest, so that the class mix has something to show.
    weights = np.ones(len(world.classes))
    if number and config.strategy not in ("random", "stratified"):
        weights[min(3, len(weights) - 1)] = 2.5
    true = rng.choice(len(world.classes), len(rows), p=weights / weights.sum())
    wrong = rng.random(len(rows)) < (0.125 if free else 0.0)
    predicted = np.where(wrong, (true + 1) % len(world.classes), true)
    return {
        "round": number,
        "epoch": epoch,
        "labels": labels,
        "human_labels": labels - free,
        "free_labels": free,
        "rows": rows.tolist(),
        "scores": rng.random(len(rows)).round(4).tolist() if number else [None] * len(rows),
        "true": true.tolist(),
        "predicted": predicted.tolist() if number or free else [None] * len(rows),
        "labels_by_class": dict(zip(world.classes, np.bincount(true, minlength=len(world.classes)).tolist())),
        "wrong_labels": int(wrong.sum()) if free else 0,
        "seconds": {"score": 2.0, "select": 0.5, "cluster": 0.0},
    }


def _metrics(config, world, rng, epochs, rounds):
    best = next(row for row in epochs if row["best"])
    last = epochs[-1]
    groups = {name: _group(world, rng, best[name]) for name in ("train", "val", "test")}
    seconds = {name: sum(row["seconds"][name] for row in epochs) for name in last["seconds"]}
    return {
        "training_metrics_for_best_epoch": groups["train"],
        "validation_metrics_for_best_epoch": groups["val"],
        "test_metrics": groups["test"],
        "best_epoch": best["epoch"],
        "training_time_seconds": seconds["round"],
        "total_epochs": len(epochs),
        "labels_used": last["labels"],
        "human_labels_used": last["human_labels"],
        "wrong_labels_used": last["wrong_labels"],
        "reached_baseline": None if config.stop == "budget" else _beats_baseline(config, world, last),
        "baseline": None,
        "seconds": seconds,
        "peak_memory_mb": 900.0,
        "config": config.model_dump(mode="json"),
        "digest": config.digest(),
        "environment": {
            "python": "3.11",
            "torch": "2",
            "device": world.device,
            "threads": world.threads,
            **({} if world.not_repeatable is None else {"not_repeatable": world.not_repeatable}),
            "git_commit": "0" * 40,
        },
    }


def _group(world, rng, metrics):
    count = len(world.classes)
    per = world.test // count
    accuracies = np.clip(metrics["accuracy"] + np.linspace(-8, 8, count), 0, 100)
    confusion = np.zeros((count, count), int)
    for index, accuracy in enumerate(accuracies):
        right = round(per * accuracy / 100)
        wrong = np.full(count - 1, 1 / (count - 1))
        confusion[index, index] = right
        confusion[index, np.arange(count) != index] = rng.multinomial(per - right, wrong)
    return {
        **metrics,
        "per_class": {
            name: {
                "precision": accuracy / 100,
                "recall": accuracy / 100,
                "f1-score": accuracy / 100,
                "accuracy": 100 - 2 * (100 - accuracy) / count,  # one against the rest: right and wrong of all classes
                "support": per,
            }
            for name, accuracy in zip(world.classes, accuracies.tolist())
        },
        "confusion_matrix": confusion.tolist(),
        "calibration": _calibration(int(confusion.sum()), int(np.trace(confusion)), sure=metrics["accuracy"] / 100),
    }


def _calibration(images, right, sure):
    """Two bins: a quarter of the images 30 % sure, the others as sure as the rest of the accuracy says."""
    few = images // 4
    right_few = min(round(0.3 * few), right)
    counts, rights, means = [0] * 15, [0] * 15, [0.0] * 15
    counts[4], rights[4], means[4] = few, right_few, 0.3
    counts[13], rights[13], means[13] = images - few, right - right_few, max(0.88, min(0.93, sure))
    return {"images": counts, "right": rights, "confidence": means}


def _dump(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def _lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_pool_map(root: Path, world: World) -> None:
    """Writes a map of the world's images as `python -m data_prep map` does, a place each at random."""
    rng = np.random.default_rng(1)
    rows = np.arange(0, world.train, max(1, world.train // 50))
    (root / "maps").mkdir(parents=True)
    np.savez(
        root / "maps" / f"{world.fingerprint[:32]}.npz",
        points=rng.random((world.train, 2)).astype(np.float32),
        labels=rng.integers(0, len(world.classes), world.train),
        rows=rows,
        pictures=rng.integers(0, 255, (len(rows), 16, 16, 3), dtype=np.uint8),
        paths=np.array([f"train/{row:05d}" for row in rows]),
        source=np.array("pixels"),
    )
