"""Runs written as CSV and read back: what a report is made of is the same."""

import csv
import json

import numpy as np
import pytest
from report_results import World, write_cells

from al.errors import UserError
from al.records import METRICS
from sweeps.report.__main__ import main
from sweeps.report.analysis import analyse
from sweeps.report.cells import organise
from sweeps.report.csv_runs import EPOCHS, RUNS, load_csv, write_csv
from sweeps.report.curves import learning_curve
from sweeps.report.load import load_results

DIGITS = {"dataset": "digits", "model": "small_cnn", "weights": "none", "variant": "balanced_20", "initial_min": 20}
SMALL = World(classes=("a b", *"cdefghi", "j,"), train=2000, test=500)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A results folder, and what `write_csv` makes of it."""
    results, published = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("csv")
    write_cells(results, SMALL, ("stratified", "margin", "random"), (12, 34, 56), **DIGITS)
    write_csv(load_results(results).runs, published)
    return results, published


@pytest.fixture
def pairs(folders):
    results, published = folders
    known = {run.digest: run for run in load_results(results).runs}
    found = load_csv(published)
    assert found.left_out == []
    assert {run.digest for run in found.runs} == set(known)
    return [(known[run.digest], run) for run in found.runs]


def test_configuration_identity_and_results_are_the_same(pairs):
    for run, back in pairs:
        assert back.config == run.config.model_copy(update={"results_dir": "results"})
        assert back.identity == run.identity
        assert back.data == run.data
        assert back.test == run.test
        assert back.per_class.keys() == run.per_class.keys()
        assert back.machine == run.machine
        assert (back.labels, back.human_labels) == (run.labels, run.human_labels)
        assert back.seconds == pytest.approx(run.seconds, rel=1e-6)
        assert back.result.reached_baseline == run.result.reached_baseline
        assert back.result.best.splits["test"].calibration == run.result.best.splits["test"].calibration


@pytest.mark.parametrize("operations", [None, [], ["Flash Attention", "put_"]])
def test_what_does_not_repeat_is_the_same(tmp_path, operations):
    write_cells(tmp_path / "results", World(not_repeatable=operations), ("random",), (12,), **DIGITS)
    write_csv(load_results(tmp_path / "results").runs, tmp_path)
    (run,) = load_csv(tmp_path).runs
    assert run.result.environment.not_repeatable == operations


@pytest.mark.parametrize("classes", [("a/b", "c"), ("a\\", "b\\/c"), ("a\rb", "c\nd"), ('"', "a,b"), ("[x", "é")])
def test_any_name_of_a_class_comes_back(tmp_path, classes):
    write_cells(tmp_path / "results", World(classes=classes, train=400, test=100), ("random",), (12,), **DIGITS)
    write_csv(load_results(tmp_path / "results").runs, tmp_path)
    (kept,), (run,) = load_results(tmp_path / "results").runs, load_csv(tmp_path).runs
    assert run.data.classes == list(classes)
    assert run.per_class.keys() == kept.per_class.keys()


def test_files_that_a_spreadsheet_saved(folders, tmp_path):
    for name in (RUNS, EPOCHS):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (folders[1] / name).read_bytes().replace(b"\n", b"\r\n"))
    assert len(load_csv(tmp_path).runs) == 9


@pytest.mark.parametrize("name", [RUNS, EPOCHS])
@pytest.mark.parametrize("damage", [lambda text: text.replace("run,", "no,", 1), lambda text: text[:-1] + ",1\n"])
def test_cells_without_a_column_are_one_line(folders, tmp_path, name, damage):
    for file in (RUNS, EPOCHS):
        text = (folders[1] / file).read_text()
        (tmp_path / file).write_text(damage(text) if file == name else text)
    with pytest.raises(UserError, match=f"{name} cannot be read .row [0-9]+ has no number of a run, or more cells"):
        load_csv(tmp_path)


def test_a_run_that_a_report_leaves_out_is_not_published(tmp_path, capsys):
    """Files do not say which images a run started from, so a report on them could not leave it out."""
    write_cells(tmp_path / "results", SMALL, ("margin", "random", "entropy"), (12,), **DIGITS)
    (rounds,) = tmp_path.glob("results/*-entropy-*/split_seed_12/rounds.jsonl")
    first, *others = rounds.read_text().splitlines()
    other = json.loads(first)
    other["rows"] = [row + 1 for row in other["rows"]]
    rounds.write_text("\n".join([json.dumps(other), *others]) + "\n")
    assert main(["--results-dir", str(tmp_path / "results"), "--to-csv", str(tmp_path / "csv")]) == 0
    said = capsys.readouterr().out
    assert "2 runs, 0 missing, 1 left out" in said
    assert "its initial pool differs" in said
    assert {run.config.strategy for run in load_csv(tmp_path / "csv").runs} == {"margin", "random"}


def test_the_page_says_where_the_runs_came_from(folders, tmp_path, capsys):
    assert main(["--from-csv", str(folders[1]), "--out", str(tmp_path)]) == 0
    assert f"9 complete runs of 3 configurations in {folders[1]};" in capsys.readouterr().out
    command = f"python -m sweeps.report --results-dir results --from-csv {folders[1]}"
    assert command in (tmp_path / "index.html").read_text()


def test_no_day_is_told_that_is_not_known(folders, tmp_path, capsys):
    assert main(["--from-csv", str(folders[1]), "--out", str(tmp_path)]) == 0
    assert "Run on" not in capsys.readouterr().out


def test_learning_curves_are_the_same(pairs):
    for run, back in pairs:
        kept, found = learning_curve(run), learning_curve(back)
        assert np.array_equal(found.labels, kept.labels)
        assert np.array_equal(found.accuracy, kept.accuracy)
        assert found.loss == pytest.approx(kept.loss, rel=1e-6)
        assert found.seconds == pytest.approx(kept.seconds, rel=1e-5)


def test_what_clustering_took_comes_back(tmp_path):
    write_cells(tmp_path / "results", SMALL, ("typiclust",), (12,), **DIGITS)
    (kept,) = load_results(tmp_path / "results").runs
    write_csv([kept], tmp_path)
    (found,) = load_csv(tmp_path).runs
    assert kept.spent("cluster") > 1
    assert found.spent("cluster") == pytest.approx(kept.spent("cluster"))


def test_what_embeddings_took_comes_back_and_older_files_have_none(tmp_path):
    for name, took in (("old", None), ("new", 40.0)):
        world = World(classes=[str(k) for k in range(10)], train=1437, test=360, embedding=took)
        write_cells(tmp_path / name, world, ("margin",), (1,), **DIGITS)
        write_csv(load_results(tmp_path / name).runs, tmp_path / f"{name} csv")
    (kept,) = load_results(tmp_path / "new").runs
    old, new = (load_csv(tmp_path / f"{name} csv").runs[0] for name in ("old", "new"))
    assert (old.embed_seconds, new.embed_seconds) == (0, 40)
    assert new.seconds == pytest.approx(kept.seconds)
    assert "seconds/embed" not in (tmp_path / "old csv" / "epochs.csv").read_text()


def test_the_verdict_is_the_same(folders):
    results, published = folders
    verdicts = []
    for found in (load_results(results), load_csv(published)):
        (family,) = organise(found)
        verdicts.append([analyse(setting).verdict.estimates for setting in family.settings])
    assert verdicts[1] == verdicts[0]


def test_a_row_of_another_version_or_changed_by_hand_is_left_out(folders, tmp_path):
    _, published = folders
    rows = (published / RUNS).read_text().splitlines(keepends=True)
    (tmp_path / EPOCHS).write_text((published / EPOCHS).read_text())
    (tmp_path / RUNS).write_text("".join([rows[0], rows[1].replace("margin", "entropy", 1), *rows[2:]]))
    found = load_csv(tmp_path)
    assert len(found.runs) == len(rows) - 2
    (left_out,) = found.left_out
    assert "digest is not that of its parameters" in left_out.reason


def test_a_run_without_all_of_its_epochs_is_left_out(folders, tmp_path):
    _, published = folders
    rows = (published / EPOCHS).read_text().splitlines(keepends=True)
    (tmp_path / RUNS).write_text((published / RUNS).read_text())
    (tmp_path / EPOCHS).write_text("".join([rows[0], *rows[2:]]))
    (left_out,) = load_csv(tmp_path).left_out
    assert "epochs were trained" in left_out.reason


def test_no_place_of_anybodys_machine_is_written(folders):
    results, published = folders
    text = (published / RUNS).read_text() + (published / EPOCHS).read_text()
    assert str(results) not in text
    assert "platform" not in text.splitlines()[0]


def test_accuracies_are_written_in_full(folders):
    results, published = folders
    known = {run.digest: run for run in load_results(results).runs}
    with (published / RUNS).open(newline="") as file:
        for row in csv.DictReader(file):
            assert row["test/accuracy"] == repr(known[row["digest"]].test["accuracy"])
            assert all(f"test/{METRICS[name].key}" in row for name in ("loss", "accuracy", "f1-score"))


def test_the_commands(folders, tmp_path, capsys):
    results, _ = folders
    out, report = tmp_path / "csv", tmp_path / "report"
    assert main(["--results-dir", str(results), "--to-csv", str(out)]) == 0
    assert "9 runs" in capsys.readouterr().out
    assert main(["--from-csv", str(out), "--out", str(report)]) == 0
    assert (report / "index.html").stat().st_size > 10_000
    assert main(["--from-csv", str(tmp_path / "nowhere")]) == 2
    assert "cannot be read (No such file or directory); name a folder that --to-csv wrote" in capsys.readouterr().err


def test_nothing_is_no_publication(tmp_path):
    (tmp_path / "results").mkdir()
    with pytest.raises(UserError, match="no such folder"):
        load_results(tmp_path / "none")
    assert main(["--results-dir", str(tmp_path / "results"), "--to-csv", str(tmp_path / "csv")]) == 2
    assert not (tmp_path / "csv").exists()
