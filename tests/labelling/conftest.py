"""What the tests of labelling share: a tiny model for embeddings, and folders of photographs."""

from pathlib import Path

import photos
import pytest
from tiny_clip import save_clip


@pytest.fixture(scope="session")
def features(once) -> str:
    return str(once("labelling_clip", lambda folder: save_clip(folder / "clip")) / "clip")


@pytest.fixture(autouse=True)
def _without_wandb(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "photos"


@pytest.fixture
def truth(folder) -> dict[str, str]:
    """The class of every photograph in `folder`, by path."""
    return photos.photo_folder(folder)
