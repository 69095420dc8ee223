"""A fit in several processes takes the steps of one process."""

import copy
import os
import traceback

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from al.config import RunConfig
from al.learning.networks import build_model
from al.learning.sharing import Parts, WholeBatch
from al.learning.trainer import Trainer
from al.runtime import resolve_runtime

rng = np.random.default_rng(0)


class Gloo:
    """Processes that add up by gloo."""

    def __init__(self, rank, ranks):
        self.rank, self.ranks = rank, ranks

    def add_up(self, tensor):
        dist.all_reduce(tensor)


class Number:
    """As one of several; nothing is ever added up."""

    def __init__(self, rank, ranks):
        self.rank, self.ranks = rank, ranks


def together(ranks, work, folder):
    """What `work(processes)` returns in each of so many forks of this process."""
    children = []
    for rank in range(ranks):
        children.append(os.fork())
        if not children[-1]:
            code = 1
            try:
                store = dist.FileStore(str(folder / "store"), ranks)
                dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks)
                torch.save(work(Gloo(rank, ranks)), folder / f"{rank}.pt")
                dist.barrier()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * ranks
    return [torch.load(folder / f"{rank}.pt") for rank in range(ranks)]


class TestParts:
    @pytest.mark.parametrize("ranks", [1, 2, 3, 4])
    @pytest.mark.parametrize(("count", "size"), [(64, 32), (70, 32), (7, 32), (33, 10), (5, 4)])
    def test_every_image_is_taken_once(self, ranks, count, size):
        parts = [Parts(count, size, Number(rank, ranks)) for rank in range(ranks)]
        for pieces in zip(*parts):
            assert len({(batch.start, batch.stop) for batch, _ in pieces}) == 1
            taken = [row for _, own in pieces for row in range(own.start, own.stop)]
            assert taken == list(range(pieces[0][0].start, pieces[0][0].stop))
        for part in parts:
            sizes = [own.stop - own.start for _, own in part]
            assert all(size == part.step for size in sizes[: count // size])
            assert len(part.rows) == sum(sizes)

    def test_alone_everything(self):
        assert list(Parts(5, 4, None)) == [(slice(0, 4), slice(0, 4)), (slice(4, 5), slice(4, 5))]


class Net(nn.Module):
    """Batch normalisation of maps and of vectors, dropout of both, stochastic depth."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.plain = nn.BatchNorm1d(8, affine=False)
        self.linear = nn.Linear(8, 5)

    def forward(self, images):
        maps = F.dropout2d(F.relu(self.norm(self.conv(images))), 0.2, self.training)
        depth = torch.empty(len(images), 1, 1, 1).bernoulli_(0.7).div_(0.7)
        return self.linear(F.dropout(self.plain((maps * depth).mean((2, 3))), 0.4, self.training))


IMAGES, TARGETS = torch.from_numpy(rng.standard_normal((11, 3, 6, 6))), torch.from_numpy(rng.integers(0, 5, 11))


def net():
    torch.manual_seed(1)
    return Net().double()


def efficientnet():
    """Its stochastic depth is of a whole image, its classifier has dropout of features."""
    return build_model("efficientnet_b0", 5, weights="none", dropout=0.3, image_size=32, seed=1).double().train()


WEIGHT = torch.tensor([1.0, 2, 0.5, 3, 1], dtype=torch.float64)


@pytest.mark.parametrize(
    ("make", "ranks", "weight"), [(net, 2, None), (net, 3, WEIGHT), (net, 2, WEIGHT), (efficientnet, 2, None)]
)
def test_a_step_is_that_of_one_process(tmp_path, make, ranks, weight):
    """Outputs, gradients and running statistics, in float64 to its rounding: nothing is an approximation."""
    model, images = make(), IMAGES if make is net else F.interpolate(IMAGES, (32, 32))

    def step(processes):
        mine = copy.deepcopy(model)
        torch.manual_seed(2)
        parts = Parts(len(images), 32, processes)
        ((batch, own),) = parts
        with parts.whole(batch, own):
            out = mine(images[own])
            logits = out if make is net else out[0]
            alone = processes is None
            loss = (
                F.cross_entropy(logits, TARGETS, weight) if alone else parts.loss(logits, TARGETS[own], TARGETS, weight)
            )
            loss.backward()
        parts.add_up_gradients(mine.parameters())
        found = {"loss": loss.detach(), "logits": logits.detach(), **mine.state_dict()}
        return found | {f"grad {name}": p.grad for name, p in mine.named_parameters()}

    expected, found = step(None), together(ranks, step, tmp_path)
    for name, tensor in expected.items():
        if name == "logits":
            tensors = [torch.cat([part["logits"] for part in found])]
        elif name == "loss":
            tensors = [sum(part["loss"] for part in found)]
        else:
            tensors = [part[name] for part in found]
        for other in tensors:
            torch.testing.assert_close(other, tensor, rtol=1e-9, atol=1e-10, msg=name)


def test_statistics_of_a_part_would_be_others():
    """Or the test above would show nothing."""
    norm = nn.BatchNorm2d(3).double()
    assert (norm(IMAGES)[:5] - norm(IMAGES[:5])).abs().max() > 0.01


def test_evaluation_inside_is_left_alone():
    norm = nn.BatchNorm2d(3).double().eval()
    with WholeBatch(Number(0, 2), 11, slice(0, 5)):
        assert torch.equal(norm(IMAGES[:5]), F.batch_norm(IMAGES[:5], norm.running_mean, norm.running_var))


def test_two_epochs_are_those_of_one_process(tmp_path):
    """Three processes; batches of 8 and a last one of 2, of which one process has nothing."""
    images = torch.from_numpy(rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8))
    labels = rng.integers(0, 6, 30)
    config = RunConfig(model="small_cnn", weights="none", batch_size=8, class_weights=True, lr=1e-4)
    model = build_model("small_cnn", 6, weights="none", dropout=0.3, image_size=32, seed=1)

    def fit(processes):
        trainer = Trainer(
            copy.deepcopy(model), resolve_runtime("cpu", "float32"), image_size=32, settings=config, classes=6
        )
        rows = np.arange(26)
        found = [trainer.share_of_epoch(images, labels, rows, number, processes) for number in (1, 2)]
        return {
            "confusion": torch.tensor(np.array([confusion for confusion, _ in found])),
            "loss": torch.tensor([loss for _, loss in found]),
            "weights": torch.cat([t.flatten().float() for t in trainer.model.state_dict().values()]),
        }

    expected, found = fit(None), together(3, fit, tmp_path)
    for other in found:
        torch.testing.assert_close(other["loss"], expected["loss"], rtol=1e-3, atol=1e-3)
        assert other["confusion"].sum() == 52
        assert torch.equal(other["weights"], found[0]["weights"]), "all processes have the same weights, bit for bit"
        # Adam's first steps have the sign of a gradient, which rounding turns where it is nearly zero
        moved = (other["weights"] - expected["weights"]).abs()
        assert moved.mean() < 1e-5


@pytest.mark.parametrize("shape", [((5, 1, 1),), (5, 1, 1), ([5, 1],), (torch.Size((5, 2)),)])
def test_stochastic_depth_of_networks_of_the_hub_is_drawn_for_all_images(shape):
    """Transformers draws it by `torch.rand((images, 1, ...))`."""
    rest = tuple(shape[0] if len(shape) == 1 else shape)[1:]
    torch.manual_seed(3)
    whole = torch.rand(11, *rest)
    torch.manual_seed(3)
    with WholeBatch(Number(1, 2), 11, slice(5, 10)):
        part = torch.rand(*shape)
    assert torch.equal(part, whole[5:10])


def test_other_random_numbers_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(()), torch.rand(4), torch.rand(3, 5)
    torch.manual_seed(3)
    with WholeBatch(Number(1, 2), 11, slice(5, 10)):
        found = torch.rand(()), torch.rand(4), torch.rand(3, 5)
    assert all(map(torch.equal, found, expected))
