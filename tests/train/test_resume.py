"""A run that is cut anywhere and started again ends as one that never was."""

import json
import os
import shutil
import signal
import time
from signal import SIGINT, SIGKILL, SIGTERM, SIGUSR1

import launch
import pytest
import runs

from al.signals import EXIT_PREEMPTED

EXIT_STATUS = {SIGINT: 130, SIGTERM: 143, SIGUSR1: EXIT_PREEMPTED}
ENDLESS = {"max_epochs": 500, "patience": 500, "min_delta": 0}


def finish(launcher, results, reference, **changed):
    """Gives the same command again; it must end well, and as the reference did."""
    outcome = launcher.run(launch.small(results, **changed))
    assert outcome.code == 0, outcome.stderr
    runs.assert_same(runs.only_run(results), reference)
    return outcome


@pytest.fixture
def going(launcher, tmp_path):
    """A run in its third epoch or later that goes on for long."""
    fork = launcher.start(launch.small(tmp_path / "results", **ENDLESS))
    fork.until(lambda: any(len(runs.read_lines(p)) > 2 for p in tmp_path.glob("results/*/*/epochs.jsonl")))
    yield fork, tmp_path / "results"
    if fork.poll() is None:
        fork.send(SIGKILL)
        fork.wait()


class TestKill:
    @pytest.mark.parametrize(
        ("before", "nth"),
        [
            ("fsync config.json", 1),  # nothing but the initial pool is written
            ("replace checkpoint.pt", 1),  # an epoch and its round are written, and no checkpoint
            ("fsync epochs.jsonl", 4),  # a round is written, its epoch perhaps
            ("replace checkpoint.pt", 3),  # an epoch line is ahead of the checkpoint
            ("replace checkpoint.pt", 8),  # in the last epoch
        ],
    )
    def test_while_training(self, launcher, tmp_path, offline_run, before, nth):
        outcome = launcher.run(launch.small(tmp_path), strike=(before, nth, SIGKILL))
        assert outcome.code == -SIGKILL, outcome.stderr
        assert not list(tmp_path.rglob("performance_metrics.json"))
        finish(launcher, tmp_path, offline_run.folder)

    @pytest.mark.parametrize(
        ("before", "nth"),
        [
            ("replace best_model.safetensors", 1),
            ("replace al_tracking.json", 1),
            ("replace performance_metrics.json", 1),
            ("unlink checkpoint.pt", 1),
            ("replace performance_metrics.json", 2),  # the aggregate's
        ],
    )
    def test_while_writing_results(self, launcher, tmp_path, offline_run, cut_before_results, before, nth):
        results = shutil.copytree(cut_before_results, tmp_path / "results")
        outcome = launcher.run(launch.small(results), strike=(before, nth, SIGKILL))
        assert outcome.code == -SIGKILL, outcome.stderr
        finish(launcher, results, offline_run.folder)
        aggregated = runs.only_run(results).parent / "aggregated"
        assert runs.files(aggregated) == runs.files(offline_run.folder.parent / "aggregated")

    def test_again_and_again_and_in_the_middle_of_a_line(self, launcher, tmp_path, offline_run):
        for nth in (2, 1, 2, 2):
            outcome = launcher.run(launch.small(tmp_path), strike=("replace checkpoint.pt", nth, SIGKILL))
            assert outcome.code == -SIGKILL, outcome.stderr
            for name in ("epochs.jsonl", "rounds.jsonl"):
                with (runs.only_run(tmp_path) / name).open("a") as file:
                    file.write('{"epoch": 99, "rou')
        finish(launcher, tmp_path, offline_run.folder)

    def test_loses_at_most_one_epoch_with_a_checkpoint_after_each(self, launcher, tmp_path, offline_run):
        launcher.run(launch.small(tmp_path), strike=("replace checkpoint.pt", 6, SIGKILL))
        outcome = finish(launcher, tmp_path, offline_run.folder)
        assert "goes on after epoch 5" in outcome.stdout
        assert sum("  epoch  " in line for line in outcome.stdout.splitlines()) == 3

    @pytest.mark.parametrize("warm", ["true", "false"])
    def test_when_every_round_trains_to_convergence(self, launcher, tmp_path, once, warm):
        changed = {"schedule": "converge", "warm_start": warm, "max_epochs": 2, "strategy": "typiclust"}
        changed |= {"augment": "true", "class_weights": "true"}

        def make(folder):
            assert launcher.run(launch.small(folder, **changed)).code == 0

        reference = runs.only_run(once(f"converge_{warm}", make))
        for nth in (2, 3):  # in the middle of a round, and with a new one begun
            outcome = launcher.run(launch.small(tmp_path, **changed), strike=("replace checkpoint.pt", nth, SIGKILL))
            assert outcome.code == -SIGKILL, outcome.stderr
        finish(launcher, tmp_path, reference, **changed)

    @pytest.mark.slow
    @pytest.mark.parametrize("nth", range(1, 9))
    @pytest.mark.parametrize("before", ["fsync epochs.jsonl", "replace checkpoint.pt", "unlink checkpoint"])
    def test_everywhere(self, launcher, tmp_path, offline_run, before, nth):
        launcher.run(launch.small(tmp_path), strike=(before, nth, SIGKILL))
        finish(launcher, tmp_path, offline_run.folder)


