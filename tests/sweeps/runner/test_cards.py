"""Which cards a machine has, how many runs go at a time on them, and what is said of sharing one."""

import json

import pytest

from al.errors import UserError
from sweeps.runner import cards
from sweeps.runner.command import cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with no card and no driver; `machine(name, text)` puts a program on its path that prints the text."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path / "mps"))
    cards.cards.cache_clear()

    def install(name, text="", code=0):
        (programs / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
        (programs / name).chmod(0o755)

    yield install
    cards.cards.cache_clear()


TWO = "GPU-8a56-1\nGPU-8a56-2"


class TestCards:
    def test_none_without_a_driver(self, machine):
        assert cards.cards() == ()

    def test_are_those_of_the_driver_by_name(self, machine):
        machine("nvidia-smi", TWO)
        assert cards.cards() == ("GPU-8a56-1", "GPU-8a56-2")

    def test_none_where_the_driver_fails(self, machine):
        machine("nvidia-smi", "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver", 9)
        assert cards.cards() == ()

    @pytest.mark.parametrize(
        ("visible", "expected"),
        [("2", ("2",)), ("1, 0", ("1", "0")), ("GPU-b", ("GPU-b",)), ("", ()), ("-1", ()), ("NoDevFiles", ())],
    )
    def test_what_the_user_has_chosen_wins(self, machine, monkeypatch, visible, expected):
        machine("nvidia-smi", TWO)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert cards.cards() == expected

    def test_the_next_run_gets_the_one_that_fewest_have(self, machine):
        machine("nvidia-smi", TWO)
        one, two = cards.cards()
        assert cards.free_card([]) == one
        assert cards.free_card([one]) == two
        assert cards.free_card([one, two, two]) == one
        assert cards.variables_of(two) == {"CUDA_VISIBLE_DEVICES": two}
        assert cards.variables_of("") == {}


class TestAuto:
    def checked(self, folder, **found):
        (folder / "benchmarks").mkdir()
        (folder / "benchmarks/check.json").write_text(json.dumps(found))

    def test_is_what_the_check_found_best_on_each_card(self, machine, tmp_path):
        machine("nvidia-smi", TWO)
        self.checked(tmp_path, on_cpu=False, best_runs_at_a_time=4)
        assert cards.chosen("auto", "jobs", tmp_path) == 8

    def test_is_one_on_each_card_without_a_check(self, machine, tmp_path):
        machine("nvidia-smi", TWO)
        assert cards.chosen("AUTO", "jobs", tmp_path) == 2

    @pytest.mark.parametrize("found", [{"on_cpu": True, "best_runs_at_a_time": 4}, {"on_cpu": False}, {}])
    def test_a_check_of_something_else_does_not_count(self, machine, tmp_path, found):
        machine("nvidia-smi", TWO)
        self.checked(tmp_path, **found)
        assert cards.chosen("auto", "jobs", tmp_path) == 2

    def test_without_a_card_is_one_a_core(self, machine, tmp_path):
        assert cards.chosen("auto", "jobs", tmp_path) == cores()
        self.checked(tmp_path, on_cpu=True, best_runs_at_a_time=3)
        assert cards.chosen("auto", "jobs", tmp_path) == 3

    def test_a_number_is_a_number(self, machine, tmp_path):
        assert cards.chosen("3", "jobs", tmp_path) == 3

    @pytest.mark.parametrize("wrong", ["0", "-2", "many", "1.5", ""])
    def test_anything_else_is_said(self, machine, tmp_path, wrong):
        with pytest.raises(UserError, match=rf"^--agents {wrong}: .*use 1 or more"):
            cards.chosen(wrong, "agents", tmp_path)


class TestSharing:
    def test_is_said_how_to_do_it_better(self, machine):
        machine("nvidia-smi", "GPU-1")
        machine("nvidia-cuda-mps-control")
        assert "nvidia-cuda-mps-control -d" in cards.advice(4)

    def test_nothing_is_said_where_it_is_done(self, machine, tmp_path):
        machine("nvidia-smi", "GPU-1")
        machine("nvidia-cuda-mps-control")
        (tmp_path / "mps").mkdir()
        (tmp_path / "mps/control").touch()
        assert cards.advice(4) == ""

    def test_nor_where_it_does_not_help_or_cannot_be(self, machine):
        assert cards.advice(4) == "", "no card"
        machine("nvidia-smi", TWO)
        cards.cards.cache_clear()
        assert cards.advice(4) == "", "no such service"
        machine("nvidia-cuda-mps-control")
        assert cards.advice(2) == "", "a card for each"
