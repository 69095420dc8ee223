"""What the tests of data preparation share: the CPU, and folders of tiny models."""

from pathlib import Path

import pytest
import tiny_networks
from tiny_clip import save_clip


@pytest.fixture(scope="session")
def cpu():
    from al.runtime import resolve_runtime

    return resolve_runtime("cpu", "float32")


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory) -> dict[str, Path]:
    from transformers import ConvNextImageProcessor

    root = tmp_path_factory.mktemp("models")
    folders = {"clip": save_clip(root / "clip"), "resnet": tiny_networks.save("resnet", root / "resnet")}
    ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(folders["resnet"])
    return folders
