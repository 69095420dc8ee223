"""The files of a finished run: all there, and consistent with each other and with the study's schedule."""

import json
import re
import shlex
import subprocess
import sys

import launch
import numpy as np
import pytest
import runs
import torch
from PIL import Image
from safetensors.torch import load_file

from al.records import PHASES

SPLITS = ("train", "val", "test")
HEADLINE = {"loss", "accuracy", "precision", "recall", "f1-score", "balanced_accuracy"}
GROUPS = {
    "train": "training_metrics_for_best_epoch",
    "val": "validation_metrics_for_best_epoch",
    "test": "test_metrics",
}
AVERAGED = (
    "averaged_training_metrics_for_best_epochs",
    "averaged_validation_metrics_for_best_epochs",
    "averaged_test_metrics",
)
DIGITS_TRAIN, DIGITS_TEST = 1258, 539


class Files:
    """The parsed files of one run folder."""

    def __init__(self, folder):
        self.folder = folder
        self.config = runs.read_json(folder / "config.json")
        self.epochs = runs.read_lines(folder / "epochs.jsonl")
        self.rounds = runs.read_lines(folder / "rounds.jsonl")
        self.tracking = runs.read_json(folder / "al_tracking.json")
        self.metrics = runs.read_json(folder / "performance_metrics.json")

    @property
    def picks(self):
        return [row for entry in self.rounds[1:] for row in entry["rows"]]

    @property
    def label_counts(self):
        return [entry["labels"] for entry in self.rounds]


@pytest.fixture(scope="module")
def files(offline_run):
    return Files(offline_run.folder)


@pytest.fixture(scope="session")
def seeds_of_a_cell(once, launcher):
    """Results folder with three complete split seeds of one cell, drawn pictures included."""

    def make(folder):
        for seed in (12, 34, 56):
            outcome = launcher.run(launch.small(folder, split_seed=seed, strategy="typiclust"), draw=seed == 56)
            assert outcome.code == 0, outcome.stderr

    return once("seeds_of_a_cell", make)


def run_of(launcher, results, **changed):
    outcome = launcher.run(launch.small(results, **changed))
    assert outcome.code == 0, outcome.stderr
    return Files(runs.only_run(results))


class TestFolder:
    def test_has_every_file_and_no_other(self, files):
        plots = {f"plots/{name}_over_epochs.png" for name in ("accuracy", "loss", "precision", "recall", "f1-score")}
        plots |= {f"plots/confusion_matrix_{name}.png" for name in ("training", "validation", "test")}
        plots |= {f"plots/picks/round_{number:03d}.png" for number in (1, 2, 3)}
        expected = {"config.json", "epochs.jsonl", "rounds.jsonl", "al_tracking.json", "performance_metrics.json"}
        expected |= {"best_model.safetensors", ".lock"} | plots
        found = runs.files(files.folder)
        assert expected <= found
        assert all(re.fullmatch(r"plots/\w+\.png", name) for name in found - expected)

    def test_pictures_can_be_opened(self, files):
        for path in files.folder.rglob("*.png"):
            with Image.open(path) as picture:
                picture.load()
                assert min(picture.size) > 60, path
                assert len(set(picture.convert("L").tobytes())) > 3, f"{path} is empty"

    def test_json_is_strict(self, files):
        def refuse(constant):
            raise AssertionError(f"{constant} is not JSON")

        for path in [*files.folder.glob("*.json"), *files.folder.glob("*.jsonl")]:
            for line in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
                json.loads(line, parse_constant=refuse)


class TestConfig:
    def test_says_what_was_run_on_what(self, files):
        from al.config import RunConfig

        config = RunConfig(**files.config["config"])
        assert files.config["digest"] == files.metrics["digest"] == config.digest()
        assert files.config["cell"] == config.cell == files.folder.parent.name
        assert files.metrics["config"] == files.config["config"]
        data = files.config["data"]
        assert (data["name"], data["train"], data["test"]) == ("digits", DIGITS_TRAIN, DIGITS_TEST)
        assert data["classes"] == list("0123456789")
        assert files.metrics["data"] == data


