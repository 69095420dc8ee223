"""Runs that several tests look at, each made once for all test processes."""

import fcntl
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: test processes share the cores

import pytest

pytest.register_assert_rewrite("launch", "runs")

import launch  # noqa: E402
import runs  # noqa: E402

for signum in (signal.SIGINT, signal.SIGHUP):  # started by nohup, or in the background of a script
    if signal.getsignal(signum) is signal.SIG_IGN:
        signal.signal(signum, lambda *_: None)  # ignored here as well, but not by the processes that tests start

SHARED = Path(__file__).parents[1].parent / "shared"


@pytest.fixture(scope="session")
def launcher(tmp_path_factory):
    launcher = launch.Launcher(tmp_path_factory.mktemp("forks"))
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """once(name, make): a folder that `make(folder)` fills the first time any test process asks for it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder_of(name, make):
        folder = base / name
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / ".made").exists():
                folder.mkdir()
                make(folder)
                (folder / ".made").touch()
        return folder

    return folder_of


@dataclass(frozen=True)
class OfflineRun:
    """The small run, started as the real command with W&B offline and an empty home."""

    base: Path

    @property
    def results(self) -> Path:
        return self.base / "results"

    @property
    def home(self) -> Path:
        return self.base / "home"

    @property
    def folder(self) -> Path:
        return runs.only_run(self.results)

    @property
    def stdout(self) -> str:
        return (self.base / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.base / "stderr").read_text()


@pytest.fixture(scope="session")
def offline_run(once) -> OfflineRun:
    def make(folder):
        for name in ("home", "tmp"):
            (folder / name).mkdir()
        env = launch.environment(folder / "home", WANDB_MODE=None, TMPDIR=str(folder / "tmp"))
        outcome = launch.command(*launch.small(folder / "results"), env=env)
        (folder / "stdout").write_text(outcome.stdout)
        (folder / "stderr").write_text(outcome.stderr)
        assert outcome.code == 0, outcome.stderr

    return OfflineRun(once("offline_run", make))


@pytest.fixture(scope="session")
def cut_before_results(once, launcher) -> Path:
    """Results folder of a small run that was killed when its training was over and nothing else was written."""

    def make(folder):
        strike = ("fsync best_model.safetensors", 1, signal.SIGKILL)
        outcome = launcher.run(launch.small(folder / "results"), strike=strike)
        assert outcome.code == -signal.SIGKILL, outcome.stderr

    return once("cut_before_results", make) / "results"


@pytest.fixture
def no_network(monkeypatch):
    """Every look-up of a host name fails at once, as on a machine without a network."""
    import socket

    def fail(host, *args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 512 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a file system here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
