"""One run in several processes: `torchrun` starts them, rank 0 runs the loop, the others take a share of its batches.

Rank 0 does all that it would do alone, and alone writes, prints and logs. The others are workers: they hold the
images and a copy of the network, and wait at torchrun's store for what to do, one message after another: the
configuration, then each pass over images, at last the end. Batch b of a pass goes to rank b mod R, and the batches
are those that one process would score, so their outputs are the same bit for bit. All ranks score one batch each,
then rank 0 gathers them: the memory of none grows with the pool. With `training_on=all` each batch of a training epoch
is split between the ranks too, see `al.learning.sharing`.
"""

import io
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from al.config import RunConfig
from al.data import DataSet
from al.errors import UserError, first_line
from al.learning.learner import new_learner
from al.signals import STOPPING
from al.storage.run_folder import RunFolder

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from al.learning.batches import Images
    from al.learning.learner import StateDict
    from al.learning.network_learner import NetworkLearner, TorchLearner
    from al.learning.scorer import Scorer

ANSWER = timedelta(minutes=10)
"""What a process may keep the others waiting within a pass, where a batch takes seconds."""
PATIENCE = timedelta(seconds=1)
"""Of one look at the store; between two looks, signals take effect."""

Message = dict
"""JSON: the parameters of a run to begin with, then what to `score` or to `fit`."""
Load = Callable[..., DataSet]
"""Name, folder and image size of a data set -> its images."""


class LostProcess(Exception):
    """A process of the group has died or does not answer."""


def ranks() -> int:
    """Processes that torchrun started together; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def is_worker() -> bool:
    """Whether this process works for another one."""
    return ranks() > 1 and int(os.environ["RANK"]) > 0


@contextmanager
def leading() -> Iterator["Leader"]:
    """The leader, for the process that runs the loop; its workers end when it ends, also after an error."""
    leader = Leader(_Messages() if ranks() > 1 else None)
    try:
        yield leader
    except BaseException:
        leader.end()
        raise
    leader.end()
    leader.leave()


class Leader:
    """Rank 0, or the only process of a run."""

    def __init__(self, messages: "_Messages | None"):
        self.messages = messages
        self.workers: _Workers | None = None

    def begin(self, config: "RunConfig", fingerprint: str, learner: "NetworkLearner") -> None:
        """Has the workers make ready, while this process goes on, and from now on score with `learner`.

        Raises:
            LostProcess: torchrun is gone.
        """
        if self.messages is None or config.learner.reads_embeddings:  # fitting a head is quicker than sending
            return
        parameters = config.model_dump(mode="json") | {"precision": learner.runtime.precision}
        self.messages.send({"parameters": parameters, "fingerprint": fingerprint})
        self.workers = learner.scorer.peers = _Workers(self.messages, learner)
        if config.training_on == "all":
            learner.share_training(self.workers)

    def end(self) -> None:
        if self.messages is not None:
            with suppress(LostProcess):  # torchrun has ended already, and they with it
                self.messages.send(None)

    def leave(self) -> None:
        """Only where all is well: what waits for a lost process would wait here too."""
        if self.workers is not None and self.workers.group is not None:
            self.workers.group.leave()


def serve(load: Load) -> int:
    """The life of a worker; returns its exit status. What goes wrong elsewhere is said there."""
    for signum in STOPPING:
        signal.signal(signum, signal.SIG_DFL)
    try:
        messages = _Messages()
        if (begin := messages.receive()) is not None:
            _work_for_rank_0(messages, begin, load)
    except LostProcess:
        return 1
    except UserError as error:
        print(f"error: rank {os.environ['RANK']}: {error}", file=sys.stderr)
        return 2
    return 0


def _work_for_rank_0(messages: "_Messages", begin: Message, load: Load) -> None:
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):  # noqa: PTH123
        config = RunConfig(**begin["parameters"])
        where = (config.dataset, config.data_dir, config.image_size)
        data = load(*where, split_file=config.split_file, cache=config.cache)
        learner = new_learner(config, data, None, scratch=RunFolder.of(config).path)
    if data.fingerprint != begin["fingerprint"]:
        raise UserError(
            f"data_dir={config.data_dir!r}: other images on {socket.gethostname()} than rank 0 has; make them equal"
        )
    messages.say_ready()
    group = None
    while (task := messages.receive()) is not None:
        group = group or _Group(messages, learner)
        group.share_weights()
        learner.scorer.refresh()
        rows = group.share_numbers(np.empty(task["rows"], np.int64))
        if "fit" in task:
            _fit(group, learner, rows, task)
            continue
        for _ in group.gathered(group.images[task["score"]], rows, task["step"], features=task["features"]):
            pass
    if group is not None:
        group.leave()


def _fit(group: "_Group", learner: "NetworkLearner", rows: "NDArray[np.int64]", task: Message) -> None:
    """This process's part of an epoch."""
    labels = np.zeros(len(learner.images), np.int64)
    labels[rows] = group.share_numbers(np.empty(len(rows), np.int64))
    if task["state"]:
        learner.trainer.optimiser.load_state_dict(group.share_state(bytes(task["state"])))
    learner.trainer.set_lr(task["lr"])
    learner.trainer.share_of_epoch(learner.images, labels, rows, task["fit"], group)