class TestEpochs:
    def test_are_numbered_and_complete(self, files):
        assert [row["epoch"] for row in files.epochs] == list(range(1, 9))
        for row in files.epochs:
            for split in SPLITS:
                assert set(row[split]) == HEADLINE | ({"ece"} if split != "train" else set())
            assert set(row["per_class"]) == set(row["labels_by_class"]) == set("0123456789")
            assert set(row["seconds"]) == set(PHASES)

    def test_one_epoch_a_round_while_labels_come_in(self, files):
        assert [row["round"] for row in files.epochs] == [0, 1, 2, 3, 3, 3, 3, 3]
        assert [row["labels"] for row in files.epochs] == [30, 42, 54, 60, 60, 60, 60, 60]

    def test_counts_add_up(self, files):
        for row in files.epochs:
            assert row["train_size"] + row["val_size"] == row["labels"] == row["human_labels"]
            assert sum(row["labels_by_class"].values()) == row["labels"]
            assert row["pool_size"] + row["labels"] == DIGITS_TRAIN
            assert row["val_size"] == pytest.approx(0.15 * row["labels"], abs=1)

    def test_metrics_are_in_their_units(self, files):
        for row in files.epochs:
            for split in SPLITS:
                for name in ("precision", "recall", "f1-score"):
                    assert 0 <= row[split][name] <= 1
                assert 0 <= row[split]["accuracy"] <= 100
                assert row[split]["accuracy"] == 0 or row[split]["accuracy"] > 1  # percent
            assert (row["test"]["accuracy"] / 100 * DIGITS_TEST) == pytest.approx(
                round(row["test"]["accuracy"] / 100 * DIGITS_TEST)
            )

    def test_seconds_of_the_phases_fit_into_the_round(self, files):
        for row in files.epochs:
            seconds = row["seconds"]
            assert all(value >= 0 for value in seconds.values())
            assert sum(seconds[name] for name in ("train", "evaluate", "score", "select")) <= seconds["round"]
            acquired = row["round"] < 3
            assert (seconds["score"] > 0) is (seconds["select"] > 0) is acquired

    def test_picks_are_summed_up_in_the_epoch_before_them(self, files):
        assert [row["pick"] is not None for row in files.epochs] == [True] * 3 + [False] * 5
        for row, entry in zip(files.epochs, files.rounds[1:]):
            assert row["pick"]["mean_score"] == pytest.approx(np.mean(entry["scores"]))
            assert row["pick"]["duplicates"] == 0
            assert 0 <= row["pick"]["class_entropy"] <= 1

    def test_best_marks_each_new_lowest_validation_loss(self, files):
        last = [row for row in files.epochs if row["round"] == 3]
        best = np.inf
        for row in last:
            assert row["best"] is (row["val"]["loss"] < best - 0.005)
            best = row["val"]["loss"] if row["best"] else best


