"""The sweep files make the study's 44 configurations and are expanded as W&B expands them."""

import csv
import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from al.config import RunConfig
from al.errors import UserError
from sweeps.runner.grid import expand, load, parse_overrides

ROOT = Path(__file__).parents[2]
SWEEPS = ROOT / "sweeps"
STUDY = sorted((SWEEPS / "study").glob("exp*.yaml"))
BAYES = SWEEPS / "bayes.yaml"
MACHINES = [SWEEPS / "k8s.yaml", SWEEPS / "sky.yaml"]
"""What starts runners on other machines: no sweep files."""
ALL = sorted(path for path in SWEEPS.rglob("*.yaml") if path not in (BAYES, *MACHINES))
SPLIT_SEEDS = (12, 34, 56, 78, 90)
VARIANTS = {"8C@50%_2C@1%": "imbalanced_50_1", "8C@10%_2C@1%": "imbalanced_10_1", "8C@3%_2C@1%": "imbalanced_3_1"}


@pytest.fixture(autouse=True)
def in_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def published() -> list[dict]:
    with (SWEEPS / "study" / "reference" / "paper_table2.csv").open() as table:
        return list(csv.DictReader(table))


def as_parameters(row: dict) -> tuple:
    """A row of Table 2 as (variant, strategy, init, class_weights, stop)."""
    balanced = row["distribution"] == "balanced"
    variant = f"balanced_{row['dataset_percent']}" if balanced else VARIANTS[row["distribution"]]
    until = "budget" if balanced or row["strategy"] == "stratified" else "baseline"
    init = "clip" if row["clip_init"] == "1" else "stratified"
    return variant, row["strategy"], init, row["class_weights"] == "1", until


def of_config(config: RunConfig) -> tuple:
    return config.variant, config.strategy, config.init, config.class_weights, config.stop


def test_study_files_are_exactly_the_published_configurations_with_every_split_seed():
    runs = [config for path in STUDY for config in load(path).configs]
    wanted = Counter((as_parameters(row), seed) for row, seed in itertools.product(published(), SPLIT_SEEDS))
    assert len(wanted) == 220
    assert Counter((of_config(config), config.split_seed) for config in runs) == wanted
    assert len({config.digest() for config in runs}) == 220


def test_study_files_leave_everything_else_as_the_study_had_it():
    for path in STUDY:
        for config in load(path).configs:
            changed = RunConfig().model_copy(
                update={
                    name: getattr(config, name)
                    for name in ("variant", "strategy", "init", "class_weights", "stop", "split_seed")
                }
            )
            assert config == changed, path
            assert config.budget is None
            assert config.pool_scope == "full"


def test_extra_files_add_configurations_and_repeat_none():
    study = {config.digest() for path in STUDY for config in load(path).configs}
    extra = [config for path in SWEEPS.rglob("extra_*.yaml") for config in load(path).configs]
    assert {config.split_seed for config in extra} == set(SPLIT_SEEDS)
    assert not study & {config.digest() for config in extra}
    variants = {(config.variant, config.strategy, config.init, config.class_weights) for config in extra}
    assert ("balanced_100", "stratified", "stratified", False) in variants
    assert ("balanced_5", "margin", "clip", False) in variants
    assert ("imbalanced_50_1", "typiclust", "stratified", True) in variants


def test_every_setting_of_experiment_2_has_random_as_its_control_from_both_pools():
    configs = [config for path in STUDY for config in load(path).configs if config.stop == "baseline"]
    control = load(SWEEPS / "study" / "extra_exp2_random.yaml").configs
    unweighted = {(config.variant, config.split_seed) for config in configs if not config.class_weights}
    for scope in ("full", "variant"):
        assert {(config.variant, config.split_seed) for config in control if config.pool_scope == scope} == unweighted
    assert {(config.strategy, config.stop) for config in control} == {("random", "baseline")}


def test_every_run_until_the_baseline_has_its_baseline_in_the_files():
    configs = [config for path in ALL for config in load(path).configs]
    there = {config.digest() for config in configs}
    until = [config for config in configs if config.stop == "baseline"]
    assert until
    assert all(config.baseline_of().digest() in there for config in until)


def test_demo_compares_random_with_active_learning_on_bundled_data():
    configs = load(SWEEPS / "demo.yaml").configs
    assert {config.strategy for config in configs} >= {"stratified", "random", "uncertainty", "margin", "typiclust"}
    assert {config.split_seed for config in configs} == {12, 34, 56, 78, 90}
    assert all((config.dataset, config.model, config.weights) == ("digits", "small_cnn", "none") for config in configs)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_header_says_how_many_runs_there_are(path):
    header = "".join(line for line in path.read_text().splitlines(True) if line.startswith("#"))
    assert f"= {len(expand(path))} runs" in header
    assert yaml.safe_load(path.read_text())["command"] == ["${env}", "${interpreter}", "${program}", "${args}"]


