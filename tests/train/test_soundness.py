"""What a comparison stands on: independent seeds, one science a digest, free labels told from paid ones."""

import csv
import json
import shutil
from pathlib import Path

import launch
import numpy as np
import pytest
import runs

from al.budget import budget_of
from al.config import RunConfig
from al.errors import UserError
from al.identity import local_sources
from al.storage.result_files import write_aggregate
from al.tracking.server import mode
from al.tracking.sweep import sweep_parameters
from data_prep.datasets import load_dataset

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def picks(results: Path, seed: int) -> list[int]:
    (folder,) = results.glob(f"*/split_seed_{seed}")
    return runs.read_json(folder / "al_tracking.json")["selected_indices"]


@pytest.fixture(scope="module")
def two_seeds(launcher, tmp_path_factory):
    """`random` on two split seeds, in one results folder."""
    results = tmp_path_factory.mktemp("two_seeds")
    for seed in (12, 34):
        outcome = launcher.run(launch.small(results, strategy="random", split_seed=seed, max_epochs=4))
        assert outcome.code == 0, outcome.stderr
    return results


def test_random_picks_of_two_split_seeds_are_independent(two_seeds):
    first, second = np.array(picks(two_seeds, 12)), np.array(picks(two_seeds, 34))
    near = np.abs(first - second) <= 60  # the same positions among the unlabelled differ by less than the labels known
    assert near.mean() < 0.4  # of 1,258 rows about a tenth are so near by chance
    assert len(set(first) & set(second)) <= 8


def test_an_aggregate_leaves_out_a_seed_of_other_images(two_seeds, tmp_path):
    cell = tmp_path / "cell"
    shutil.copytree(next(two_seeds.glob("digits*")), cell)
    both = write_aggregate(cell / "split_seed_12")
    config = cell / "split_seed_34" / "config.json"
    changed = json.loads(config.read_text())
    changed["data"]["fingerprint"] = "0" * 64
    config.write_text(json.dumps(changed))
    one = write_aggregate(cell / "split_seed_12")
    assert [folder.name for folder in both] == ["split_seed_12", "split_seed_34"]
    assert [folder.name for folder in one] == ["split_seed_12"]
    accuracy = runs.read_json(cell / "split_seed_12" / "performance_metrics.json")["test_metrics"]["accuracy"]
    averaged = runs.read_json(cell / "aggregated" / "performance_metrics.json")["averaged_test_metrics"]
    assert averaged["accuracy_mean"] == pytest.approx(accuracy)


def test_one_variant_has_one_digest():
    digests = {RunConfig(variant=name).digest() for name in ("balanced_10", "balanced_10.0", "imbalanced_10_10")}
    assert len(digests) == 1


@pytest.mark.parametrize(("one", "other"), [("./m", "m/"), ("a/../m", "m")])
def test_one_folder_has_one_digest(one, other):
    assert RunConfig(model=one).digest() == RunConfig(model=other).digest()


def test_parameters_of_other_strategies_change_no_digest():
    assert RunConfig(strategy="margin").digest() == RunConfig(strategy="margin", probcover_delta=2).digest()
    assert RunConfig(strategy="probcover").digest() != RunConfig(strategy="probcover", probcover_delta=2).digest()
    assert RunConfig(strategy="bald").digest() != RunConfig(strategy="bald", mc_passes=3).digest()


def test_other_weights_under_the_same_path_are_another_source(tmp_path):
    file = tmp_path / "w.pth"
    config = RunConfig(weights=str(file))
    file.write_bytes(b"one")
    before = local_sources(config)
    file.write_bytes(b"two")
    assert set(before) == {"weights"}
    assert local_sources(config) != before


def test_bald_without_dropout_is_refused():
    with pytest.raises(UserError, match="dropout"):
        RunConfig.from_mapping({"strategy": "bald", "dropout": 0})


def test_cleaning_is_charged_to_the_budget():
    free = RunConfig(init="clip", budget=250, initial_min=50)
    checked = free.model_copy(update={"init_cleaning": 0.1})
    plain, charged = (budget_of(config, 250, 1000, 10) for config in (free, checked))
    assert charged.checks == 25
    assert charged.total - (charged.initial - charged.checks) == plain.total - plain.initial
    with pytest.raises(UserError, match="init_cleaning"):
        budget_of(free.model_copy(update={"init_cleaning": 0.9}), 250, 1000, 10)