class TestRounds:
    def test_follow_the_schedule(self, files):
        assert [entry["round"] for entry in files.rounds] == [0, 1, 2, 3]
        assert [entry["epoch"] for entry in files.rounds] == [0, 1, 2, 3]
        assert [len(entry["rows"]) for entry in files.rounds] == [30, 12, 12, 6]

    def test_no_row_twice_and_none_outside(self, files):
        rows = [row for entry in files.rounds for row in entry["rows"]]
        assert len(rows) == len(set(rows)) == 60
        assert 0 <= min(rows) <= max(rows) < DIGITS_TRAIN

    def test_true_classes_are_those_of_the_data(self, files):
        from data_prep.datasets import load_dataset

        labels = load_dataset("digits", "data").train.labels
        for entry in files.rounds:
            assert entry["true"] == labels[entry["rows"]].tolist()
        counts = np.bincount(labels[[row for entry in files.rounds for row in entry["rows"]]], minlength=10)
        assert files.rounds[-1]["labels_by_class"] == dict(zip("0123456789", counts.tolist()))

    def test_initial_pool_is_stratified(self, files):
        assert np.bincount(files.rounds[0]["true"]).tolist() == [3] * 10
        assert files.rounds[0]["scores"] == files.rounds[0]["predicted"] == [None] * 30

    def test_the_most_uncertain_come_first(self, files):
        for entry in files.rounds[1:]:
            assert entry["scores"] == sorted(entry["scores"], reverse=True)
            assert all(0 <= score <= 0.9 + 1e-6 for score in entry["scores"])
            assert all(0 <= label < 10 for label in entry["predicted"])

    def test_labels_are_people_s_and_right(self, files):
        assert all(entry["free_labels"] == entry["wrong_labels"] == 0 for entry in files.rounds)


class TestTracking:
    def test_has_the_studys_keys(self, files):
        expected = {
            "strategy",
            "budget",
            "initial_labeled_size",
            "acquisition_batch_size",
            "acquisition_batch_sizes",
            "selected_indices",
            "rounds",
        }
        assert set(files.tracking) == expected
        assert files.tracking["strategy"] == "uncertainty"
        assert files.tracking["budget"] == 60
        assert files.tracking["initial_labeled_size"] == 30
        assert files.tracking["acquisition_batch_size"] == 12

    def test_selected_indices_are_in_the_order_of_acquisition(self, files):
        assert files.tracking["selected_indices"] == files.picks
        assert files.tracking["rounds"] == files.rounds


class TestMetrics:
    def test_has_every_key(self, files):
        expected = {*GROUPS.values(), "best_epoch", "training_time_seconds", "total_epochs", "labels_used"}
        expected |= {"human_labels_used", "reached_baseline", "baseline", "seconds", "peak_memory_mb", "config"}
        expected |= {"digest", "data", "environment"}
        assert expected <= set(files.metrics)
        environment = files.metrics["environment"]
        assert {"python", "torch", "device", "threads", "git_commit"} <= set(environment)
        assert environment["torch"] == torch.__version__.partition("+")[0]
        assert environment["not_repeatable"] == []

    def test_are_those_of_the_best_epoch(self, files):
        best = files.epochs[files.metrics["best_epoch"] - 1]
        assert best["best"]
        for split, group in GROUPS.items():
            found = files.metrics[group]
            for name, value in best[split].items():
                assert found[name] == pytest.approx(value), (split, name)
        converging = [row for row in files.epochs if row["round"] == 3 and row["best"]]
        assert converging[-1] == best

    @pytest.mark.parametrize("split", SPLITS)
    def test_follow_from_the_confusion_matrix(self, files, split):
        group = files.metrics[GROUPS[split]]
        best = files.epochs[files.metrics["best_epoch"] - 1]
        confusion = np.array(group["confusion_matrix"])
        assert confusion.sum() == {"train": best["train_size"], "val": best["val_size"], "test": DIGITS_TEST}[split]
        assert group["accuracy"] == pytest.approx(100 * np.trace(confusion) / confusion.sum())
        for index, name in enumerate("0123456789"):
            each = group["per_class"][name]
            assert each["support"] == confusion[index].sum()
            assert each["recall"] == pytest.approx(confusion[index, index] / max(confusion[index].sum(), 1))
        seen = confusion.sum(0) + confusion.sum(1) > 0
        for name in ("precision", "recall", "f1-score"):
            each = np.array([values[name] for values in group["per_class"].values()])
            assert group[name] == pytest.approx(each[seen].mean())

    def test_the_calibration_error_follows_from_its_bins(self, files):
        assert "calibration" not in files.metrics[GROUPS["train"]]  # training keeps no probabilities
        for split in ("val", "test"):
            group = files.metrics[GROUPS[split]]
            bins = {name: np.array(values) for name, values in group["calibration"].items()}
            assert bins["images"].sum() == np.sum(group["confusion_matrix"])
            assert bins["right"].sum() == np.trace(group["confusion_matrix"])
            gaps = np.abs(bins["right"] - bins["images"] * bins["confidence"])
            assert group["ece"] == pytest.approx(gaps.sum() / bins["images"].sum())

    def test_totals(self, files):
        assert files.metrics["total_epochs"] == 8
        assert files.metrics["labels_used"] == files.metrics["human_labels_used"] == 60
        assert files.metrics["reached_baseline"] is files.metrics["baseline"] is None
        for name, total in files.metrics["seconds"].items():
            epochs = sum(row["seconds"][name] for row in files.epochs)
            if name in ("checkpoint", "tracking", "pictures", "round"):  # these go on after the last epoch's line
                assert total >= epochs
            else:
                assert total == pytest.approx(epochs)
        assert files.metrics["seconds"]["checkpoint"] > 0
        assert files.metrics["seconds"]["pictures"] > 0
        assert files.metrics["training_time_seconds"] == pytest.approx(files.metrics["seconds"]["round"])
        assert 100 < files.metrics["peak_memory_mb"] < 4000

    def test_best_model_gives_the_test_metrics_again(self, files):
        from al.learning.networks import build_model
        from al.learning.scorer import Scorer
        from al.runtime import resolve_runtime
        from data_prep.datasets import load_dataset

        path = files.folder / "best_model.safetensors"
        model = build_model("small_cnn", 10, weights=str(path), dropout=0.0, image_size=32, seed=0)
        assert set(load_file(path)) == set(model.state_dict())
        test = load_dataset("digits", "data").test
        found = Scorer(model, resolve_runtime("cpu", "float32"), 32).predict(
            torch.tensor(test.images), labels=test.labels
        )
        expected = files.metrics["test_metrics"]
        assert 100 * np.mean(found.probs.argmax(1) == test.labels) == pytest.approx(expected["accuracy"], abs=0.2)
        assert found.losses.mean() == pytest.approx(expected["loss"], rel=1e-3)