def test_the_bayesian_sweep_optimises_on_validation_and_ends_runs_early():
    file = load(BAYES, on_server=True)
    assert file.content["metric"]["name"].startswith("val/")
    assert file.content["early_terminate"]["type"] == "hyperband"
    assert (file.runs, file.count) == ((), 40)
    assert file.configs[0].dataset == "digits"
    with pytest.raises(UserError, match="early_terminate: W&B's server decides"):
        load(BAYES)


def test_a_bad_value_of_a_bayesian_sweep_is_found_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, "{program: train.py, method: bayes, parameters: {lr: {min: -0.1, max: 0.2}}}")
    with pytest.raises(UserError, match=r"lr=-0\.1: must be greater than 0"):
        load(path, on_server=True)


def write(folder: Path, text: str) -> Path:
    (folder / "train.py").touch()
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


def test_grid_runs_through_sorted_names_the_last_fastest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (
        "{program: train.py, method: grid, parameters: {seed: {values: [2, 1]}, lr: {values: [0.1, 0.2]}, epochs: {}}}"
    )
    path = write(tmp_path, text.replace(", epochs: {}", ", max_epochs: {min: 3, max: 4}"))
    names = [tuple(run) for run in expand(path)]
    assert set(names) == {("lr", "max_epochs", "seed")}
    assert [tuple(run.values()) for run in expand(path)] == [
        (0.1, 3, 2), (0.1, 3, 1), (0.1, 4, 2), (0.1, 4, 1), (0.2, 3, 2), (0.2, 3, 1), (0.2, 4, 2), (0.2, 4, 1),
    ]  # fmt: skip


def test_grid_order_is_that_of_parameter_grid(tmp_path, monkeypatch):
    from sklearn.model_selection import ParameterGrid

    monkeypatch.chdir(tmp_path)
    choices = {"strategy": ["margin", "random"], "lr": [0.1, 0.01], "split_seed": [5, 3, 4], "seed": [1]}
    parameters = {name: {"values": values} for name, values in choices.items()}
    path = write(tmp_path, yaml.safe_dump({"program": "train.py", "method": "grid", "parameters": parameters}))
    assert expand(path) == list(ParameterGrid(choices))


RANDOM = """
program: train.py
method: random
run_cap: 200
parameters:
  lr: {distribution: log_uniform_values, min: 0.0001, max: 0.1}
  dropout: {min: 0.0, max: 0.5}
  batch_size: {distribution: q_uniform, q: 8, min: 8, max: 64}
  patience: {min: 3, max: 6}
  strategy: {values: [margin, random], probabilities: [0.9, 0.1]}
  seed: {value: 7}
"""


def test_random_draws_follow_the_distributions_and_the_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, RANDOM)
    runs = expand(path)
    assert len(runs) == 200
    assert runs == expand(path) != expand(path, seed=43)
    assert 40 < sum(run["lr"] < 0.001 for run in runs) < 95  # a third of three decades
    assert {run["batch_size"] for run in runs} == set(range(8, 65, 8))
    assert {run["patience"] for run in runs} == {3, 4, 5, 6}
    assert 160 < sum(run["strategy"] == "margin" for run in runs) < 195
    assert max(run["dropout"] for run in runs) > 0.4


