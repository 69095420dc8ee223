"""The check of a device: what it finds, what it says, and what is to be done where it fails."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tape import TapeRecorder
from tf32 import TensorCores, allowed

from al.errors import NoRoom
from al.runtime import Runtime
from benchmarks.check import __main__ as command
from benchmarks.check import estimate, same_results, together, whole_runs
from benchmarks.check.results import Result
from benchmarks.check.subject import Subject

BRIEFLY = ["--device=cpu", "--model=small_cnn", "--seconds=0.05", "--no-runs"]


def test_a_device_is_checked(tmp_path, capsys):
    """On a CPU too; two processes at a time."""
    assert command.main([*BRIEFLY, "--together=1,2", f"--out={tmp_path / 'check.json'}"]) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "check.json").read_text())
    results = {result["name"]: result for result in found["results"]}
    assert results["batch normalisation folded"]["said"] == "3 of 3"
    assert results["training twice"]["passed"]
    assert results["recorded and single steps"]["passed"] is None
    assert results["2 runs at a time"]["value"] > 0
    fenced = said.split("```")[1]
    assert "all checks passed" in fenced
    assert "torch " in fenced
    assert found["on_cpu"]
    assert found["best_runs_at_a_time"] in (1, 2)


def rates(**values):
    return [Result(name.replace("_", " "), "", value=value) for name, value in values.items()]


def test_more_runs_at_a_time_are_better_where_they_are_clearly_faster():
    one, two, four = ("1_run", "2_runs_at_a_time", "4_runs_at_a_time")
    assert estimate.best_of(rates(**{one: 100, two: 180, four: 185})) == estimate.Best(2, 180, False)
    assert estimate.best_of(rates(**{one: 100, two: 90})) == estimate.Best(1, 100, False)
    assert estimate.best_of(rates(**{one: 100, two: 180, f"{four},_MPS": 400})) == estimate.Best(4, 400, True)
    assert estimate.best_of([]) is None


def test_the_estimate_is_its_arithmetic():
    found = rates(images_scored_a_second=20_900, training_steps_a_second=100, **{"4_runs_at_a_time": 300})
    one, four = estimate.of_the_study(found)
    assert one.value == pytest.approx(814_215 / 100 + 10_000)
    assert four.value == pytest.approx(814_215 / 300 + 10_000)
    assert "814,215 steps / 300 a second + 209 million images" in four.said


def test_steps_that_are_recorded_are_checked_too(monkeypatch):
    monkeypatch.setattr(Runtime, "recorder", TapeRecorder())
    subject = Subject("cpu", "small_cnn")
    (result,) = same_results.recorded_steps(subject)
    assert (result.passed, result.said) == (True, "the same weights after an epoch, bit for bit")
    monkeypatch.setattr(TapeRecorder, "record", lambda *_: (_ for _ in ()).throw(RuntimeError("no such thing")))
    (result,) = same_results.recorded_steps(subject)
    assert (result.passed, result.said) == (False, "not recorded: no such thing")


@pytest.mark.parametrize("planted", [False, True])
def test_tf32_where_float32_was_asked_for_fails_the_check(monkeypatch, planted):
    """On the device only, as a library would have it."""
    subject = Subject("cpu", "mobilenet_v3_small")
    on_the_device = subject.scored

    def scored(runtime, network=None):
        with TensorCores(), allowed(planted):
            return on_the_device(runtime, network)

    monkeypatch.setattr(subject, "scored", scored)
    probabilities, features, *_ = same_results.device_and_cpu(subject)
    assert (probabilities.passed, features.passed) == (not planted, not planted)


def test_runs_that_pick_otherwise_fail_the_check(monkeypatch):
    """train.py replaced by a stand-in whose third run, with steps launched one by one, picks another image."""

    def run(command, env, **_):
        folder = Path(next(word for word in command if word.startswith("--results_dir=")).partition("=")[2])
        (folder / "cell/split_seed_1").mkdir(parents=True)
        picks = [1, 2, 3] if env["AL_FAST"] == "all" else [1, 2, 4]
        (folder / "cell/split_seed_1/al_tracking.json").write_text(json.dumps({"selected_indices": picks}))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(whole_runs.subprocess, "run", run)
    twice, single = whole_runs.whole_runs("cpu")
    assert (twice.passed, twice.said) == (True, "the same 3 picks")
    assert (single.passed, single.said) == (False, "2 of 3 picks are the same")


def test_a_device_that_computes_something_else_fails_the_check(tmp_path, monkeypatch, capsys):
    scored = Subject.scored

    def wrong(subject, runtime, network=None):
        found = scored(subject, runtime, network)
        return replace(found, probs=found.probs[::-1]) if runtime is subject.there else found

    monkeypatch.setattr(Subject, "scored", wrong)
    options = [*BRIEFLY, "--together=", f"--out={tmp_path / 'check.json'}"]
    assert command.main(options) == 1
    assert "FAILED: probabilities, device and CPU" in capsys.readouterr().out


def test_a_check_that_ends_in_an_error_fails_alone_and_says_where_the_whole_error_is(tmp_path, monkeypatch, capsys):
    def broken(subject):
        raise ValueError("no kernel image is available\nfor execution")

    monkeypatch.setattr(same_results, "folding", broken)
    assert command.main([*BRIEFLY, "--together=", f"--out={tmp_path / 'check.json'}"]) == 1
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("FAIL folding                            ValueError: no kernel image is available")
    assert lines[at + 1].startswith("     -> this check did not come to its end; please paste this")
    assert "FAILED: folding" in lines
    results = json.loads((tmp_path / "check.json").read_text())["results"]
    (failed,) = (result for result in results if result["passed"] is False)
    assert "Traceback" in failed["detail"]
    assert "for execution" in failed["detail"]
    assert any(result["name"].startswith("estimate, study") for result in results)


def test_every_failure_says_what_to_do():
    failed = Result("training twice", "not the same", False)
    assert str(failed).splitlines()[1].startswith("     -> until this is understood, give runs device=cpu")
    assert str(replace(failed, remedy="do this")).splitlines()[1] == "     -> do this"
    assert "\n" not in str(replace(failed, passed=True))


def test_a_run_that_fails_is_told_with_the_command_that_shows_it(monkeypatch):
    ended = subprocess.CompletedProcess([], 1, "", "Traceback\n  File\nRuntimeError: no kernel image")
    monkeypatch.setattr(whole_runs.subprocess, "run", lambda *_, **__: ended)
    (failed,) = whole_runs.whole_runs("cuda")
    assert failed.said == "exit status 1: RuntimeError: no kernel image"
    assert "WANDB_MODE=disabled python train.py --dataset=digits" in failed.remedy
    assert failed.remedy.endswith("--device=cuda")
    assert failed.detail.startswith("Traceback")


@pytest.fixture
def stand_ins(monkeypatch):
    """stand_ins(CODE): what is started in place of processes that train."""
    start = subprocess.Popen

    def install(code):
        monkeypatch.setattr(
            together.subprocess, "Popen", lambda _, **options: start([sys.executable, "-c", code], **options)
        )

    return install


ANSWERS_WITH_ITS_THREADS = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    print(line.split()[1], flush=True)
"""


