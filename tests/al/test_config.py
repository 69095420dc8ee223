"""The parameters of a run: what is accepted, what is refused and how, and what identifies a run."""

import re
import shlex
import string

import pytest
import yaml
from pydantic import ValidationError

from al.config import WHERE_IT_RUNS, RunConfig
from al.errors import UserError
from al.options import read_parameters
from al.variant import parse_variant

DOCUMENTED = {
    "dataset": "cifar10",
    "data_dir": "data",
    "image_size": None,
    "strict": False,
    "variant": "balanced_10",
    "minority_classes": None,
    "pool_scope": "full",
    "strategy": "uncertainty",
    "budget": None,
    "initial_fraction": 0.10,
    "initial_min": 150,
    "batch_fraction": 0.05,
    "pool_sample": None,
    "init": "stratified",
    "stop": "budget",
    "schedule": "epoch",
    "warm_start": True,
    "val_fraction": 0.15,
    "class_weights": False,
    "model": "efficientnet_b0",
    "weights": "imagenet",
    "dropout": 0.3,
    "lr": 0.001,
    "weight_decay": 0.001,
    "batch_size": 32,
    "max_epochs": 50,
    "patience": 10,
    "min_delta": 0.005,
    "lr_factor": 0.5,
    "lr_patience": 2,
    "augment": True,
    "seed": 42,
    "split_seed": 12,
    "clip_model": "openai/clip-vit-base-patch32",
    "clip_prompt": "{}",
    "device": "auto",
    "precision": "auto",
    "results_dir": "results",
}
"""The study's settings, which users rely on without naming them."""

OTHER = {
    "dataset": "digits",
    "image_size": 64,
    "variant": "imbalanced_10_1",
    "pool_scope": "variant",
    "strategy": "margin",
    "budget": 700,
    "initial_fraction": 0.2,
    "initial_min": 100,
    "batch_fraction": 0.1,
    "pool_sample": 5000,
    "init": "random",
    "stop": "baseline",
    "schedule": "converge",
    "val_fraction": 0.2,
    "class_weights": True,
    "model": "resnet18",
    "weights": "none",
    "dropout": 0.1,
    "lr": 0.01,
    "weight_decay": 0,
    "batch_size": 64,
    "max_epochs": 60,
    "patience": 5,
    "min_delta": 0.0,
    "lr_factor": 0.1,
    "lr_patience": 1,
    "augment": False,
    "seed": 1,
    "split_seed": 34,
}
"""A value other than the default for every field that always has an effect."""


def refused(**parameters) -> str:
    with pytest.raises(UserError) as caught:
        RunConfig.from_mapping(parameters)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace("'", "")  # quotes or not is a matter of taste


