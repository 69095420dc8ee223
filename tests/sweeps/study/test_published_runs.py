"""What `benchmarks/study` says of the study is what its CSV files say."""

from pathlib import Path

import pytest

from sweeps.report.csv_runs import load_csv
from sweeps.report.zero_shot import own_zero_shot
from sweeps.study.answers import answers

PUBLISHED = Path(__file__).parents[3] / "benchmarks" / "study"


@pytest.fixture(scope="module")
def results():
    return load_csv(PUBLISHED)


def test_every_row_is_a_run_of_this_version(results):
    assert results.left_out == []


def test_every_run_of_the_first_two_experiments_is_there(results):
    study = [run for run in results.runs if run.data.train == 50_000 and run.config.strategy != "random"]
    assert len(study) == 190
    assert {run.config.split_seed for run in study} == {12, 34, 56, 78, 90}


def test_the_page_is_made_of_them(results):
    page = (PUBLISHED / "README.md").read_text()
    assert page.endswith("\n".join(answers(results, own_zero_shot(PUBLISHED))) + "\n")


def test_they_take_little_room():
    assert sum(path.stat().st_size for path in PUBLISHED.rglob("*") if path.is_file()) < 1.5e6
