"""A data set's own defaults: they hold where no model is named, and what is written down is complete."""

import shlex

import launch
import pytest
import runs

from al.config import RunConfig
from al.dataset_defaults import DATASETS

OWN = dict(DATASETS["digits"])


def digits(**parameters) -> RunConfig:
    return RunConfig.from_mapping({"dataset": "digits", **parameters})


def test_hold_where_no_model_is_named():
    assert digits() == RunConfig(dataset="digits", **OWN)
    assert digits(lr=0.01, variant="balanced_50") == RunConfig(
        dataset="digits", **OWN | {"lr": 0.01, "variant": "balanced_50"}
    )
    assert RunConfig.from_mapping({"variant": "balanced_3"}) == RunConfig(variant="balanced_3")


@pytest.mark.parametrize("model", ["small_cnn", "efficientnet_b0", "resnet18"])
def test_do_not_touch_a_run_that_names_its_model(model):
    """Its digest is what it was before data sets had defaults."""
    assert digits(model=model, split_seed=3) == RunConfig(dataset="digits", model=model, split_seed=3)


@pytest.mark.parametrize(
    "config",
    [
        digits(),
        digits(model="efficientnet_b0"),
        digits(variant="balanced_10", initial_min=20),
        digits(model="small_cnn", weights="none"),
        RunConfig(dataset="digits"),
    ],
)
def test_the_command_of_a_run_starts_that_run(config):
    words = [word.removeprefix("--").split("=", 1) for word in shlex.split(config.command())[2:]]
    assert RunConfig.from_mapping(dict(words)) == config


def test_digits_run_without_further_parameters(launcher, tmp_path):
    outcome = launcher.run(["--dataset=digits", "--budget=60", "--max_epochs=6", f"--results_dir={tmp_path}"])
    assert outcome.code == 0, outcome.stderr
    recorded = runs.read_json(runs.only_run(tmp_path) / "config.json")["config"]
    assert {name: recorded[name] for name in OWN} == OWN


def test_help_says_them():
    outcome = launch.command("--help")
    assert "[efficientnet_b0; digits: small_cnn]" in " ".join(outcome.stdout.split())
