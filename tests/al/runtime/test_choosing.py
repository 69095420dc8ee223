"""Which device a run gets, as far as a machine without a GPU can tell."""

import pytest
import torch

from al.errors import UserError
from al.runtime import choosing, own_card, resolve_runtime


def test_a_cpu_is_left_as_it_is():
    resolve_runtime("cpu")
    assert not torch.are_deterministic_algorithms_enabled()


class TestDevice:
    """What `device=auto` does where a GPU is there and torch cannot use it: one line, never a run on the CPU."""

    @pytest.fixture
    def card(self, monkeypatch, tmp_path):
        (tmp_path / "dev").mkdir()
        (tmp_path / "dev/nvidia3").touch()
        monkeypatch.setattr(choosing, "ROOT", tmp_path)
        monkeypatch.setattr(choosing, "_has_mps", lambda: False)
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