class TestValues:
    def test_defaults_are_the_studys(self):
        found = RunConfig().model_dump()
        assert {name: found[name] for name in DOCUMENTED} == DOCUMENTED

    def test_every_field_is_documented(self):
        assert all(field.description for field in RunConfig.model_fields.values())

    @pytest.mark.parametrize(
        ("name", "given", "value"),
        [
            ("lr", "1e-3", 0.001),  # what PyYAML makes of 1e-3
            ("batch_size", 64.0, 64),  # what W&B may make of 64
            ("budget", "500", 500),
            ("budget", "null", None),
            ("budget", "None", None),
            ("image_size", "", None),
            ("warm_start", "false", False),
            ("augment", "True", True),
            ("class_weights", 1, True),
            ("minority_classes", "cat, dog", ("cat", "dog")),
            ("minority_classes", ["cat", "dog"], ("cat", "dog")),
            ("minority_classes", [3, 5], ("3", "5")),
            ("minority_classes", "null", None),
        ],
    )
    def test_are_coerced(self, name, given, value):
        found = getattr(RunConfig.from_mapping({name: given}), name)
        assert found == value
        assert type(found) is type(value)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("budget", 0),
            ("budget", -5),
            ("budget", 2.5),
            ("budget", "many"),
            ("image_size", 0),
            ("batch_fraction", 0),
            ("batch_fraction", 1.5),
            ("initial_fraction", 0),
            ("initial_min", 0),
            ("val_fraction", 0),
            ("val_fraction", 0.9),
            ("dropout", 1),
            ("dropout", -0.1),
            ("lr", 0),
            ("lr", "nan"),
            ("lr", "inf"),
            ("weight_decay", -1),
            ("batch_size", 1),
            ("batch_size", 10**23),
            ("max_epochs", 0),
            ("patience", 0),
            ("min_delta", -0.1),
            ("lr_factor", 1),
            ("lr_patience", -1),
            ("seed", -1),
            ("seed", 2**32),
            ("split_seed", 1.5),
            ("augment", "maybe"),
            ("dataset", "mnist"),
            ("pool_scope", "half"),
            ("init", "best"),
            ("stop", "never"),
            ("schedule", "weekly"),
            ("precision", "float8"),
            ("strategy", "best"),
            ("variant", "balanced"),
            ("variant", "balanced_0"),
            ("variant", "balanced_101"),
            ("variant", "imbalanced_10"),
            ("variant", "imbalanced_10_1_1"),
            ("variant", "balanced_1.2.3"),
            ("variant", "balanced_."),
            ("variant", ""),
        ],
    )
    def test_against_a_rule_are_refused_with_value_and_rule(self, name, value):
        message = refused(**{name: value})
        assert message.startswith(f"{name}={value}: "), message
        rule = message.removeprefix(f"{name}={value}: ")
        assert len(rule) > 20
        assert name != "variant" or "percentages" in rule

    def test_all_that_is_wrong_is_said_at_once(self):
        message = refused(lr=-1, dropout=7)
        assert "lr=-1" in message
        assert "dropout=7" in message

    @pytest.mark.parametrize(
        ("wrong", "right"), [("bach_size", "batch_size"), ("splitseed", "split_seed"), ("epochs", "max_epochs")]
    )
    def test_unknown_parameter_gets_the_nearest(self, wrong, right):
        message = refused(**{wrong: 1})
        assert message.startswith(f"{wrong}=1: unknown parameter")
        assert f"did you mean {right}?" in message

    def test_unknown_strategy_gets_the_nearest(self):
        assert "did you mean uncertainty?" in refused(strategy="uncertanty")

    def test_configuration_is_frozen(self):
        with pytest.raises(ValidationError):
            RunConfig().lr = 1

    @pytest.mark.parametrize(
        ("variant", "shares"), [("balanced_10", (10, 10)), ("imbalanced_50_1", (50, 1)), ("balanced_0.5", (0.5, 0.5))]
    )
    def test_variant_is_percentages(self, variant, shares):
        assert parse_variant(variant) == shares


class TestValuesThatNameNothing:
    """Each was accepted, or a traceback later."""

    @pytest.mark.parametrize(
        ("parameters", "words"),
        [
            ({"results_dir": ""}, "results_dir=: names nothing"),
            ({"features": ""}, "features=: names nothing"),
            ({"features": "file:"}, "features=file:: names nothing"),
            ({"clip_model": " "}, "names nothing"),
            ({"data_dir": ""}, "or . for that folder"),
            ({"results_dir": "r" * 300}, "300 characters are more than a file system takes"),
            ({"data_dir": "猫" * 90}, "90 characters are more"),
            ({"features": "file:" + "d/" * 2500}, "5,000 characters are more"),
            ({"data_dir": "a\0b"}, "a NUL character"),
            ({"minority_classes": "1,1"}, "minority_classes=1,1: 1 is named twice"),
            ({"minority_classes": ["cat", "3", "cat"]}, "cat is named twice"),
            ({"variant": "balanced_１０"}, "balanced_P"),
            ({"budget": "６０"}, "budget=６０: must be a valid integer"),
            ({"lr": "０.1"}, "must be a valid number"),
            ({"strategy": "mar\ngin"}, "mar\\ngin: no such strategy"),
            ({"budget": "9" * 5000}, "budget=999"),
        ],
    )
    def test_are_refused_in_one_line(self, parameters, words):
        message = refused(**parameters)
        assert words in message
        assert "\n" not in message
        assert len(message) < 700

    def test_the_current_folder_can_be_named(self):
        assert RunConfig(results_dir=".", data_dir="./x").results_dir == "."