class _Workers:
    """The `Peers` of rank 0's scorer and trainer."""

    def __init__(self, messages: "_Messages", learner: "TorchLearner"):
        self.messages, self.learner = messages, learner
        self.sets = [id(images) for images in (learner.images, learner.test_images)]
        self.group: _Group | None = None

    def begin_epoch(
        self,
        labels: "NDArray[np.int64]",
        rows: "NDArray[np.int64]",
        number: int,
        lr: float,
        optimiser: "StateDict | None",
    ) -> "_Group":
        """See `al.learning.trainer.Peers`; their optimisers take every step that this one takes.

        Raises:
            LostProcess: a worker has died or does not answer.
        """
        state = b"" if optimiser is None else _as_bytes(optimiser)
        group = self._begin({"fit": number, "rows": len(rows), "lr": lr, "state": len(state)})
        group.share_numbers(rows)
        group.share_numbers(labels)
        if state:
            group.share_state(state)
        return group

    def _begin(self, task: Message) -> "_Group":
        if self.group is None:
            self.messages.wait_until_ready()
        self.messages.send(task)
        self.group = self.group or _Group(self.messages, self.learner)
        self.group.share_weights()
        return self.group

    def outputs(
        self, images: "Images", rows: "NDArray[np.int64]", *, features: bool
    ) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
        """The outputs of all batches in their order.

        Raises:
            LostProcess: a worker has died or does not answer.
        """
        which, step = self.sets.index(id(images)), self.learner.scorer.step
        group = self._begin({"score": which, "rows": len(rows), "step": step, "features": features})
        group.share_numbers(rows)
        left = len(rows)
        for parts in group.gathered(images, rows, step, features=features):
            for part in parts:
                filled = part[: max(left, 0)]
                left -= len(part)
                if len(filled):
                    yield filled[:, : group.classes], filled[:, group.classes :]


class _Messages:
    """What rank 0 has to say, in order, at a store that torchrun provides."""

    def __init__(self) -> None:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # one line for a lost process, and no stack of C++
        # NCCL's errors then come out of the call that meets them, and no thread of its own ends the process
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
        import torch.distributed as dist

        with _one_line():
            self.store, self.rank, self.ranks = next(dist.rendezvous("env://", timeout=ANSWER))
        self.count = 0

    def send(self, message: Message | None) -> None:
        with _one_line():
            self.store.set(f"message {self.count}", json.dumps(message))
        self.count += 1

    def receive(self) -> Message | None:
        """The next message, however long it takes; None at the end."""
        message = json.loads(self._wait_for(f"message {self.count}"))
        self.count += 1
        return message

    def say_ready(self) -> None:
        with _one_line():
            self.store.set(f"rank {self.rank} is ready", "")

    def wait_until_ready(self) -> None:
        """Until every worker has its images and its network, however long that takes."""
        for rank in range(1, self.ranks):
            self._wait_for(f"rank {rank} is ready")

    def _wait_for(self, key: str) -> bytes:
        import torch.distributed as dist

        while True:
            try:
                with _one_line(passing=dist.DistStoreError):
                    self.store.wait([key], PATIENCE)
                    return self.store.get(key)
            except dist.DistStoreError:  # not yet
                continue