class TestAggregate:
    def test_has_exactly_the_studys_keys(self, seeds_of_a_cell):
        (path,) = seeds_of_a_cell.glob("*/aggregated/performance_metrics.json")
        found = runs.read_json(path)
        assert list(found) == [*AVERAGED, "training_time_seconds", "total_epochs"]
        metrics = ("loss", "accuracy", "precision", "recall", "f1-score")
        for group in AVERAGED:
            assert list(found[group]) == [f"{name}_{kind}" for name in metrics for kind in ("mean", "std")]
        for name in ("training_time_seconds", "total_epochs"):
            assert list(found[name]) == ["mean", "std"]

    def test_is_mean_and_deviation_over_the_seeds(self, seeds_of_a_cell):
        (path,) = seeds_of_a_cell.glob("*/aggregated/performance_metrics.json")
        found = runs.read_json(path)
        singles = [runs.read_json(p) for p in seeds_of_a_cell.glob("*/split_seed_*/performance_metrics.json")]
        assert len(singles) == 3
        for averaged, group in zip(AVERAGED, GROUPS.values()):
            for name in ("loss", "accuracy", "f1-score"):
                values = [single[group][name] for single in singles]
                assert found[averaged][f"{name}_mean"] == pytest.approx(np.mean(values))
                assert found[averaged][f"{name}_std"] == pytest.approx(np.std(values, ddof=1))
        times = [single["training_time_seconds"] for single in singles]
        assert found["training_time_seconds"]["mean"] == pytest.approx(np.mean(times))

    def test_of_one_seed_has_no_deviation(self, offline_run):
        (path,) = offline_run.results.glob("*/aggregated/performance_metrics.json")
        found = runs.read_json(path)["averaged_test_metrics"]
        assert found["accuracy_std"] == 0
        assert found["accuracy_mean"] > 0

    def test_has_its_curves(self, seeds_of_a_cell):
        (folder,) = seeds_of_a_cell.glob("*/aggregated")
        for name in ("accuracy", "loss", "precision", "recall", "f1-score"):
            with Image.open(folder / f"{name}_over_epochs.png") as picture:
                picture.load()

    def test_seeds_differ_in_their_split_and_share_their_cell(self, seeds_of_a_cell):
        starts = [runs.read_lines(p)[0]["rows"] for p in seeds_of_a_cell.glob("*/split_seed_*/rounds.jsonl")]
        assert len({tuple(rows) for rows in starts}) == 3

    def test_clustering_is_measured_within_selection(self, seeds_of_a_cell):
        for path in seeds_of_a_cell.glob("*/split_seed_*/epochs.jsonl"):
            for row in runs.read_lines(path):
                assert 0 <= row["seconds"]["cluster"] <= row["seconds"]["select"]
                assert (row["seconds"]["cluster"] > 0) is (row["round"] < 3)