class TestIdentity:
    def test_digest_is_stable_and_hexadecimal(self):
        assert re.fullmatch("[0-9a-f]{64}", RunConfig().digest())
        assert RunConfig().digest() == RunConfig(**DOCUMENTED).digest()

    @pytest.mark.parametrize("name", OTHER)
    def test_what_can_change_the_outcome_changes_the_digest(self, name):
        assert RunConfig(**{name: OTHER[name]}).digest() != RunConfig().digest()

    @pytest.mark.parametrize("name", WHERE_IT_RUNS)
    def test_where_it_runs_does_not(self, name):
        values = {"strict": True, "images_on": "host", "training_on": "all", "checkpoint_seconds": 7, "pictures": False}
        values["cache"] = "off"
        value = values.get(name, "cpu")
        assert RunConfig(**{name: value}).digest() == RunConfig().digest()

    @pytest.mark.parametrize(
        ("idle", "around"),
        [
            ({"warm_start": False}, {}),
            ({"minority_classes": "a,b"}, {}),
            ({"clip_prompt": "a photo of {}"}, {}),
            ({"batch_fraction": 0.5, "budget": 9, "initial_min": 9, "init": "random"}, {"strategy": "stratified"}),
            (
                {"schedule": "converge", "stop": "baseline", "pool_scope": "variant", "pool_sample": 9},
                {"strategy": "stratified"},
            ),
        ],
    )
    def test_what_has_no_effect_does_not(self, idle, around):
        assert RunConfig(**around, **idle).digest() == RunConfig(**around).digest()

    @pytest.mark.parametrize(
        ("effective", "around"),
        [
            ({"warm_start": False}, {"schedule": "converge"}),
            ({"minority_classes": ("cat", "dog")}, {"variant": "imbalanced_10_1"}),
            ({"clip_prompt": "a photo of {}"}, {"init": "clip"}),
            ({"class_weights": True}, {"strategy": "stratified"}),
        ],
    )
    def test_what_has_an_effect_there_does(self, effective, around):
        assert RunConfig(**around, **effective).digest() != RunConfig(**around).digest()

    def test_cell_is_shared_by_split_seeds_and_nothing_else(self):
        assert RunConfig(split_seed=1).cell == RunConfig(split_seed=2).cell
        assert RunConfig(seed=1).cell != RunConfig(seed=2).cell
        assert len({RunConfig(**{name: value}).cell for name, value in OTHER.items()}) == len(
            OTHER
        )  # split_seed: as is

    def test_cell_is_a_readable_and_safe_folder_name(self):
        cell = RunConfig(
            variant="imbalanced_50_1", strategy="margin", init="clip", stop="baseline", class_weights=True
        ).cell
        for word in ("cifar10", "imbalanced_50_1", "margin", "clip", "baseline", "weighted"):
            assert word in cell
        assert set(cell) <= set(string.ascii_letters + string.digits + "_-.")
        assert re.search(r"-[0-9a-f]{8}$", cell)

    def test_baseline_is_the_stratified_run_of_the_same_training(self):
        run = RunConfig(strategy="margin", stop="baseline", variant="imbalanced_10_1", lr=0.01, split_seed=34)
        baseline = run.baseline_of()
        assert (
            baseline.digest()
            == RunConfig(strategy="stratified", variant="imbalanced_10_1", lr=0.01, split_seed=34).digest()
        )
        assert (
            RunConfig(**run.model_dump() | {"batch_fraction": 0.1, "init": "clip"}).baseline_of().digest()
            == baseline.digest()
        )

    @pytest.mark.parametrize(
        "parameters",
        [
            {},
            OTHER,
            {"minority_classes": ("a b", "c'd"), "clip_prompt": "a photo of {}, $HOME", "warm_start": False},
            {"budget": 500, "lr": 1e-05},
        ],
    )
    def test_command_starts_the_same_run(self, parameters):
        config = RunConfig(**parameters)
        program, script, *arguments = shlex.split(config.command())
        assert (program, script) == ("python", "train.py")
        assert read_parameters(arguments, "") == config

    def test_survives_a_sweep_file(self):
        config = RunConfig(**OTHER)
        written = yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))
        assert RunConfig.from_mapping(written) == config


