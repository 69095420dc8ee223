"""What a sweep costs, from runs that are done."""

import json

import launch
import pytest
import yaml

from sweeps.runner.plan import Cost, main, within

COST = Cost("margin", 4, (10.0, 20.0))


def sweep_file(folder, **changed):
    parameters = {name: {"value": value} for name, value in launch.SMALL.items()}
    parameters |= {"strategy": {"values": ["margin", "random"]}, "split_seed": {"values": [1, 2, 3]}}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({"program": "train.py", "method": "grid", "parameters": parameters | changed}))
    return str(path)


def done(results, strategy, seed, seconds, device="cpu, 1 threads", **changed):
    """What a run leaves that a plan looks at."""
    folder = results / f"{strategy}-{device}" / f"split_seed_{seed}"
    folder.mkdir(parents=True)
    config = {**launch.SMALL, "strategy": strategy, "variant": "balanced_20", **changed}
    known = {"init": "stratified", "stop": "budget", "schedule": "epoch", "class_weights": False, "image_size": None}
    metrics = {"config": known | config, "training_time_seconds": seconds, "environment": {"device": device}}
    (folder / "performance_metrics.json").write_text(json.dumps(metrics))


class TestCost:
    def test_is_runs_times_the_mean_with_least_and_most(self):
        assert COST.seconds == 60
        assert COST.spread == (40, 80)
        assert Cost("new", 3, ()).seconds == 0

    @pytest.mark.parametrize(("seconds", "runs"), [(14, 0), (15, 1), (59, 3), (60, 4), (1000, 4)])
    def test_of_a_budget_whole_runs_fit(self, seconds, runs):
        assert within([COST, Cost("new", 3, ())], seconds) == runs


class TestCommand:
    def test_says_what_each_machine_takes(self, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(launch.ROOT)
        for seed, seconds in ((7, 100), (8, 200)):
            done(tmp_path, "margin", seed, seconds)
        done(tmp_path, "random", 7, 60)
        done(tmp_path, "margin", 9, 20, device="NVIDIA H100")
        assert main([sweep_file(tmp_path), "--results-dir", str(tmp_path), "--budget-hours", "0.1"]) == 0
        said = capsys.readouterr().out
        assert said.startswith("6 runs, 0 complete, 6 to do\n")
        cards, cpu = said.split("NVIDIA H100:")[1], said.split("cpu, 1 thread:")[1]
        assert "standard deviation" in cpu
        assert "6 runs, one after another: 10 min 30 s (8 min 0 s to 13 min 0 s)" in cpu or "10 min" in cpu
        assert "2 of 6 runs fit" in cpu
        assert "all 6 fit" in cards.split("cpu, 1")[0]
        assert "similar" not in cpu
        assert next(line for line in cards.splitlines() if "-random-" in line).endswith("by the most similar runs")

    def test_nothing_known_is_told(self, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(launch.ROOT)
        assert main([sweep_file(tmp_path), "--results-dir", str(tmp_path / "none")]) == 2
        assert capsys.readouterr().err.endswith("nothing is known; use --calibrate\n")

    def test_a_budget_of_nothing_is_refused(self, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(launch.ROOT)
        assert main([sweep_file(tmp_path), "--budget-hours", "0"]) == 2
        assert "--budget-hours 0: no time" in capsys.readouterr().err

    @pytest.mark.slow
    def test_one_run_is_enough_to_know(self, tmp_path, capfd, monkeypatch):
        monkeypatch.chdir(launch.ROOT)
        monkeypatch.setenv("WANDB_MODE", "disabled")
        file = sweep_file(tmp_path, strategy={"value": "random"}, max_epochs={"value": 4}, pictures={"value": False})
        assert main([file, "--results-dir", str(tmp_path / "results"), "--calibrate"]) == 0
        assert "3 runs, 1 complete, 2 to do" in capfd.readouterr().out


def test_a_folder_to_learn_from_that_is_not_there_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(launch.ROOT)
    assert main([sweep_file(tmp_path), "--results-dir", str(tmp_path), "--known", "/nowhere"]) == 2
    assert capsys.readouterr().err.startswith("error: --known /nowhere: no such folder")
