"""W&B as a projection of a run: what it shows, where its files lie, and what a sweep may set."""

import json
import subprocess
import sys
from pathlib import Path
from signal import SIGTERM

import launch
import pytest
import runs

from al.errors import UserError
from al.options import read_parameters
from al.tracking import server as tracking

KEY = "5ec2e7" * 6 + "abcd"
SPLIT_METRICS = ("loss", "accuracy", "balanced_accuracy", "precision", "recall", "f1")


def inspect(folder: Path, *options: str) -> str:
    """What `wandb leet inspect` reads back, as a user without account or network would."""
    program = Path(sys.executable).with_name("wandb")
    done = subprocess.run(
        [program, "leet", "inspect", "--json", *options, folder], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def records(folder: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in inspect(folder).splitlines()]
    return [line[kind] for line in lines if line["type"] == kind]


def history(folder: Path) -> dict[int, dict]:
    """Step -> what was logged at it."""
    return {entry["step"]["num"]: entry["item"] for entry in records(folder, "history")}


def fragments(results: Path) -> list[Path]:
    return sorted((results / "wandb").glob("offline-run-*"))


def as_logged(row: dict) -> dict:
    """The documented names of one line of epochs.jsonl, written out by hand."""
    expected = {name: row[name] for name in ("epoch", "round", "labels", "human_labels", "wrong_labels", "lr", "best")}
    for split in ("train", "val", "test"):
        for name in SPLIT_METRICS:
            expected[f"{split}/{name}"] = row[split]["f1-score" if name == "f1" else name]
    expected |= {"val/ece": row["val"]["ece"], "test/ece": row["test"]["ece"]}
    for label, values in row["per_class"].items():
        for name in ("precision", "recall"):
            expected[f"class/{label}/{name}"] = values[name]
        expected[f"class/{label}/f1"] = values["f1-score"]
        expected[f"labels_by_class/{label}"] = row["labels_by_class"][label]
    expected |= {f"seconds/{name}": value for name, value in row["seconds"].items()}
    if row["pick"]:
        expected |= {f"pick/{name}": row["pick"][name] for name in ("mean_score", "class_entropy", "duplicates")}
    if row["curve"]:
        expected |= {f"curve/{name}": row["curve"][name] for name in ("accuracy", "loss")}
        expected["curve/f1"] = row["curve"]["f1-score"]
    return expected


@pytest.fixture(scope="module")
def fragment(offline_run):
    (folder,) = fragments(offline_run.results)
    return folder


@pytest.fixture(scope="module")
def steps(fragment):
    return history(fragment)


@pytest.fixture(scope="module")
def summary(fragment):
    return json.loads(inspect(fragment, "--summary"))


class TestOffline:
    def test_history_is_epochs_jsonl(self, offline_run, steps):
        rows = runs.read_lines(offline_run.folder / "epochs.jsonl")
        for row in rows:
            logged = steps[row["epoch"]]
            scalars = {k: v for k, v in logged.items() if not k.startswith(("_", "pick/sheet"))}
            assert scalars == pytest.approx(as_logged(row), rel=1e-12)
        assert set(steps) == {row["epoch"] for row in rows} | {len(rows) + 1}

    def test_sheet_comes_with_each_acquisition(self, offline_run, fragment, steps):
        shown = {step: item["pick/sheet.path"] for step, item in steps.items() if "pick/sheet.path" in item}
        assert set(shown) == {1, 2, 3}
        for step, path in shown.items():
            written = offline_run.folder / "plots" / "picks" / f"round_{step:03d}.png"
            assert (fragment / "files" / path).read_bytes() == written.read_bytes()

    def test_confusion_matrix_and_plots_come_at_the_end(self, offline_run, steps):
        end = steps[max(steps)]
        assert end["confusion/test_table.nrows"] == 100
        plots = {key.split(".")[0] for key in end if key.startswith("plots/")}
        assert plots == {f"plots/{path.stem}" for path in (offline_run.folder / "plots").glob("*.png")}

    def test_run_is_placed_by_cell_strategy_and_seed(self, offline_run, fragment):
        (run,) = records(fragment, "run")
        config = runs.read_json(offline_run.folder / "config.json")
        assert run["run_id"] == config["wandb_run_id"]
        assert run["run_group"] == config["cell"]
        assert run["job_type"] == "uncertainty"
        assert run["display_name"] == f"{config['cell']}-12"
        assert run["tags"] == ["digits", "balanced_20"]
        assert config["wandb_tags"] == []

    def test_config_is_the_runs(self, offline_run, summary):
        expected = runs.read_json(offline_run.folder / "config.json")
        shown = {name: value for name, value in summary["config"].items() if not name.startswith("_")}
        known = {"digest": expected["digest"], "cell": expected["cell"], "fingerprint": expected["data"]["fingerprint"]}
        assert shown == expected["config"] | known

    def test_summary_is_the_best_epochs(self, offline_run, summary):
        """What a sweep optimises and a table shows; plain numbers."""
        metrics = runs.read_json(offline_run.folder / "performance_metrics.json")
        assert summary["summary"]["test/accuracy"] == pytest.approx(metrics["test_metrics"]["accuracy"])
        assert summary["summary"]["test/loss"] == pytest.approx(metrics["test_metrics"]["loss"])
        for split, group in (("train", "training"), ("val", "validation")):
            best = metrics[f"{group}_metrics_for_best_epoch"]
            for name in (f"{split}/loss", f"best/{split}/loss"):
                assert summary["summary"][name] == pytest.approx(best["loss"])
        assert 0 < summary["summary"]["curve/area"] < 100
        assert summary["summary"]["best/epoch"] == metrics["best_epoch"]
        assert summary["summary"]["labels_used"] == 60
        assert summary["summary"]["best_epoch"] == metrics["best_epoch"]
        assert summary["exit_code"] == 0

    def test_epochs_are_drawn_by_epoch_and_curves_by_labels(self, fragment):
        axes = {entry.get("glob_name"): entry.get("step_metric") for entry in records(fragment, "metric")}
        assert axes["test/*"] == axes["val/*"] == axes["train/*"] == axes["class/*"] == "epoch"
        assert axes["curve/*"] == "labels"

    def test_names_have_no_dots(self, steps):
        rich = ("pick/sheet", "plots/", "confusion/")
        assert not [name for item in steps.values() for name in item if "." in name and not name.startswith(rich)]

    def test_writes_only_inside_the_results_folder(self, offline_run):
        """W&B was started without account or mode, with an empty home and an empty folder for temporary files."""
        for folder in (offline_run.home, offline_run.base / "tmp"):
            assert not [name for name in runs.files(folder) if "wandb" in name]
        assert {path.name for path in offline_run.results.iterdir()} == {"wandb", offline_run.folder.parent.name}
        assert not (launch.ROOT / "wandb").exists()

    def test_attempts_together_show_every_epoch(self, launcher, tmp_path):
        env = launch.environment(tmp_path, WANDB_MODE="offline")
        args = launch.small(tmp_path / "results")
        strike = ("fsync epochs.jsonl", 4, SIGTERM)
        assert launcher.run(args, env, strike=strike).code == 143
        first = fragments(tmp_path / "results")
        assert launcher.run(args, env).code == 0
        both = fragments(tmp_path / "results")
        assert len(both) == 2
        assert len({records(folder, "run")[0]["run_id"] for folder in both}) == 1
        assert json.loads(inspect(first[0], "--summary"))["exit_code"] == 143
        merged = history(both[0]) | history(both[1])
        for row in runs.read_lines(runs.only_run(tmp_path / "results") / "epochs.jsonl"):
            logged = merged[row["epoch"]]
            assert logged["test/loss"] == pytest.approx(row["test"]["loss"])
            assert logged["labels"] == row["labels"]


class TestSweep:
    @pytest.fixture(scope="class")
    @classmethod
    def swept(cls, once, launcher):
        """A run as an agent starts it: parameters in a file, a run id, an argument of the agent's own, and a key."""

        def make(folder):
            parameters = {"wandb_version": 1} | {
                name: {"value": value} for name, value in {"strategy": "margin", "lr": 0.01, "max_epochs": 5}.items()
            }
            (folder / "parameters.yaml").write_text(json.dumps(parameters))
            env = launch.environment(
                folder / "home",
                WANDB_MODE="offline",
                WANDB_SWEEP_PARAM_PATH=str(folder / "parameters.yaml"),
                WANDB_RUN_ID="abc12345",
                WANDB_API_KEY=KEY,
            )
            args = [*launch.small(folder / "results", strategy="random"), "--_wandb={}", "--later_option=1"]
            outcome = launcher.run(args, env)
            (folder / "output").write_text(outcome.stdout + outcome.stderr)
            (folder / "stderr").write_text(outcome.stderr)
            assert outcome.code == 0, outcome.stderr

        return once("swept", make)

    def test_parameters_win_over_the_command_line(self, swept):
        config = runs.read_json(runs.only_run(swept / "results") / "config.json")["config"]
        assert (config["strategy"], config["lr"], config["max_epochs"]) == ("margin", 0.01, 5)
        assert config["budget"] == 60

    def test_wandb_shows_the_same_parameters(self, swept):
        (folder,) = fragments(swept / "results")
        shown = json.loads(inspect(folder, "--summary"))
        assert (shown["config"]["strategy"], shown["config"]["lr"]) == ("margin", 0.01)
        assert shown["run_id"] == "abc12345"
        (run,) = records(folder, "run")
        assert run["job_type"] == "margin"

    def test_unknown_arguments_are_warnings(self, swept):
        warnings = (swept / "stderr").read_text().splitlines()
        assert len(warnings) == 2
        for line, argument in zip(warnings, ("--_wandb={}", "--later_option=1")):
            assert line.startswith("warning: ")
            assert argument in line

    def test_key_is_in_no_file_and_no_output(self, swept):
        for path in swept.rglob("*"):
            if path.is_file():
                assert KEY.encode() not in path.read_bytes(), path


class TestParameters:
    @pytest.fixture
    def sweep(self, monkeypatch, tmp_path):
        def write(content):
            (tmp_path / "parameters.yaml").write_text(content)
            monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "parameters.yaml"))

        return write

    def test_numbers_may_be_strings(self, sweep):
        sweep("lr: {value: 1e-2}\nbatch_size: {value: 64.0}\nbudget: {value: null}\n")
        config = read_parameters(["--lr=0.5", "--budget=9"], "")
        assert (config.lr, config.batch_size, config.budget) == (0.01, 64, None)

    def test_nothing_in_the_file_is_executed(self, sweep, tmp_path):
        sweep(f"lr: {{value: !!python/object/apply:os.mkdir ['{tmp_path / 'executed'}']}}")
        with pytest.raises(UserError, match="WANDB_SWEEP_PARAM_PATH"):
            read_parameters([], "")
        assert not (tmp_path / "executed").exists()

    def test_unknown_parameter_of_a_sweep_is_an_error(self, sweep):
        sweep("batchsize: {value: 3}")
        with pytest.raises(UserError, match=r"batchsize.*batch_size"):
            read_parameters([], "")

    def test_sweep_id_alone_makes_unknown_arguments_warnings(self, monkeypatch, capsys):
        monkeypatch.setenv("WANDB_SWEEP_ID", "s")
        assert read_parameters(["--unheard_of=1", "--lr=0.01"], "").lr == 0.01
        assert "--unheard_of=1" in capsys.readouterr().err


