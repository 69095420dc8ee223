"""The commands as a user types them, end to end through files; killed at every write."""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import launch
import photos
import pytest

from al.storage import files
from labelling.commands import main
from labelling.project import Project, holding


def al_command(*args, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "al", *map(str, args)],
        cwd=launch.ROOT,
        env=launch.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


class TestRounds:
    def test_end_to_end(self, folder, truth, features, capsys, monkeypatch):
        """Three rounds by files alone: cold start, two models, an audit, the status."""
        propose = ["propose", f"--data={folder}", "--k=6", "--classes=blue,green,red"]
        assert main([*propose, f"--features={features}"]) == 0
        assert "contact_sheet.html" in capsys.readouterr().out
        for number in range(3):
            assert main(["accept", str(photos.answers(folder, truth, number))]) == 0
            assert main([*propose, "--audit=2", "--k=4"]) == 0
        out = capsys.readouterr().out
        assert "CSV: round_000/next.csv: 6 new labels" in out
        monkeypatch.chdir(folder)
        assert main(["status", "--target=90"]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert "18 labels in 4 rounds" in out
        assert "4 random images that it has not learnt from" in out
        assert "Go on" in out or "Stop" in out
        assert "that takes audit images that some model gets wrong" in out
        page = (folder / "al-labels/status.html").read_text()
        assert "default-src 'none'" in page
        assert page.count("data:image/png") == 2

    def test_labels_come_first(self, folder, truth, features, tmp_path, capsys):
        labels = photos.write_csv(tmp_path / "l.csv", [{"path": p, "label": n} for p, n in list(truth.items())[:9]])
        assert main(["propose", f"--data={folder}", f"--labels={labels}", f"--features={features}", "--k=3"]) == 0
        assert "9 new labels" in capsys.readouterr().out
        assert (folder / "al-labels/proposals/round_001/next.csv").exists()

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["propose"], "--data"),
            (["propose", "--data=/no/such"], "no such folder"),
            (["propose", "--data={}", "--k=0"], "use 1 or more"),
            (["propose", "--data={}", "--lr=-1"], "lr=-1"),
            (["accept", "/no/such.csv", "--data={}"], "propose --data"),
            (["status", "--data={}"], "propose --data"),
            (["status", "--target=120"], "between 0 and 100"),
            (["proposee"], "propose"),
        ],
    )
    def test_mistakes_are_one_line(self, folder, truth, args, said, capsys):
        assert main([argument.format(folder) for argument in args]) == 2
        err = capsys.readouterr().err
        assert len(err.strip().splitlines()) == 1
        assert said in err

    def test_help_needs_no_heavy_import(self):
        code = (
            "import sys; from labelling.commands import main\n"
            "try: main(['propose', '--help'])\n"
            "except SystemExit: pass\n"
            "print('loaded:', sorted({'torch', 'sklearn', 'matplotlib', 'pandas', 'PIL'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=launch.ROOT, env=launch.environment(), capture_output=True, text=True
        )
        assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr
        assert "--audit" in done.stdout


class TestTwoAtOnce:
    def test_the_second_says_who(self, folder, truth):
        project = Project.create(folder)
        with project.locked("propose"):
            done = al_command(
                "accept", photos.write_csv(folder / "x.csv", [{"path": "a", "label": "b"}]), f"--data={folder}"
            )
        assert done.returncode == 3
        assert f"process {os.getpid()}" in done.stderr
        assert "propose" in done.stderr


