"""The folder of a run: one process at a time, complete or not, and of one run only."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from al.config import RunConfig
from al.errors import HeldElsewhere, UserError
from al.identity import Identity
from al.storage.files import write_json
from al.storage.run_folder import RunFolder

IDENTITY = Identity("d" * 64, "f" * 64)


HOLD = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from al.storage.run_folder import RunFolder
with RunFolder(Path({path!r})).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    code = HOLD.format(root=str(Path(__file__).parents[3]), path=str(tmp_path / "run"))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.kill()


class TestLock:
    def test_by_another_process_is_named(self, tmp_path, holder):
        folder = RunFolder(tmp_path / "run")
        with pytest.raises(HeldElsewhere, match=f"process {holder.pid} on "), folder.locked():
            pass
        assert json.loads((folder.path / ".lock").read_text())["pid"] == holder.pid

    @pytest.mark.parametrize("how", ["exit", "kill"])
    def test_is_free_when_the_process_is_gone(self, tmp_path, holder, how):
        holder.kill() if how == "kill" else holder.stdin.close()
        holder.wait(20)
        folder = RunFolder(tmp_path / "run")
        with folder.locked():
            assert json.loads((folder.path / ".lock").read_text())["pid"] == os.getpid()

    def test_twice_in_a_row(self, tmp_path):
        folder = RunFolder(tmp_path / "run")
        for _ in range(2):
            with folder.locked():
                pass

    @pytest.mark.parametrize("where", ["below a file", "on a file system that takes nothing"])
    def test_folder_that_cannot_be_made(self, tmp_path, where):
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "run" if where == "below a file" else "/proc/1/results/run"
        with pytest.raises(UserError, match="results_dir"), RunFolder(Path(path)).locked():
            pass


class TestFolder:
    def test_is_named_after_cell_and_split_seed(self, tmp_path):
        config = RunConfig(results_dir=str(tmp_path), split_seed=34)
        assert RunFolder.of(config).path == tmp_path / config.cell / "split_seed_34"

    def test_is_complete_if_and_only_if_it_has_its_metrics(self, tmp_path):
        folder = RunFolder(tmp_path)
        assert not folder.complete
        write_json(tmp_path / "performance_metrics.json", {})
        assert folder.complete


def test_results_that_another_process_has_set_aside_meanwhile_are_set_aside(tmp_path):
    """Two that start together both find the damage."""
    folder = RunFolder(tmp_path)
    (tmp_path / "performance_metrics.json").write_text("{")
    assert folder.set_results_aside() == folder.set_results_aside() == tmp_path / "performance_metrics.json.damaged"
    assert not folder.complete