class TestMode:
    @pytest.fixture(autouse=True)
    def nobody(self, monkeypatch, tmp_path):
        for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def test_without_a_key_is_offline(self):
        assert tracking.mode() == "offline"

    def test_with_a_key_is_online(self, monkeypatch):
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert tracking.mode() == "online"

    def test_with_a_login_for_this_server_is_online(self, monkeypatch, tmp_path):
        (tmp_path / "netrc").write_text(f"machine wandb.example.org\n login user\n password {KEY}\n")
        (tmp_path / "netrc").chmod(0o600)
        assert tracking.mode() == "offline"
        monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
        assert tracking.mode() == "online"

    @pytest.mark.parametrize("mode", ["online", "offline", "disabled"])
    def test_that_is_asked_for_wins(self, monkeypatch, mode):
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_MODE", mode)
        assert tracking.mode() == mode

    def test_disabled_imports_no_wandb(self, tmp_path):
        """A wandb that cannot be imported is in the way of everything that tries."""
        (tmp_path / "wandb").mkdir()
        (tmp_path / "wandb" / "__init__.py").write_text("raise RuntimeError('wandb was imported')")
        env = launch.environment(WANDB_MODE="disabled", PYTHONPATH=str(tmp_path))
        outcome = launch.command(*launch.small(tmp_path / "results", max_epochs=4, strategy="random"), env=env)
        assert outcome.code == 0, outcome.stderr
        assert not (tmp_path / "results" / "wandb").exists()