SELDOM = {"checkpoint_seconds": 1000}


class TestFewCheckpoints:
    """Where epochs are shorter than the time between checkpoints, a run goes back by several of them."""

    @pytest.mark.parametrize(
        ("before", "nth"),
        [
            ("fsync rounds.jsonl", 5),  # a second query is being written, the first is after the checkpoint too
            ("fsync epochs.jsonl", 6),
        ],
    )
    def test_what_came_after_is_done_again_and_ends_the_same(self, launcher, tmp_path, offline_run, before, nth):
        outcome = launcher.run(launch.small(tmp_path, **SELDOM), strike=(before, nth, SIGKILL))
        assert outcome.code == -SIGKILL, outcome.stderr
        assert len(runs.read_lines(runs.only_run(tmp_path) / "epochs.jsonl")) > 1
        outcome = finish(launcher, tmp_path, offline_run.folder, **SELDOM)
        assert "goes on after epoch 1" in outcome.stdout

    def test_there_is_one_after_the_first_epoch_and_one_at_the_end(self, launcher, tmp_path, offline_run):
        outcome = launcher.run(launch.small(tmp_path, **SELDOM), strike=("replace checkpoint.pt", 3, SIGKILL))
        assert outcome.code == 0, "there was no third"
        runs.assert_same(runs.only_run(tmp_path), offline_run.folder)

    def test_one_killed_while_writing_results_has_all_its_epochs(self, launcher, tmp_path, offline_run):
        strike = ("replace best_model.safetensors", 1, SIGKILL)
        assert launcher.run(launch.small(tmp_path, **SELDOM), strike=strike).code == -SIGKILL
        outcome = finish(launcher, tmp_path, offline_run.folder, **SELDOM)
        assert not [line for line in outcome.stdout.splitlines() if "  epoch  " in line]

    @pytest.mark.parametrize("signum", EXIT_STATUS)
    def test_a_run_that_is_told_to_stop_while_it_writes_loses_nothing(self, launcher, tmp_path, signum):
        strike = ("fsync epochs.jsonl", 4, signum)
        outcome = launcher.run(launch.small(tmp_path, **SELDOM), strike=strike)
        assert outcome.code == EXIT_STATUS[signum], outcome.stderr
        written = len(runs.read_lines(runs.only_run(tmp_path) / "epochs.jsonl"))
        outcome = launcher.run(launch.small(tmp_path, **SELDOM))
        assert f"goes on after epoch {written}" in outcome.stdout

    def test_come_again_when_the_time_is_over(self, launcher, tmp_path, offline_run):
        """With no time between them, one after every epoch: the sixth replaces what the fifth has left."""
        launcher.run(launch.small(tmp_path, checkpoint_seconds=0), strike=("replace checkpoint.pt", 6, SIGKILL))
        outcome = finish(launcher, tmp_path, offline_run.folder, **SELDOM)
        assert "goes on after epoch 5" in outcome.stdout


class TestSignals:
    @pytest.mark.parametrize("signum", EXIT_STATUS)
    def test_stops_within_seconds(self, going, signum):
        fork, results = going
        sent = time.monotonic()
        fork.send(signum)
        outcome = fork.wait(20)
        assert outcome.code == EXIT_STATUS[signum]
        assert time.monotonic() - sent < 5
        assert outcome.stderr == f"stopped by {signal.Signals(signum).name}: give the same command again to go on\n"
        folder = runs.only_run(results)
        assert (folder / "checkpoint.pt").is_file()
        assert not (folder / "performance_metrics.json").exists()

    @pytest.mark.parametrize(
        ("signum", "before", "nth"),
        [
            (SIGTERM, "fsync epochs.jsonl", 4),
            (SIGUSR1, "replace checkpoint.pt", 2),
            (SIGINT, "replace al_tracking.json", 1),
        ],
    )
    def test_goes_on_to_the_same_end(self, launcher, tmp_path, offline_run, signum, before, nth):
        outcome = launcher.run(launch.small(tmp_path), strike=(before, nth, signum))
        assert outcome.code == EXIT_STATUS[signum], outcome.stderr
        finish(launcher, tmp_path, offline_run.folder)

    def test_an_epoch_that_is_being_written_counts(self, launcher, tmp_path):
        launcher.run(launch.small(tmp_path), strike=("fsync epochs.jsonl", 4, SIGTERM))
        outcome = launcher.run(launch.small(tmp_path), strike=("fsync epochs.jsonl", 2, SIGTERM))
        assert "goes on after epoch" in outcome.stdout

    def test_second_signal_does_no_harm(self, going):
        fork, results = going
        fork.send(SIGTERM)
        time.sleep(0.05)
        if fork.poll() is None:
            fork.send(SIGTERM)
        assert fork.wait(20).code == 143
        assert not list(results.rglob(".*.*[0-9]")), "temporary files are left"