class _Group:
    """The collective operations of a pass; every process of the run makes the same calls in the same order."""

    def __init__(self, messages: _Messages, learner: "TorchLearner"):
        import torch.distributed as dist

        self.scorer: Scorer = learner.scorer
        self.images = (learner.images, learner.test_images)
        self.classes = learner.model.head.out_features
        backend, self.place = learner.runtime.exchange
        self.rank, self.ranks = messages.rank, messages.ranks
        with _one_line():
            dist.init_process_group(
                backend,
                store=dist.PrefixStore("group", messages.store),
                rank=self.rank,
                world_size=self.ranks,
                timeout=ANSWER,
            )

    def share_weights(self) -> None:
        """Gives every process the weights of rank 0."""
        import torch

        tensors = [tensor for tensor in self.scorer.model.state_dict().values() if tensor.is_floating_point()]
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).to(self.place)
        self._broadcast(flat)
        if self.rank:
            for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
                tensor.copy_(part.view(tensor.shape))

    def share_numbers(self, numbers: "NDArray[np.int64]") -> "NDArray[np.int64]":
        """Rows or labels [N] of rank 0; the others give an array to be filled."""
        import torch

        shared = torch.from_numpy(np.array(numbers, np.int64)).to(self.place)
        self._broadcast(shared)
        return shared.cpu().numpy()

    def share_state(self, saved: bytes) -> "StateDict":
        """A state of rank 0; the others give as many bytes."""
        import torch

        shared = torch.frombuffer(bytearray(saved), dtype=torch.uint8).to(self.place)
        self._broadcast(shared)
        content = io.BytesIO(shared.cpu().numpy().tobytes())
        return torch.load(content, map_location=self.scorer.runtime.device, weights_only=True)

    def add_up(self, tensor: "torch.Tensor") -> None:
        """Makes the tensor, of one shape in all processes, the sum over them."""
        import torch.distributed as dist

        there = tensor.to(self.place)
        with _one_line():
            dist.all_reduce(there)
        if there is not tensor:
            tensor.copy_(there)

    def gathered(
        self, images: "Images", rows: "NDArray[np.int64]", step: int, *, features: bool
    ) -> Iterator[list["torch.Tensor"]]:
        """One batch of each rank at a time: on rank 0 [step, C + D] of each rank in order, elsewhere nothing.

        The last ones are of full size too, with anything in what lies beyond `rows`.

        Args:
            step: images in a batch: rank 0's, as a card with less memory would choose fewer for itself.
        """
        import torch
        import torch.distributed as dist

        from al.learning.batches import batches

        width = self.classes + features * self.scorer.model.head.in_features
        own = torch.zeros(step, width, device=self.place)
        parts = [] if self.rank else [torch.empty_like(own) for _ in range(self.ranks)]
        firsts = range(0, len(rows), step * self.ranks)
        mine = np.concatenate([rows[first + self.rank * step :][:step] for first in firsts])
        taken = batches(images, mine, step, self.scorer.runtime)
        for _ in firsts:
            if (batch := next(taken, None)) is not None:
                logits, activations = self.scorer.outputs_of(batch)
                own[: len(batch), : self.classes] = logits
                own[: len(batch), self.classes :] = activations[:, : width - self.classes]
            with _one_line():
                dist.gather(own, parts or None)
            yield parts

    def leave(self) -> None:
        import torch.distributed as dist

        with suppress(RuntimeError):
            dist.destroy_process_group()

    def _broadcast(self, tensor: "torch.Tensor") -> None:
        import torch.distributed as dist

        with _one_line():
            dist.broadcast(tensor, src=0)


def _as_bytes(state: "StateDict") -> bytes:
    import torch

    saved = io.BytesIO()
    torch.save(state, saved)
    return saved.getvalue()


@contextmanager
def _one_line(passing: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """Turns what torch.distributed raises where a process is gone, but for `passing`, into a `LostProcess`."""
    try:
        yield
    except passing:
        raise
    except (RuntimeError, OSError) as error:
        reason = first_line(error).split("] ")[-1].split(". ")[0]  # without gloo's own source line and advice
        raise LostProcess(
            f"a process that works with this one was lost, or kept it waiting for {ANSWER.seconds // 60} minutes "
            f"({reason}); give the same command again to go on"
        ) from None
