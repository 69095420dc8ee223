"""A GPU to resolve that nothing is computed on."""

import warnings

import pytest
import torch

from al import runtime
from al.nvidia import repeatability

FLAGS = ((torch.backends.cudnn, "allow_tf32"), (torch.backends.cuda.matmul, "allow_tf32"))


@pytest.fixture
def gpu(monkeypatch):
    """`device=auto` finds a GPU that nothing is computed on. Gives torch's flags for TF32, set as torch comes."""
    before = [getattr(*flag) for flag in FLAGS]
    torch.backends.cudnn.allow_tf32 = True
    monkeypatch.setattr(runtime, "_device", lambda name: torch.device("cuda"))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(repeatability, "_noted", set())
    with warnings.catch_warnings():
        yield FLAGS
    for flag, value in zip(FLAGS, before):
        setattr(*flag, value)
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