class TestSchedule:
    def test_label_counts_are_the_studys(self, launcher, tmp_path):
        """A budget of 500: 10 % or 150 if more, then 5 % in each of 14 rounds."""
        study = {"variant": "balanced_100", "budget": 500, "initial_min": 150, "batch_fraction": 0.05}
        found = run_of(launcher, tmp_path, **study, max_epochs=16, strategy="random")
        assert found.label_counts == list(range(150, 501, 25))
        assert [len(entry["rows"]) for entry in found.rounds] == [150] + [25] * 14
        assert [row["labels"] for row in found.epochs] == [*range(150, 501, 25), 500]
        assert [row["val_size"] for row in found.epochs[:15]] == [round(0.15 * n) for n in range(150, 501, 25)]
        assert found.tracking["acquisition_batch_size"] == 25

    def test_converge_trains_every_round_to_early_stopping(self, launcher, tmp_path):
        found = run_of(launcher, tmp_path, schedule="converge", max_epochs=2, strategy="margin")
        assert [row["round"] for row in found.epochs] == [0, 0, 1, 1, 2, 2, 3, 3]
        assert [entry["epoch"] for entry in found.rounds] == [0, 2, 4, 6]

    def test_training_stops_after_patience_stale_epochs(self, launcher, tmp_path):
        found = run_of(launcher, tmp_path, max_epochs=50, patience=2, min_delta=100)
        last = [row for row in found.epochs if row["round"] == 3]
        assert [row["best"] for row in last] == [True, False, False]
        assert found.metrics["best_epoch"] == last[0]["epoch"]

    def test_stratified_trains_once_on_the_whole_variant(self, launcher, tmp_path):
        found = run_of(launcher, tmp_path, strategy="stratified", max_epochs=2)
        assert found.label_counts == [250]
        assert found.picks == found.tracking["selected_indices"] == []
        assert found.metrics["labels_used"] == 250
        assert all(row["pick"] is None and row["seconds"]["score"] == 0 for row in found.epochs)
        assert list(found.metrics["config"]["variant"])

    def test_pool_scope_variant_picks_from_the_variant_alone(self, launcher, tmp_path):
        baseline = run_of(launcher, tmp_path / "baseline", strategy="stratified", max_epochs=1)
        found = run_of(launcher, tmp_path / "scoped", pool_scope="variant")
        assert {row for entry in found.rounds for row in entry["rows"]} <= set(baseline.rounds[0]["rows"])
        assert [row["pool_size"] for row in found.epochs[:4]] == [220, 208, 196, 190]


