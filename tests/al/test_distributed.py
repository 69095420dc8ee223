"""One run over several processes: the same run, and all of them end with it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import launch
import numpy as np
import pytest
import runs
import torch.distributed
from torch import nn

from al import distributed
from al.errors import UserError
from al.runtime import _gpu_of_this_process, resolve_runtime

ENDLESS = {"max_epochs": 500, "patience": 500, "min_delta": 0}


def torchrun(*arguments, processes=2, **options):
    """`torchrun train.py ARGUMENTS`, its output in files of the folder `options["output"]`."""
    output = options.pop("output")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    with (output / "stdout").open("w") as stdout, (output / "stderr").open("w") as stderr:
        return subprocess.Popen(
            [*command, str(launch.ROOT / "train.py"), *arguments],
            cwd=launch.ROOT,
            env=launch.environment(),
            stdout=stdout,
            stderr=stderr,
        )


def ours(folder):
    """What the processes of the run said on stderr, without torchrun's own report."""
    lines = (folder / "stderr").read_text().splitlines()
    return [line for line in lines if line.startswith(("error: ", "stopped by "))]


def ranks_of(process):
    """Process ids by rank."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            variables = (status.parent / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        rank = [int(entry[5:]) for entry in variables if entry.startswith(b"RANK=")]
        if parent == process.pid and rank:
            found[rank[0]] = int(status.parent.name)
    return found


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def going(tmp_path, request):
    """A run of two processes in its third epoch or later that goes on for long: torchrun, and the ranks.

    Its parameter is the run's `training_on`.
    """
    arguments = launch.small(tmp_path / "results", training_on=getattr(request, "param", "one"), **ENDLESS)
    process = torchrun(*arguments, output=tmp_path)
    deadline = time.monotonic() + 90
    while not any(len(runs.read_lines(p)) > 2 for p in tmp_path.glob("results/*/*/epochs.jsonl")):
        assert process.poll() is None, (tmp_path / "stderr").read_text()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    ranks = ranks_of(process)
    yield process, ranks
    for pid in (process.pid, *ranks.values()):
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """A finished run of two processes."""
    folder = tmp_path_factory.mktemp("sharded")
    process = torchrun(*launch.small(folder / "results", strategy="typiclust"), output=folder)
    assert process.wait(280) == 0, (folder / "stderr").read_text()
    return folder


class TestSameRun:
    def test_bit_for_bit(self, sharded, launcher, tmp_path):
        """Pool and test set take several batches here, so both are scored by both processes."""
        assert launcher.run(launch.small(tmp_path, strategy="typiclust")).code == 0
        runs.assert_same(runs.only_run(sharded / "results"), runs.only_run(tmp_path))

    def test_one_process_speaks(self, sharded):
        said = (sharded / "stdout").read_text()
        assert said.count("results: ") == 1
        assert sum("  epoch  " in line for line in said.splitlines()) == 8
        assert not (sharded / "stderr").read_text()

    def test_complete_run_is_not_run_again(self, sharded):
        folder = sharded / "again"
        folder.mkdir()
        process = torchrun(*launch.small(sharded / "results", strategy="typiclust"), output=folder)
        assert process.wait(60) == 0
        assert (folder / "stdout").read_text().count("complete already") == 1

    @pytest.mark.slow
    @pytest.mark.parametrize("changed", [{"strategy": "bald"}, {"strategy": "dropquery", "pool_sample": 700}])
    def test_of_three_processes(self, launcher, tmp_path, changed):
        process = torchrun(*launch.small(tmp_path / "three", **changed), output=tmp_path, processes=3)
        assert process.wait(280) == 0, (tmp_path / "stderr").read_text()
        assert launcher.run(launch.small(tmp_path / "one", **changed)).code == 0
        runs.assert_same(runs.only_run(tmp_path / "three"), runs.only_run(tmp_path / "one"))


class Scoring:
    """Stands for the scorer of a card that has room for so many images: the numbers of an image are its outputs."""

    def __init__(self, step):
        self.step, self.runtime, self.model = step, resolve_runtime("cpu"), nn.Module()
        self.model.head = nn.Linear(3, 2)

    def refresh(self):
        pass

    def outputs_of(self, images):
        return images[:, :2], images[:, 2:]


def test_cards_of_different_sizes_score_batches_of_the_leaders_size(tmp_path, monkeypatch):
    """A card with less memory would choose smaller batches, and what it sends would not fit."""
    monkeypatch.setattr(distributed, "ANSWER", timedelta(seconds=20))
    images, rows = torch.arange(100.0).view(20, 5), np.arange(19)[::-1].copy()
    child = os.fork()
    rank = int(not child)
    messages = object.__new__(distributed._Messages)
    messages.store, messages.rank, messages.ranks = torch.distributed.FileStore(str(tmp_path / "store"), 2), rank, 2
    messages.count, scorer = 0, Scoring(step=(4, 3)[rank])
    learner = SimpleNamespace(
        scorer=scorer, runtime=scorer.runtime, model=scorer.model, images=images, test_images=images[:0]
    )
    if rank:
        monkeypatch.setattr(distributed, "new_learner", lambda *_, **__: learner)
        begin = {"parameters": {"dataset": "digits"}, "fingerprint": "f"}
        with suppress(BaseException):
            distributed._work_for_rank_0(messages, begin, lambda *_, **__: SimpleNamespace(fingerprint="f"))
        os._exit(0)
    workers = distributed._Workers(messages, learner)
    found = [(logits.clone(), features.clone()) for logits, features in workers.outputs(images, rows, features=True)]
    messages.send(None)
    os.waitpid(child, 0)
    workers.group.leave()
    logits, features = (torch.cat(parts) for parts in zip(*found))
    assert torch.equal(torch.cat([logits, features], 1), images[torch.from_numpy(rows)])


class TestTrainingOnAll:
    """Adam divides by the size of a gradient, so what rounding turns about grows from epoch to epoch."""

    def test_is_the_same_curve(self, launcher, tmp_path):
        run = {"schedule": "converge", "lr": 0.001, "class_weights": "true", "augment": "true"}
        process = torchrun(*launch.small(tmp_path / "two", training_on="all", **run), output=tmp_path)
        assert launcher.run(launch.small(tmp_path / "one", **run)).code == 0
        assert process.wait(280) == 0, (tmp_path / "stderr").read_text()
        two, one = (runs.only_run(tmp_path / name) for name in ("two", "one"))
        assert two.parent.name == one.parent.name, "how many processes there were is no part of what a run is"
        first = [runs.read_lines(folder / "epochs.jsonl")[:6] for folder in (two, one)]
        for ours, alone in zip(*first):
            for split in ("train", "val", "test"):
                assert ours[split]["loss"] == pytest.approx(alone[split]["loss"], rel=2e-3), split
        picks = [runs.read_json(folder / "al_tracking.json")["selected_indices"] for folder in (two, one)]
        assert len(set(picks[0]) & set(picks[1])) > 0.8 * len(picks[1])


class TestEnd:
    def test_mistake_is_told_once(self, tmp_path):
        assert torchrun("--lr=-1", output=tmp_path).wait(60) == 1  # torchrun's, whatever a process ends with
        (complaint,) = ours(tmp_path)
        assert complaint.startswith("error: lr=-1: ")
        assert "exitcode  : 2" in (tmp_path / "stderr").read_text()

    @pytest.mark.slow
    def test_help_is_given_once(self, tmp_path):
        assert torchrun("--help", output=tmp_path).wait(60) == 0
        assert (tmp_path / "stdout").read_text().count("usage: train.py") == 1

    @pytest.mark.parametrize("going", ["one", "all"], indirect=True)
    def test_lost_worker_ends_the_run_and_it_goes_on(self, going, launcher, tmp_path):
        process, ranks = going
        os.kill(ranks[1], signal.SIGKILL)
        assert process.wait(30) != 0
        (said,) = ours(tmp_path)
        assert said.endswith("give the same command again to go on")
        assert not any(is_alive(pid) for pid in ranks.values())
        again = launcher.start(launch.small(tmp_path / "results", **ENDLESS))
        again.until(lambda: "goes on after epoch" in again.stdout)
        again.send(signal.SIGTERM)
        assert again.wait(20).code == 143

    @pytest.mark.slow
    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
    def test_signal_to_torchrun_stops_all(self, going, tmp_path, signum):
        process, ranks = going
        process.send_signal(signum)
        assert process.wait(30) != 0
        assert ours(tmp_path) == [f"stopped by {signum.name}: give the same command again to go on"]
        assert not any(is_alive(pid) for pid in ranks.values())
        assert (runs.only_run(tmp_path / "results") / "checkpoint.pt").is_file()

    @pytest.mark.slow
    @pytest.mark.parametrize("killed", ["rank 0", "torchrun"])
    def test_nothing_outlives_the_run(self, going, killed):
        process, ranks = going
        os.kill(process.pid if killed == "torchrun" else ranks[0], signal.SIGKILL)
        assert process.wait(30) != 0
        deadline = time.monotonic() + 30
        while any(is_alive(pid) for pid in ranks.values()):
            assert time.monotonic() < deadline, "a process was left alone"
            time.sleep(0.1)


class TestDevices:
    @pytest.fixture
    def two_gpus(self, monkeypatch):
        import torch

        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setenv("LOCAL_RANK", "1")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")

    def test_each_process_has_its_own(self, two_gpus):
        assert _gpu_of_this_process("cuda") == "cuda:1"

    def test_one_for_all_is_refused(self, two_gpus):
        with pytest.raises(UserError, match="use device=cuda"):
            _gpu_of_this_process("cuda:0")

    def test_more_processes_than_gpus_are_refused(self, two_gpus, monkeypatch):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
        with pytest.raises(UserError, match="--nproc-per-node=3: there are 2 GPUs"):
            _gpu_of_this_process("cuda")


class TestLostProcess:
    @pytest.mark.parametrize(
        "said",
        [
            "NCCL error in: Proc.cpp:3384, remote process exited or there was a network error\nncclRemoteError",
            "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=GATHER)",
            "[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711",
        ],
    )
    def test_is_one_line_with_how_long_it_was_waited_for(self, said):
        with pytest.raises(distributed.LostProcess) as lost, distributed._one_line():
            raise torch.distributed.DistBackendError(said)
        assert "\n" not in str(lost.value)
        assert "10 minutes" in str(lost.value)
        assert "give the same command again" in str(lost.value)

    def test_comes_out_of_the_call_with_nccl_too(self, monkeypatch):
        """Else a thread of NCCL's ends the process with a stack of C++."""
        monkeypatch.setenv("TORCH_NCCL_BLOCKING_WAIT", "")  # so that it is taken back afterwards
        del os.environ["TORCH_NCCL_BLOCKING_WAIT"]
        monkeypatch.setattr(torch.distributed, "rendezvous", lambda *_, **__: iter([(None, 0, 2)]))
        distributed._Messages()
        assert os.environ["TORCH_NCCL_BLOCKING_WAIT"] == "1"
