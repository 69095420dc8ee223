"""Devices, as far as a machine without a GPU can tell."""

import numpy as np
import pytest
import torch

from al import runtime
from al.errors import UserError
from al.runtime import Runtime, own_card, resolve_runtime


def test_a_cpu_is_left_as_it_is():
    resolve_runtime("cpu")
    assert not torch.are_deterministic_algorithms_enabled()


class TestDevice:
    """What `device=auto` does where a GPU is there and torch cannot use it: one line, never a run on the CPU."""

    @pytest.fixture
    def card(self, monkeypatch, tmp_path):
        (tmp_path / "dev").mkdir()
        (tmp_path / "dev/nvidia3").touch()
        monkeypatch.setattr(runtime, "ROOT", tmp_path)
        monkeypatch.setattr(runtime, "_has_mps", lambda: False)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def test_a_driver_too_old_is_said(self, card, monkeypatch):
        def init():
            raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update")

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "init", init)
        with pytest.raises(UserError, match=r"^device=auto: .*too old \(found version 11040\).*or use device=cpu$"):
            resolve_runtime("auto")

    @pytest.mark.parametrize("hidden", ["", "-1"])
    def test_a_hidden_one_is_left_alone(self, card, monkeypatch, hidden):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert resolve_runtime("auto").on_cpu

    def test_the_cpu_may_be_asked_for(self, card, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert resolve_runtime("cpu").on_cpu

    @pytest.mark.parametrize("asked", ["auto", "cuda"])
    def test_a_card_too_old_for_this_torch_is_said(self, monkeypatch, asked):
        def ones(*size, device):
            assert device.type == "cuda"
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCUDA kernel")

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch, "ones", ones)
        with pytest.raises(UserError, match=r"no kernel image is available .*device=cpu$") as caught:
            resolve_runtime(asked)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ("cpu:7", r"^device='cpu:7': there is one CPU, .*; use device=cpu$"),
            ("cpu:-1", r"^device='cpu:-1': not usable here .*use device=auto or device=cpu$"),
            ("gpu", r"^device='gpu': not usable here .*use device=auto or device=cpu$"),
            ("meta", r"^device='meta': not usable here .*use device=auto or device=cpu$"),
        ],
    )
    def test_one_that_is_not_there_is_said(self, asked, message):
        with pytest.raises(UserError, match=message):
            resolve_runtime(asked)


@pytest.mark.parametrize(
    ("device", "cards", "chosen"),
    [
        ("auto", 3, ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]),
        ("cuda", 2, ["cuda:0", "cuda:1"] * 2),
        ("auto", 1, ["auto"] * 4),
        ("auto", 0, ["auto"] * 4),
        ("cpu", 3, ["cpu"] * 4),
        ("cuda:1", 3, ["cuda:1"] * 4),
    ],
)
def test_processes_of_one_machine_share_its_cards(monkeypatch, device, cards, chosen):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    assert [own_card(device, number) for number in range(4)] == chosen


class TestPlace:
    def test_images_larger_than_the_device_are_said(self, monkeypatch):
        def to(self, *arguments, **options):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

        monkeypatch.setattr(torch.Tensor, "to", to)
        with pytest.raises(
            UserError, match=r"^device=cuda: no room for 3 MiB of images; use images_on=host .*another device$"
        ):
            Runtime(torch.device("cuda"), torch.float32).place(np.zeros((1024, 32, 32, 3), np.uint8))

    def test_copies_to_the_device_are_waited_for(self, monkeypatch):
        """From pageable memory nothing else is safe, on Apple's least of all."""
        taken = []
        monkeypatch.setattr(torch.Tensor, "to", lambda self, *place, **options: taken.append((place, options)) or self)
        Runtime(torch.device("mps"), torch.float32).place(np.zeros(3))
        assert taken == [((torch.device("mps"),), {})]


@pytest.mark.parametrize(("kind", "fused"), [("cpu", 1), ("cuda", 1), ("mps", 1), ("xpu", 1), ("meta", 0)])
def test_the_fused_optimiser(kind, fused):
    assert Runtime(torch.device(kind), torch.float32).fused_optimiser == bool(fused)


def test_the_cpu_beside_a_device_pretends_to_have_as_little_memory():
    assert Runtime(torch.device("cuda"), torch.float32, memory=5).host.memory == 5