def test_a_random_parameter_keeps_its_draws_when_another_is_added(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = [run["lr"] for run in expand(write(tmp_path, RANDOM))]
    after = [run["lr"] for run in expand(write(tmp_path, RANDOM + "  augment: {values: [true, false]}\n"))]
    assert before == after


def test_overrides_hold_for_every_run_and_fold_the_grid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(
        tmp_path, "{program: train.py, method: grid, parameters: {seed: {values: [1, 2]}, lr: {values: [0.1]}}}"
    )
    runs = expand(path, parse_overrides(["seed=5", "augment=false", "clip_prompt=a photo of a {}."]))
    assert runs == [{"augment": False, "clip_prompt": "a photo of a {}.", "lr": 0.1, "seed": 5}]


GRID = "{program: train.py, method: grid, parameters: {%s}}"
BAD = {
    "line 3": "program: train.py\nmethod: grid\nparameters: lr: 3\n",
    "'lr' is given twice": GRID % "lr: {value: 0.1}, lr: {value: 0.2}",
    "did you mean 'batch_fraction'": GRID % "batch_fracton: {value: 0.1}",
    "did you mean 'margin'": GRID % "strategy: {values: [margin, margn]}",
    "distribution=categorical without values": GRID % "lr: {distribution: categorical, vals: [0.1]}",
    "distribution=constant without value": GRID % "lr: {distribution: constant, values_: [0.1]}",
    "too many values for a grid": GRID % "split_seed: {min: 0, max: 100000000000000000000}",
    "the grid is empty": GRID % "lr: {values: []}",
    "parameters: missing or empty": "{program: train.py, method: grid, parameters: {}}",
    "program: missing": "{method: grid, parameters: {lr: {value: 0.1}}}",
    "no such file in": "{program: trian.py, method: grid, parameters: {lr: {value: 0.1}}}",
    "did you mean 'parameters'": "{program: train.py, method: grid, parameter: {lr: {value: 0.1}}}",
    "method='bayes'": "{program: train.py, method: bayes, parameters: {lr: {min: 0.1, max: 0.2}}}",
    "early_terminate": "{program: train.py, method: grid, early_terminate: {type: x}, parameters: {lr: {value: 1}}}",
    "run_cap: missing": "{program: train.py, method: random, parameters: {lr: {min: 0.1, max: 0.2}}}",
    "no such method": "{program: train.py, method: gird, parameters: {lr: {value: 0.1}}}",
    "nested parameters": GRID % "optimizer: {parameters: {lr: {value: 0.1}}}",
    "a grid cannot run through 'uniform'": GRID % "lr: {min: 0.1, max: 0.2}",
    "is not drawn without": "{program: train.py, method: random, run_cap: 1, parameters: "
    "{lr: {distribution: inv_log_uniform, min: 1, max: 2}}}",
    "min=3, max=2": GRID % "patience: {min: 3, max: 2}",
    "not a sweep file": "- a\n- b\n",
    "3 is not a name": GRID % "3: {value: 0.1}, lr: {value: 0.1}",
    "a grid of 4,000,000,001 runs": GRID % "seed: {min: 0, max: 4000000000}",
    "a grid of 8,000,000,002 runs": (GRID % "seed: {min: 0, max: 4000000000}, split_seed: {values: [1, 2]}")[:-1]
    + ", run_cap: 3}",
    "q=0": "{program: train.py, method: random, run_cap: 1, parameters: "
    "{patience: {distribution: q_uniform, q: 0, min: 1, max: 2}}}",
    "probabilities=['a', 'b']": "{program: train.py, method: random, run_cap: 1, parameters: "
    "{seed: {values: [1, 2], probabilities: [a, b]}}}",
    "probabilities=3": "{program: train.py, method: random, run_cap: 1, parameters: "
    "{seed: {values: [1, 2], probabilities: 3}}}",
    "nested deeper": "[" * 3000,
    "not YAML: unacceptable character": "program: \0\n",
    "metric=3": (GRID % "lr: {value: 0.1}")[:-1] + ", metric: 3}",
    "goal='up'": (GRID % "lr: {value: 0.1}")[:-1] + ", metric: {name: val/loss, goal: up}}",
    "did you mean 'args'": (GRID % "lr: {value: 0.1}")[:-1] + ", command: [python, '${argz}']}",
    "name=[1]: not a text": (GRID % "lr: {value: 0.1}")[:-1] + ", name: [1]}",
    "name='a\\nb': not a text": (GRID % "lr: {value: 0.1}")[:-1] + ', name: "a\\nb"}',
    "project={'a': 1}: not a text": (GRID % "lr: {value: 0.1}")[:-1] + ", project: {a: 1}}",
    "entity=True: not a text": (GRID % "lr: {value: 0.1}")[:-1] + ", entity: true}",
    "split_seed=True: a truth value": GRID % "split_seed: {values: [true]}",
    "min=0, max=nan": GRID % "patience: {distribution: int_uniform, min: 0, max: .nan}",
}  # fmt: skip


@pytest.mark.parametrize("expected", BAD, ids=lambda expected: expected[:20])
def test_bad_files_are_one_clear_line(tmp_path, monkeypatch, expected):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, BAD[expected])
    with pytest.raises(UserError) as error:
        load(path)
    assert expected in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("written", "name"), [("2024", "2024"), ("2024-05-01", "2024-05-01"), ("two words", "two words"), ("", "sweep")]
)
def test_a_name_may_look_like_something_else(tmp_path, monkeypatch, written, name):
    monkeypatch.chdir(tmp_path)
    found = load(write(tmp_path, (GRID % "lr: {value: 0.1}")[:-1] + f", name: {written}}}"))
    assert found.name == name
    json.dumps(found.content)  # W&B's server gets it so


def test_a_missing_file_and_a_bad_assignment_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        load(tmp_path / "nowhere.yaml")
    with pytest.raises(UserError, match="--set lr: not an assignment"):
        parse_overrides(["lr"])
