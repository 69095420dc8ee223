"""Lock files: one process at a time, and file systems where that is not so are noticed."""

import fcntl
import multiprocessing
import os
import signal

import pytest

from al.errors import UserError
from al.storage import locks
from al.storage.locks import check_locks, claimed


class TestLocks:
    def test_hold_here(self, tmp_path):
        check_locks(tmp_path, "--results-dir")
        assert not list(tmp_path.iterdir())

    def test_are_tried_by_two_machines_at_once(self, tmp_path, monkeypatch):
        """Containers that start together have the same process id."""
        hold, probe = fcntl.flock, tmp_path / f".lock-check.elsewhere.{os.getpid()}"
        monkeypatch.setattr(locks.socket, "gethostname", lambda: "elsewhere")
        held = []

        def flock(file, how):
            """While one machine has its lock, the other looks."""
            hold(file, how)
            if not held:
                held.append(probe.exists())
                monkeypatch.setattr(locks.socket, "gethostname", lambda: "here")
                check_locks(tmp_path, "--results-dir")

        monkeypatch.setattr(fcntl, "flock", flock)
        check_locks(tmp_path, "--results-dir")
        assert held == [True]

    def test_that_keep_nobody_out_are_told(self, tmp_path, monkeypatch):
        monkeypatch.setattr(fcntl, "flock", lambda *_: None)  # as a mount without flock does
        with pytest.raises(UserError, match=r"file locks do not lock here, .* with --results-dir$"):
            check_locks(tmp_path, "--results-dir")
        assert not list(tmp_path.iterdir())

    def test_that_there_are_none_is_told(self, tmp_path, monkeypatch):
        def flock(*_):
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(fcntl, "flock", flock)
        with pytest.raises(UserError, match="file locks do not lock here"):
            check_locks(tmp_path, "--results-dir")

    @pytest.mark.parametrize("option", ["local_lock=all", "nolock", "localflock"])
    def test_that_by_the_mount_hold_on_one_machine_are_told(self, tmp_path, monkeypatch, capsys, option):
        shared = tmp_path / "a share"
        (shared / "results").mkdir(parents=True)
        place = str(shared).replace(" ", "\\040")
        mounts = tmp_path / "mounts"
        mounts.write_text(
            "22 1 0:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
            f"31 22 0:9 / {place} rw,relatime - nfs4 server:/export rw,vers=4.2,{option},hard\n"
        )
        monkeypatch.setattr(locks, "MOUNTS", mounts)
        check_locks(shared / "results", "--out")
        assert f"warning: {shared}/results: is mounted with {option}, so locks hold" in capsys.readouterr().err
        with pytest.raises(UserError, match=f"is mounted with {option}, .*, and two could do .* another with --out"):
            check_locks(shared / "results", "--out", shared=True)
        check_locks(tmp_path, "--out", shared=True)
        mounts.write_text(mounts.read_text().replace(option, "local_lock=none"))
        check_locks(shared / "results", "--out", shared=True)
        assert capsys.readouterr().err == ""


def hold(path, ready):
    with claimed(path) as mine:
        ready.send(mine)
        signal.pause()


def test_a_claim_keeps_others_out_and_goes_with_its_process(tmp_path):
    path, (here, there) = tmp_path / "lock", multiprocessing.Pipe()
    holder = multiprocessing.get_context("spawn").Process(target=hold, args=(path, there))
    holder.start()
    assert here.recv() is True
    with claimed(path) as mine:
        assert not mine
    assert f'"pid": {holder.pid}' in path.read_text(), "says who"
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with claimed(path) as mine:
        assert mine
    assert path.exists()
