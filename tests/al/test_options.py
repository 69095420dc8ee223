"""`train.py --help`: a reader finds every parameter once, under a heading, with the values that it takes."""

import pytest

from al.config import RunConfig
from al.options import GROUPS, read_parameters


@pytest.fixture
def shown(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        read_parameters(["--help"], "A run.")
    return capsys.readouterr().out


def test_every_parameter_has_one_line_under_a_heading(shown):
    listed = [line.split()[0].removeprefix("--") for line in shown.splitlines() if line.startswith("  --")]
    assert listed == list(RunConfig.model_fields)
    assert [line for line in shown.splitlines() if line.endswith(":")] == [
        "options:",
        *(f"{t}:" for t in GROUPS.values()),
    ]


def test_values_to_choose_from_are_listed(shown):
    for words in ("--stop budget|baseline", "--schedule epoch|converge", "--batch_noise none|power|softmax|softrank"):
        assert words in shown


def test_both_spellings_are_taken():
    assert read_parameters(["--split-seed=34"], "") == read_parameters(["--split_seed=34"], "")