class TestTwoProcesses:
    def test_second_leaves_the_run_to_the_first(self, launcher, going):
        first, results = going
        rows = len(runs.read_lines(runs.only_run(results) / "epochs.jsonl"))
        second = launcher.run(launch.small(results, **ENDLESS))
        assert second.code == 3
        assert f"process {first.pid} on " in second.complaint
        assert str(runs.only_run(results)) in second.complaint
        assert first.poll() is None
        assert len(runs.read_lines(runs.only_run(results) / "epochs.jsonl")) >= rows

    def test_lock_of_a_killed_process_holds_nobody_up(self, launcher, going):
        first, results = going
        first.send(SIGKILL)
        first.wait()
        third = launcher.start(launch.small(results, **ENDLESS))
        third.until(lambda: "goes on after epoch" in third.stdout)
        third.send(SIGTERM)
        assert third.wait(20).code == 143

    def test_split_seeds_of_a_cell_run_side_by_side(self, launcher, tmp_path):
        both = [launcher.start(launch.small(tmp_path, split_seed=seed)) for seed in (1, 2)]
        assert [fork.wait().code for fork in both] == [0, 0]
        (aggregated,) = tmp_path.glob("*/aggregated/performance_metrics.json")
        epochs = [len(runs.read_lines(path)) for path in tmp_path.glob("*/split_seed_*/epochs.jsonl")]
        assert runs.read_json(aggregated)["total_epochs"]["mean"] == sum(epochs) / 2


class TestStartedAgain:
    def test_complete_run_is_not_run_again(self, launcher, tmp_path, offline_run):
        results = shutil.copytree(offline_run.results, tmp_path / "results")
        before = runs.tree(results)
        outcome = launcher.run(launch.small(results))
        assert outcome.code == 0
        assert "complete already" in outcome.stdout
        assert str(runs.only_run(results)) in outcome.stdout
        assert runs.tree(results) == before

    @pytest.mark.parametrize("damage", ["empty", "half", "garbage", "another file", "a flipped byte"])
    def test_corrupt_checkpoint_is_set_aside(self, launcher, tmp_path, offline_run, cut_before_results, damage):
        results = shutil.copytree(cut_before_results, tmp_path / "results")
        checkpoint = runs.only_run(results) / "checkpoint.pt"
        whole = checkpoint.read_bytes()
        middle = len(whole) // 2
        contents = {
            "empty": b"",
            "half": whole[:middle],
            "garbage": b"no checkpoint" * 999,
            "another file": (offline_run.folder / "best_model.safetensors").read_bytes(),
            "a flipped byte": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
        }[damage]
        checkpoint.write_bytes(contents)
        outcome = launcher.run(launch.small(results))
        assert outcome.code == 0, outcome.stderr
        assert "set aside" in outcome.stdout
        (aside,) = runs.only_run(results).glob("checkpoint*")
        assert str(aside) in outcome.stdout
        assert aside.read_bytes() == contents
        aside.unlink()
        runs.assert_same(runs.only_run(results), offline_run.folder)

    @pytest.mark.parametrize("complete", [True, False])
    @pytest.mark.parametrize("what", ["configuration", "images"])
    def test_refuses_a_folder_of_something_else(
        self, launcher, tmp_path, offline_run, cut_before_results, what, complete
    ):
        source = offline_run.results if complete else cut_before_results
        results = shutil.copytree(source, tmp_path / "results")
        path = runs.only_run(results) / "config.json"
        made_by = runs.read_json(path)
        if what == "configuration":
            made_by["digest"] = "0" * 64
        else:
            made_by["data"]["fingerprint"] = "0" * 64
        path.write_text(json.dumps(made_by))
        before = runs.tree(results)
        outcome = launcher.run(launch.small(results))
        assert outcome.code == 2
        assert what in outcome.complaint
        assert str(runs.only_run(results)) in outcome.complaint
        assert runs.tree(results) == before

    def test_damaged_config_is_named(self, launcher, tmp_path, cut_before_results):
        results = shutil.copytree(cut_before_results, tmp_path / "results")
        path = runs.only_run(results) / "config.json"
        path.write_text("{")
        outcome = launcher.run(launch.small(results))
        assert outcome.code == 2
        assert str(path) in outcome.complaint

    def test_leftovers_of_a_killed_process_are_cleared(self, launcher, tmp_path, offline_run, cut_before_results):
        results = shutil.copytree(cut_before_results, tmp_path / "results")
        for name in (f".checkpoint.{os.getpid()}", ".epochs.jsonl.999999", ".best_model.safetensors.999999"):
            (runs.only_run(results) / name).write_bytes(b"half")
        finish(launcher, results, offline_run.folder)
