"""A published run can be carried out again from its row, and one that does not come out the same is told."""

import numpy as np
import pytest

from al.config import RunConfig
from al.labels import LabelledSet
from al.learning.network_learner import NetworkLearner
from benchmarks import repeat, training_choices
from benchmarks.reference.curves import DIGITS
from benchmarks.runs import run_here
from sweeps.report.csv_runs import EPOCHS, RUNS, write_csv
from sweeps.report.load import load_results


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    results, folder = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("csv")
    chosen = {"strategy": "badge", "split_seed": 3, "results_dir": str(results), "pictures": False}
    run_here(RunConfig.from_mapping({**DIGITS.parameters, **chosen}))
    write_csv(load_results(results).runs, folder)
    return folder


def test_the_same_to_the_last_digit(published, tmp_path, capsys):
    assert repeat.main(["1", "--from-csv", str(published), "--results-dir", str(tmp_path)]) == 0
    assert "balanced_25.5 badge, split seed 3" in capsys.readouterr().out


def test_another_accuracy_anywhere_is_not_the_same(published, tmp_path, capsys):
    rows = (published / EPOCHS).read_text().splitlines()
    columns = rows[0].split(",")
    cells = rows[2].split(",")
    cells[columns.index("test/accuracy")] = "50.0"
    (tmp_path / EPOCHS).write_text("\n".join([*rows[:2], ",".join(cells), *rows[3:]]) + "\n")
    (tmp_path / RUNS).write_text((published / RUNS).read_text())
    assert repeat.main(["1", "--from-csv", str(tmp_path), "--results-dir", str(tmp_path)]) == 1
    assert "NOT THE SAME" in capsys.readouterr().out


def test_a_row_that_is_not_there(published, tmp_path, capsys):
    assert repeat.main(["2", "--from-csv", str(published), "--results-dir", str(tmp_path)]) == 2
    assert "row=2: no run of" in capsys.readouterr().err


class TestTrainingChoices:
    def test_a_leak_trains_on_the_validation_images_and_ends_with_its_block(self, monkeypatch):
        seen = []
        monkeypatch.setattr(NetworkLearner, "fit_epoch", lambda self, labelled, number, lr: seen.append(labelled))
        labelled = LabelledSet(np.array([4, 2]), np.array([7]), np.arange(9), np.array([], np.int64))
        with training_choices.leaking():
            NetworkLearner.fit_epoch(None, labelled, 1, 0.1)
        NetworkLearner.fit_epoch(None, labelled, 2, 0.1)
        assert [rows.train.tolist() for rows in seen] == [[4, 2, 7], [4, 2]]
        assert [rows.val.tolist() for rows in seen] == [[7], [7]]

    def test_the_table_has_every_choice_with_what_it_changes(self):
        outcomes = [
            training_choices.Outcome(
                choice, strategy, seed, 250, 30, 90.0, 80.0 + (choice == "converged") + seed / 100, 70.0
            )
            for choice in training_choices.CHOICES
            for strategy in training_choices.STRATEGIES
            for seed in training_choices.SEEDS
        ]
        lines = training_choices.table(outcomes)
        assert len(lines) == 2 + len(training_choices.CHOICES) * len(training_choices.STRATEGIES)
        assert "| converged | `margin` | 30 | 90.0 % | 81.5 % | +1.0 [+1.0, +1.0] | 70.0 % |" in lines
