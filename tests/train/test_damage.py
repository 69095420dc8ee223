"""What a run does when its files were lost or changed, or the disk is full: it says so, and ends as it should."""

import json
import resource
import shutil
import signal
import subprocess
import sys

import launch
import pytest
import runs

KILLED_IN_EPOCH_4 = ("replace checkpoint.pt", 5, signal.SIGKILL)


@pytest.fixture
def cut(launcher, tmp_path):
    """A run that was killed when four of its epochs counted."""
    outcome = launcher.run(launch.small(tmp_path), strike=KILLED_IN_EPOCH_4)
    assert outcome.code == -signal.SIGKILL, outcome.stderr
    return runs.only_run(tmp_path)


def halve(file):
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[: len(lines) // 2]))


def change_a_digit(file):
    lines = file.read_text().splitlines(keepends=True)
    lines[0] = lines[0].replace('"labels": 30', '"labels": 31')
    file.write_text("".join(lines))


@pytest.mark.parametrize("name", ["epochs.jsonl", "rounds.jsonl"])
@pytest.mark.parametrize(
    "damage", [lambda file: file.write_text(""), halve, lambda file: file.unlink(), change_a_digit]
)
def test_lost_or_changed_lines_begin_the_run_again(launcher, cut, offline_run, name, damage):
    damage(cut / name)
    outcome = launcher.run(launch.small(cut.parents[1]))
    assert outcome.code == 0, outcome.stderr
    assert "lines of epochs.jsonl or rounds.jsonl were lost or changed" in outcome.stdout
    assert (
        len(runs.read_lines(cut / "epochs.jsonl")) == runs.read_json(cut / "performance_metrics.json")["total_epochs"]
    )
    (cut / "checkpoint.corrupt").unlink()
    runs.assert_same(cut, offline_run.folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("best_model.safetensors", None),
        ("best_model.safetensors", b"other weights"),
        ("al_tracking.json", b"{"),
        ("epochs.jsonl", b""),
        ("rounds.jsonl", None),
        ("performance_metrics.json", b"[1, 2]"),
        ("performance_metrics.json", b"\xff\xfe"),
    ],
)
def test_a_complete_run_whose_files_are_damaged_is_run_again(launcher, tmp_path, offline_run, name, content):
    results = shutil.copytree(offline_run.results, tmp_path / "results")
    folder = runs.only_run(results)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    outcome = launcher.run(launch.small(results))
    assert outcome.code == 0, outcome.stderr
    assert "set aside" in outcome.stdout
    assert "it is run again" in outcome.stdout
    (folder / "performance_metrics.json.damaged").unlink()
    runs.assert_same(folder, offline_run.folder)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "{}", '{"digest": 3, "data": []}'])
def test_a_damaged_configuration_is_one_line(launcher, tmp_path, offline_run, content):
    results = shutil.copytree(offline_run.results, tmp_path / "results")
    (runs.only_run(results) / "config.json").write_text(content)
    outcome = launcher.run(launch.small(results))
    assert outcome.code == 2
    assert "config.json" in outcome.complaint
    assert "start again" in outcome.complaint


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff"])
def test_one_damaged_seed_does_not_fail_the_others(launcher, tmp_path, offline_run, content):
    results = shutil.copytree(offline_run.results, tmp_path / "results")
    good = runs.only_run(results)
    bad = shutil.copytree(good, good.parent / "split_seed_99")
    (bad / "performance_metrics.json").write_bytes(content)
    (good.parent / "aggregated" / "performance_metrics.json").write_text("half of")
    outcome = launcher.run(launch.small(results))
    assert outcome.code == 0, outcome.stderr
    assert "left out of the aggregate" in outcome.stderr
    aggregate = runs.read_json(good.parent / "aggregated" / "performance_metrics.json")
    assert aggregate["averaged_test_metrics"]["accuracy_std"] == 0


@pytest.mark.parametrize("room", [2_000, 60_000])
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(tmp_path, offline_run, room):
    """No file may grow beyond `room` bytes, which is what a full disk looks like to a program."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    command = [sys.executable, str(launch.ROOT / "train.py"), *launch.small(tmp_path)]
    done = subprocess.run(
        command, cwd=launch.ROOT, env=launch.environment(), preexec_fn=limit, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert "no room on the disk" in line
    assert str(tmp_path) in line
    assert launch.command(*launch.small(tmp_path)).code == 0
    runs.assert_same(runs.only_run(tmp_path), offline_run.folder)


def test_a_dollar_in_a_class_name_is_no_mathematics(tmp_path):
    from al.records import BestEpoch, EpochRecord, SplitResult
    from al.tracking.plots import plot_run

    scores = dict.fromkeys(("loss", "accuracy", "precision", "recall", "f1-score"), 0.5)
    counts = {"labels": 10, "human_labels": 10}
    record = EpochRecord(
        **counts, epoch=1, round=0, train_size=8, val_size=2, pool_size=5, lr=0.1, train=scores, test=scores,
        per_class={}, best=True, seconds={},
    )  # fmt: skip
    best = BestEpoch(epoch=1, splits={"test": SplitResult(scores=scores, confusion_matrix=[[1, 0], [0, 1]])})
    paths = plot_run([record], best, ("a$_$b", "$x^"), "cost in $ and $", tmp_path)
    assert all(path.stat().st_size for path in paths)


def test_memory_is_this_programs_own(tmp_path):
    """A parent that has held much memory says nothing of its child."""
    code = "from al.storage.result_files import peak_memory_mb; print(peak_memory_mb())"
    ballast = bytearray(600 * 2**20)
    ballast[:: 2**12] = b"1" * len(ballast[:: 2**12])
    done = subprocess.run([sys.executable, "-c", code], cwd=launch.ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 400


def test_sizes_of_every_batch_are_recorded(offline_run):
    tracking = json.loads((offline_run.folder / "al_tracking.json").read_text())
    assert tracking["acquisition_batch_sizes"] == [12, 12, 6]