def test_runs_at_a_time_share_the_cores_as_the_runner_shares_them(stand_ins, monkeypatch):
    stand_ins(ANSWERS_WITH_ITS_THREADS)
    monkeypatch.setattr(together, "threads_each", lambda count: 12 // count)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = together.together("cpu", "small_cnn", 0.01, (1, 2, 3))
    assert [result.value for result in found] == [12, 2 * 6, 3 * 4]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert together.together("cpu", "small_cnn", 0.01, (2,))[0].value == 2 * 5


def test_a_process_that_ends_is_told_with_what_it_said_last(stand_ins):
    stand_ins("import sys; sys.exit('warming up\\ntorch.OutOfMemoryError: CUDA out of memory')")
    (failed,) = together.together("cpu", "small_cnn", 0.01, (2, 4))
    assert failed.name == "2 runs at a time"
    assert failed.said == "one of them ended with exit status 1: torch.OutOfMemoryError: CUDA out of memory"
    assert failed.passed is False


def test_the_estimate_needs_both_rates():
    (said,) = estimate.of_the_study(rates(images_scored_a_second=20_900))
    assert (said.passed, said.said) == (None, "none: it needs the rates of scoring and of training")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("--together=two", "--together=two: not numbers of runs"),
        ("--together=0,2", "--together: 0 runs at a time"),
        ("--seconds=0", "--seconds=0: no time to measure in"),
        ("--seconds=nan", "--seconds=nan: no time to measure in"),
    ],
)
def test_wrong_options_are_one_line(wrong, said, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main([wrong])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_file_that_cannot_be_written_is_told_before_anything_is_checked(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert command.main([f"--out={tmp_path}/file/check.json"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "check.json: cannot be written" in err
    assert err.count("\n") == 1


def test_a_disk_that_is_full_at_the_end_leaves_the_lines_and_says_so(tmp_path, monkeypatch, capsys):
    def full(path, data):
        raise NoRoom(path, len(data))

    monkeypatch.setattr(command, "write_atomically", full)
    monkeypatch.setattr(command, "checks", lambda *_: {})
    assert command.main(["--device=cpu", "--model=small_cnn", f"--out={tmp_path / 'check.json'}"]) == 2
    out, err = capsys.readouterr()
    assert "all checks passed" in out
    assert "check.json: cannot be written (No space left on device); make room there" in err