def test_online_without_a_key_is_an_error(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(UserError, match="no API key"):
        mode()
    monkeypatch.delenv("WANDB_MODE")
    assert mode() == "offline"
    (tmp_path / ".config" / "wandb").mkdir(parents=True)
    (tmp_path / ".config" / "wandb" / "settings").write_text("[default]\nbase_url = https://wandb.example.org\n")
    (tmp_path / "netrc").write_text("machine wandb.example.org\n  login user\n  password secret\n")
    assert mode() == "online"


def test_what_an_agent_adds_to_the_parameters_is_passed_over(monkeypatch, tmp_path):
    file = tmp_path / "parameters.yaml"
    file.write_text("wandb_version: 1\n_wandb: {value: {}}\nstrategy: {value: margin}\n")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(file))
    assert sweep_parameters() == {"strategy": "margin"}


@pytest.fixture(scope="module")
def logits(tmp_path_factory) -> Path:
    """Zero-shot outputs for the digits, right for nine of ten and surest where they are right or wrong alike."""
    labels = load_dataset("digits", "").train.labels
    rng = np.random.default_rng(0)
    guesses = np.where(rng.random(len(labels)) < 0.9, labels, (labels + 1) % 10)
    values = rng.normal(size=(len(labels), 10)) + 6 * np.eye(10)[guesses]
    path = tmp_path_factory.mktemp("logits") / "digits.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(range(10))
        writer.writerows(values.tolist())
    return path


@pytest.fixture(scope="module")
def free_starts(launcher, logits, tmp_path_factory) -> dict[float, Path]:
    """Runs from free labels by the share of the budget that checks them."""
    found = {}
    for share in (0.0, 0.3):
        results = tmp_path_factory.mktemp("free")
        changed = {"init": "clip", "clip_model": f"file:{logits}", "init_cleaning": share, "strategy": "margin"}
        outcome = launcher.run(launch.small(results, **changed, max_epochs=4))
        assert outcome.code == 0, outcome.stderr
        found[share] = runs.only_run(results)
    return found


def test_free_labels_are_told_from_paid_ones(free_starts):
    truth = load_dataset("digits", "").train.labels
    for share, folder in free_starts.items():
        rounds, result = runs.read_lines(folder / "rounds.jsonl"), runs.read_json(folder / "performance_metrics.json")
        first, checked = rounds[0], round(share * 60)
        wrong = sum(guess != true for guess, true in zip(first["predicted"], first["true"], strict=True))
        assert first["true"] == truth[first["rows"]].tolist()
        assert (first["labels"], first["free_labels"], first["human_labels"]) == (30, 30 - checked, checked)
        assert sum(first["wrong_labels_by_class"].values()) == first["wrong_labels"] <= wrong
        assert result["human_labels_used"] == result["labels_used"] - (30 - checked) == 30
        assert result["wrong_labels_used"] == first["wrong_labels"]
        assert result["initial_labels_bought_again"] == 0
    unchecked, checked = (runs.read_lines(free_starts[share] / "rounds.jsonl")[0] for share in (0.0, 0.3))
    assert unchecked["wrong_labels"] > checked["wrong_labels"]


def test_other_zero_shot_outputs_under_the_same_name_are_refused(free_starts, launcher, logits):
    folder = free_starts[0.0]
    content = logits.read_text()
    header, _, values = content.partition("\n")
    logits.write_text(f"{header}\n{values.replace('1', '2', 1)}")
    try:
        changed = {"init": "clip", "clip_model": f"file:{logits}", "init_cleaning": 0.0, "strategy": "margin"}
        outcome = launcher.run(launch.small(folder.parents[1], **changed, max_epochs=4))
    finally:
        logits.write_text(content)
    assert outcome.code == 2
    assert "zero-shot" in outcome.stderr


def test_without_pictures_a_run_is_the_same_run(launcher, tmp_path):
    for name, pictures in (("with", True), ("without", False)):
        outcome = launcher.run(launch.small(tmp_path / name, pictures=pictures))
        assert outcome.code == 0, outcome.stderr
    drawn, plain = (runs.only_run(tmp_path / name) for name in ("with", "without"))
    assert drawn.name == plain.name
    assert drawn.parent.name == plain.parent.name
    assert not list(plain.parent.rglob("*.png"))
    pictures = {name for name in runs.files(drawn) if name.endswith(".png")}
    assert runs.files(drawn) - pictures == runs.files(plain)
    for name in ("epochs.jsonl", "rounds.jsonl"):
        both = [runs.without(runs.read_lines(folder / name), runs.TIMES) for folder in (drawn, plain)]
        assert both[0] == both[1]


@pytest.mark.parametrize(
    ("strategy", "images", "remedy"), [("stratified", 12, "variant"), ("margin", 100, "initial_min")]
)
def test_a_start_that_is_too_small_names_what_makes_it_larger(strategy, images, remedy):
    config = RunConfig(strategy=strategy, variant="balanced_1", initial_min=12, budget=None)
    with pytest.raises(
        UserError, match=f"^{remedy}=.*: an initial pool of 1[0-9] images is too small.*; use .*{remedy}"
    ):
        budget_of(config, images, 1200, 10)