CUT = 9
WARNED = f"""
import sys
import torch
from al.nvidia import repeatability
from al.learning.trainer import Trainer
from train import main

torch.use_deterministic_algorithms(True, warn_only=True)
repeatability.note_warnings()
epoch = Trainer.epoch

def warned(trainer, images, labels, rows, number):
    torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))
    return epoch(trainer, images, labels, rows, number) if number < 3 else sys.exit({CUT})

Trainer.epoch = warned
sys.exit(main(sys.argv[1:]))
"""
"""A run whose every epoch has an operation without a deterministic kernel, ended before its third."""


class TestRandomness:
    def test_same_seeds_same_run_whatever_process(self, launcher, tmp_path, offline_run):
        run_of(launcher, tmp_path)
        runs.assert_same(runs.only_run(tmp_path), offline_run.folder)

    def test_what_torch_cannot_repeat_is_said_once_and_recorded(self, launcher, tmp_path):
        """By a real warning of torch, in a run that is cut and gone on with where nothing warns any more."""
        done = subprocess.run(
            [sys.executable, "-c", WARNED, *launch.small(tmp_path)],
            cwd=launch.ROOT,
            env=launch.environment(),
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (CUT, "")
        assert done.stdout.count("no deterministic put_ on this device") == 1
        outcome = launcher.run(launch.small(tmp_path))
        assert outcome.code == 0, outcome.stderr
        assert "goes on after epoch 2" in outcome.stdout
        assert "no deterministic" not in outcome.stdout
        assert Files(runs.only_run(tmp_path)).metrics["environment"]["not_repeatable"] == ["put_"]

    def test_strategies_share_their_first_labels_and_first_epoch(self, launcher, tmp_path, files):
        other = run_of(launcher, tmp_path, strategy="random")
        assert other.rounds[0]["rows"] == files.rounds[0]["rows"]
        assert other.epochs[0]["test"] == files.epochs[0]["test"]
        assert other.rounds[1]["rows"] != files.rounds[1]["rows"]

    def test_seed_changes_the_model_and_not_the_split(self, launcher, tmp_path, files):
        other = run_of(launcher, tmp_path, seed=7)
        assert other.rounds[0]["rows"] == files.rounds[0]["rows"]
        assert other.epochs[0]["test"]["loss"] != files.epochs[0]["test"]["loss"]


@pytest.fixture(scope="session")
def compared(once, launcher):
    """A baseline, made by the command that its absence is answered with, and a run of a larger budget."""

    def make(folder):
        until = {"stop": "baseline", "strategy": "margin", "variant": "balanced_3", "budget": 400, "max_epochs": 40}
        refused = launcher.run(launch.small(folder, **until))
        assert refused.code == 2
        command = shlex.split(refused.complaint.partition("python train.py ")[2])
        assert launcher.run(command).code == 0
        outcome = launcher.run(launch.small(folder, **until))
        assert outcome.code == 0, outcome.stderr

    found = [Files(path) for path in once("until_baseline", make).glob("*/split_seed_12")]
    return sorted(found, key=lambda files: files.metrics["config"]["strategy"] != "stratified")


class TestBaseline:
    def test_is_named_with_its_result(self, compared):
        baseline, run = compared
        test = baseline.metrics["test_metrics"]
        expected = {"cell": baseline.config["cell"], "accuracy": test["accuracy"], "loss": test["loss"]}
        assert run.metrics["baseline"] == expected
        assert baseline.metrics["baseline"] is baseline.metrics["reached_baseline"] is None

    def test_run_ends_as_soon_as_it_is_beaten(self, compared):
        baseline, run = compared
        goal = baseline.metrics["test_metrics"]
        beaten = [
            row["test"]["accuracy"] > goal["accuracy"] and row["test"]["loss"] < goal["loss"] for row in run.epochs
        ]
        assert beaten == [False] * (len(beaten) - 1) + [True]
        assert run.metrics["reached_baseline"] is True
        assert run.metrics["best_epoch"] == len(run.epochs)
        assert run.metrics["labels_used"] == run.epochs[-1]["labels"] == run.rounds[-1]["labels"] < 400
