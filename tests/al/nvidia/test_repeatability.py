"""Determinism and precision of an NVIDIA card, as far as a machine without one can tell."""

import os
import warnings

import numpy as np
import pytest
import torch
from tf32 import TensorCores

from al import runtime
from al.errors import UserError
from al.fast.convolutions import for_training
from al.fast.folding import conv_bn_pairs
from al.learning.networks import build_model
from al.learning.scorer import Scorer
from al.runtime import Runtime, exact_float32, resolve_runtime
from al.strategies import REGISTRY, Pool
from benchmarks import synthetic
from benchmarks.trained import trained


def test_a_gpu_is_asked_for_the_same_twice(gpu):
    """By kernels that give it; what has none goes on without a word for every step."""
    resolve_runtime("auto")
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


WARNINGS = {
    "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set "
    "'torch.use_deterministic_algorithms(True, warn_only=True)'. You can file an issue": (
        "adaptive_avg_pool2d_backward_cuda"
    ),
    "Memory Efficient attention defaults to a non-deterministic algorithm. To explicitly enable determinism call "
    "torch.use_deterministic_algorithms(True, warn_only=False).": "Memory Efficient attention",
}


class TestWhatIsNotDeterministic:
    """Torch's own words, as its library holds them."""

    @pytest.fixture
    def shown(self, gpu, monkeypatch):
        """Warnings that a user sees."""
        shown = []
        monkeypatch.setattr(warnings, "showwarning", lambda message, *where: shown.append(str(message)))
        return shown

    def test_is_noted_once_and_not_shown(self, shown):
        for _ in range(2):  # a run resolves its device for embeddings, for labels and for the learner
            found = resolve_runtime("auto")
        assert found.not_repeatable == ()
        for text in 3 * [*WARNINGS]:
            warnings.warn(text, UserWarning, stacklevel=1)
        assert found.not_repeatable == tuple(sorted(WARNINGS.values()))
        assert found.host.not_repeatable == found.not_repeatable, "vectors that a probe learns from may come from there"
        assert not shown

    def test_leaves_other_warnings_as_they_were(self, shown):
        found = resolve_runtime("auto")
        warnings.warn("something else is not deterministic", UserWarning, stacklevel=1)
        assert shown == ["something else is not deterministic"]
        assert found.not_repeatable == ()

    def test_torch_itself_is_heard(self, gpu):
        """By an operation that has no deterministic kernel on the CPU either."""
        found = resolve_runtime("auto")
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1), accumulate=False)
        assert found.not_repeatable == ("put_",)

    @pytest.mark.parametrize(("device", "known"), [("cpu", True), ("cuda", True), ("mps", False), ("xpu", False)])
    def test_is_known_of_some_devices(self, device, known):
        found = Runtime(torch.device(device), torch.float32).not_repeatable
        assert (found is not None) == known


class TestTF32:
    @pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
    def test_is_off(self, gpu, precision):
        resolve_runtime("auto", precision)
        assert [getattr(*flag) for flag in gpu] == [False, False]

    def test_is_on_where_asked_for(self, gpu):
        found = resolve_runtime("auto", "tf32")
        assert [getattr(*flag) for flag in gpu] == [True, True]
        assert (found.precision, found.scoring_dtype) == ("tf32", torch.float32)

    def test_is_refused_on_a_cpu(self):
        with pytest.raises(UserError, match=r"precision=tf32: .*device=cpu; use precision=float32"):
            resolve_runtime("cpu", "tf32")

    def test_is_off_for_a_while(self, gpu):
        resolve_runtime("auto", "tf32")
        with exact_float32():
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32


IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8))


@pytest.fixture(scope="module", params=["efficientnet_b0", "resnet18"])
def network(request):
    """As a GPU has it: of the convolutions only those of one pixel are written another way."""
    model = trained(build_model(request.param, 6, weights="none", dropout=0.3, image_size=32, seed=1))
    return for_training(model, on_cpu=False)


class TestTF32OnTensorCores:
    """With statistics as of training, rounded operands move the features by more than folding is allowed to."""

    @pytest.mark.parametrize("precision", ["float32", "tf32"])
    def test_everything_is_folded(self, gpu, network, precision):
        resolve_runtime("auto", precision)
        with TensorCores():
            pairs = conv_bn_pairs(network, torch.linspace(-1, 1, 6144).view(2, 3, 32, 32))
        assert len(pairs) == sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())

    def test_float32_says_what_a_cpu_says(self, gpu, network):
        cpu = Runtime(torch.device("cpu"), torch.float32)
        expected = Scorer(network, cpu, 32).predict(IMAGES).probs
        apart = {}
        for precision in ("float32", "tf32"):
            resolve_runtime("auto", precision)
            with TensorCores():
                apart[precision] = np.abs(Scorer(network, cpu, 32).predict(IMAGES).probs - expected).max()
        assert apart["float32"] == 0
        assert apart["tf32"] > 1e-3

    def test_float32_picks_what_a_cpu_picks(self, gpu, network):
        exact = picks(network)
        for precision, alike in (("float32", 1.0), ("tf32", TF32_PICKS)):
            resolve_runtime("auto", precision)
            with TensorCores():
                found = picks(network)
            for name in RANKED:
                assert len(found[name] & exact[name]) >= alike * PICKED, (precision, name)
            assert (found == exact) == (precision == "float32")

    def test_tf32_that_nobody_asked_for_changes_picks(self, gpu, network, monkeypatch):
        """Or the test before this one would show nothing."""
        monkeypatch.setattr(runtime, "allow_tf32", lambda allowed: None)
        exact = picks(network)
        resolve_runtime("auto", "float32")
        with TensorCores():
            assert picks(network) != exact


TF32_PICKS = 0.85
"""Share of picks that stay with precision=tf32, as the README says."""
RANKED, IN_BATCHES, PICKED = ("margin", "uncertainty", "entropy"), ("typiclust", "badge", "coreset"), 50
POOL, _ = synthetic.images(1000, seed=7)


def picks(network):
    """By strategy, those of 1,000 images that a network makes it pick: 5 %."""
    scorer = Scorer(network, Runtime(torch.device("cpu"), torch.float32), 32)
    found = scorer.predict(torch.from_numpy(POOL), features=True)
    arrays = {"probs": found.probs, "features": found.features, "activations": found.features}
    nothing = np.zeros(len(POOL), bool)
    pool = Pool(labelled=nothing, labels=np.full(len(POOL), -1), classes=found.probs.shape[1], **arrays)
    return {
        name: set(REGISTRY[name].select(pool, PICKED, np.random.default_rng(0)).positions.tolist())
        for name in (*RANKED, *IN_BATCHES)
    }