def test_help_has_the_defaults_of_a_proposal(capsys):
    with pytest.raises(SystemExit):
        main(["propose", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "[typiclust_typical; without features: random]" in shown
    assert "[facebook/dinov2-small]" in shown
    assert "stratified, random, clip" not in shown, "first labels that a proposal refuses"


WRITES = ("fsync", "replace", "rename", "unlink", "mkdir", "symlink")
"""Functions of `os` that every lasting change goes through."""


def struck(nth: int, *args: str) -> int:
    """A command in a fork of this process, which gets SIGKILL right before its nth write; how it ended."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    times = itertools.count(1)

    def watched(operation):
        def wrapper(*arguments, **options):
            if next(times) == nth:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments, **options)

        return wrapper

    code = 99
    try:
        for name in WRITES:
            setattr(os, name, watched(getattr(os, name)))
        code = main([*args])
    finally:
        os._exit(code)


class TestKilled:
    def test_accept_at_every_write_loses_no_label(self, folder, truth, tmp_path):
        labels = photos.write_csv(tmp_path / "l.csv", [{"path": p, "label": n} for p, n in list(truth.items())[:9]])
        Project.create(folder)
        command = ("accept", str(labels), f"--data={folder}")
        project, kills = Project.find(folder, None), 0
        for nth in range(1, 30):
            before = {event.sha256: event.label for event in holding(project.answers()).values()}
            done = struck(nth, *command)
            held = {event.sha256: event.label for event in holding(project.answers()).values()}
            assert before.items() <= held.items()
            if done == 0:
                break
            assert done == -signal.SIGKILL
            kills += 1
        assert kills >= 5
        assert {event.path: event.label for event in project.answers()} == dict(list(truth.items())[:9])

    def test_propose_at_every_write_leaves_no_half_proposal(self, folder, truth, features, tmp_path):
        labels = photos.write_csv(tmp_path / "l.csv", [{"path": p, "label": n} for p, n in list(truth.items())[:9]])
        assert main(["propose", f"--data={folder}", f"--labels={labels}", f"--features={features}", "--k=4"]) == 0
        project = Project.find(folder, None)
        expected = json.loads((project.folder_of(1) / "proposal.json").read_text())["picks"]
        shutil.rmtree(project.folder_of(1))
        for nth in range(1, 80):
            done = struck(nth, "propose", f"--data={folder}", "--k=4")
            for proposal in project.rounds():
                whole = project.folder_of(proposal.round)
                assert {path.name for path in whole.iterdir()} == FILES
                assert [pick.model_dump() for pick in proposal.picks] == expected
                assert len(photos.read_csv(whole / "next.csv")) == len(expected)
            if project.rounds():
                break
            assert done == -signal.SIGKILL
        assert nth > 15
        assert not list(project.proposals.glob(".*"))

    def test_interrupted_says_so(self, folder, truth, features):
        process = subprocess.Popen(
            [sys.executable, "-m", "al", "propose", f"--data={folder}", f"--features={features}"],
            cwd=launch.ROOT,
            env=launch.environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 60
        while not (folder / "al-labels/holder.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGINT
        assert "nothing is half-written" in err
        assert not Project.find(folder, None).rounds()


FILES = {
    "proposal.json",
    "next.csv",
    "label_studio.json",
    "label_studio.xml",
    "contact_sheet.html",
    "by_class",
    "predictions.npz",
}


def test_the_state_of_somebody_else_can_be_read(folder, truth, tmp_path, capsys, monkeypatch):
    """Status says all it can; who may not write is told so, wherever that turns out."""
    labels = photos.write_csv(tmp_path / "l.csv", [{"path": p, "label": n} for p, n in list(truth.items())[:9]])
    assert main(["accept", str(labels), f"--data={Project.create(folder).data}"]) == 0
    write = files.write_atomically

    def denied(path, data):
        if path.name in names:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        write(path, data)

    for module in ("al.storage.files", "labelling.photos", "labelling.status_page"):
        monkeypatch.setattr(f"{module}.write_atomically", denied)
    for names in (["holder.json"], ["files.json"]):
        (folder / "new.png").write_bytes(names[0].encode())  # which is hashed
        assert main(["accept", str(labels), f"--data={folder}"]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"error: {folder}/al-labels/")
        assert f"{names[0]}: cannot be written (Permission denied); see who may write to {folder}/al-labels" in said
    names = ["status.html"]
    assert main(["status", f"--data={folder}"]) == 0
    out = capsys.readouterr().out
    assert "9 labels" in out
    assert f"page: not written, as {folder}/al-labels cannot be written to (Permission denied)" in out


def test_full_disk_is_one_line(folder, truth, monkeypatch, capsys, tmp_path):
    labels = photos.write_csv(tmp_path / "l.csv", [{"path": p, "label": n} for p, n in list(truth.items())[:9]])
    project = Project.create(folder)

    def full(handle):
        if Path(f"/proc/self/fd/{handle}").readlink().name == "labels.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["accept", str(labels), f"--data={folder}"]) == 1
    assert "no room on the disk" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["accept", str(labels), f"--data={folder}"]) == 0
    assert len(holding(project.answers())) == 9