class TestTwoStrategies:
    """`strategy=FIRST,SECOND`, the second of which takes over after `switch_after` rounds."""

    @pytest.mark.parametrize("given", ["margin,badge", " margin , badge ", ["margin", "badge"], ("margin", "badge")])
    def test_has_one_spelling(self, given):
        assert RunConfig.from_mapping({"strategy": given}).strategy == "margin,badge"

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ("margin,entropi", "did you mean entropy"),
            ("margin,", "no such strategy; choose from"),
            ("margin,entropy,badge", "3 strategies"),
            ("margin,margin", "the same strategy twice"),
            ("stratified,margin", "a baseline acquires nothing"),
            ("margin,stratified", "a baseline acquires nothing"),
        ],
    )
    def test_is_refused_where_it_makes_no_sense(self, given, words):
        assert words in refused(strategy=given)

    def test_dropout_is_asked_for_where_the_second_needs_it(self):
        assert "compares passes with dropout" in refused(strategy="margin,bald", dropout=0)

    def test_order_and_switch_are_part_of_the_digest(self):
        runs = [RunConfig(strategy=names) for names in ("margin", "badge", "margin,badge", "badge,margin")]
        runs.append(RunConfig(strategy="margin,badge", switch_after=5))
        assert len({run.digest() for run in runs}) == len({run.cell for run in runs}) == 5

    def test_a_switch_changes_nothing_of_one_strategy(self):
        assert RunConfig(switch_after=7).digest() == RunConfig().digest()
        assert RunConfig(switch_after=7).without_effect() == ["switch_after=7"]
        assert RunConfig(strategy="margin,badge", switch_after=7).without_effect() == []

    def test_options_of_both_are_part_of_the_digest(self):
        for changed in ({"typiclust_max_clusters": 50}, {"mc_passes": 5}):
            both = RunConfig(strategy="typiclust_typical,bald", **changed)
            assert both.digest() != RunConfig(strategy="typiclust_typical,bald").digest()

    def test_folder_is_readable_and_safe(self):
        cell = RunConfig(strategy="typiclust_typical,margin").cell
        assert cell.startswith("cifar10-balanced_10-typiclust_typical-then-margin-")
        assert set(cell) <= set(string.ascii_letters + string.digits + "_-.")

    def test_its_version_rises_with_either(self, monkeypatch):
        from dataclasses import replace

        from al.strategies import REGISTRY

        seen = [RunConfig(strategy="margin,entropy").digest()]
        for name in ("margin", "entropy"):
            monkeypatch.setitem(REGISTRY, name, replace(REGISTRY[name], version=2))
            seen.append(RunConfig(strategy="margin,entropy").digest())
        assert len(set(seen)) == 3

    def test_command_starts_the_same_run(self):
        config = RunConfig(strategy="typiclust_typical,margin", switch_after=2)
        assert read_parameters(shlex.split(config.command())[2:], "") == config


EARLIER = {
    "5f6d2be0": {},
    "79a7970b": {"strategy": "margin", "variant": "imbalanced_10_1", "split_seed": 34},
    "a53c4cac": {
        "strategy": "probcover",
        "probcover_delta": 0.5,
        "init": "coreset",
        "features": "facebook/dinov2-small",
    },
    "e918f111": {"strategy": "stratified", "model": "frozen", "features": "a/b"},
    "ad985978": {"strategy": "bald", "batch_noise": "power", "init": "clip"},
}
"""The end of a cell's name, as 1.0.0 wrote it."""


@pytest.mark.parametrize("end", EARLIER)
def test_runs_of_earlier_versions_are_found_again(end):
    assert RunConfig(**EARLIER[end]).cell.endswith(f"-{end}")


class TestVersions:
    def test_a_part_of_a_later_version_changes_the_digest_of_its_runs_only(self, monkeypatch):
        from dataclasses import replace

        from al.strategies import REGISTRY

        before = {name: RunConfig(strategy=name).digest() for name in ("margin", "entropy")}
        monkeypatch.setitem(REGISTRY, "margin", replace(REGISTRY["margin"], version=7))
        assert RunConfig(strategy="margin").digest() != before["margin"]
        assert RunConfig(strategy="entropy").digest() == before["entropy"]


def test_two_image_folders_have_cells_of_their_own():
    first, second = (RunConfig(dataset="imagefolder", data_dir=f"/data/{name}") for name in ("birds", "cats & dogs"))
    assert first.digest() == second.digest()
    assert first.cell.startswith("imagefolder-birds-")
    assert second.cell.startswith("imagefolder-cats_dogs-")
