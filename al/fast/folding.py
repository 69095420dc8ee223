"""Batch normalisation folded into the convolutions before it: the same function in evaluation mode, faster.

For a convolution W * x + b followed by batch normalisation with scale g, shift h, mean m and variance v,
    W' = W g / sqrt(v + eps),   b' = h + (b - m) g / sqrt(v + eps).
The activation after them works in place: on a CPU, fresh memory for its output costs more than its arithmetic.
"""

import re
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from al.errors import out_of_memory
from al.fast.convolutions import for_scoring, layout
from al.fast.switch import has

MISFIT = re.compile(r"\b(sizes?|shapes?)\b", re.IGNORECASE)
"""What torch's errors speak of where one tensor does not fit another."""


class Pair(NamedTuple):
    """Names of a convolution and what goes with it."""

    conv: str
    bn: str
    """The batch normalisation of its output."""
    activation: str | None = None
    """What the output of that goes into."""


Pairs = list[Pair]


def conv_bn_pairs(model: nn.Module, example: torch.Tensor) -> Pairs:
    """Find what can be folded: pairs that follow each other directly in a forward pass over `example` [N, 3, H, W].

    Folding all of a pair must leave the output on `example` as it is. If it does not, for instance because a tensor is
    used a second time, activations are left out of the pairs; if it still does not, the result is empty.
    """
    probe = deepcopy(model).eval()
    with torch.no_grad():
        pairs = _followers(probe, example)
        if not pairs or not has("folding"):
            return []
        exact, example = _in_double(probe, example)
        expected = exact(example)[1]
        for candidate in (pairs, [Pair(pair.conv, pair.bn) for pair in pairs]):
            if _agrees(fold(exact, candidate, example.dtype), example, expected):
                return candidate
    return []


def _in_double(probe: nn.Module, example: torch.Tensor) -> tuple[nn.Module, torch.Tensor]:
    """The network and the example on the CPU in float64: what is folded must not depend on rounding.

    In float32 a network of 50 layers may multiply rounding by a thousand, and TF32 starts with a thousand times more
    of it. A network that takes nothing but float32 stays in it.
    """
    probe, example = probe.cpu(), example.cpu()
    try:
        probe.double()(example.double())
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        return probe.float(), example
    return probe, example.double()


def _agrees(folded: nn.Module, example: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether the folded network gives the `expected` features [N, D], up to rounding; False if its tensors do not fit.

    Raises:
        RuntimeError: anything but tensors that do not fit: no memory, or tensors on two devices.
    """
    try:
        found = folded(example)[1]
    except RuntimeError as error:
        if out_of_memory(error) or not MISFIT.search(str(error)):
            raise
        return False
    return bool((found - expected).abs().max() <= 1e-3 * expected.abs().max())


class _Trace:
    """Which module takes what another one returned, unchanged since, during forward passes."""

    def __init__(self):
        self.pairs: dict[str, Pair] = {}
        self._made: dict[int, tuple[torch.Tensor, int, Pair]] = {}  # keeps the tensors, so an id stays its own

    def made(self, tensor: torch.Tensor) -> Pair | None:
        """The pair that made this tensor; None if no pair did, or if the tensor was written to since."""
        found, version, pair = self._made.get(id(tensor), (tensor, -1, None))
        return pair if found._version == version else None

    def before(self, name: str, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        known = self.made(inputs[0]) if inputs else None  # named arguments are not followed
        if known and known.bn and isinstance(getattr(module, "inplace", None), bool):
            self.pairs[known.bn] = known._replace(activation=name)

    def after(self, name: str, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        known, pair = self.made(inputs[0]) if inputs else None, None
        if isinstance(module, nn.Conv2d):
            pair = Pair(name, "")
        elif isinstance(module, nn.BatchNorm2d) and _has_all_weights(module) and known and not known.bn:
            pair = self.pairs[name] = known._replace(bn=name)
        if pair:
            self._made[id(output)] = (output, output._version, pair)


def _has_all_weights(bn: nn.BatchNorm2d) -> bool:
    """Whether it has a scale and running statistics, which some networks leave out."""
    return bn.affine and bn.track_running_stats


def _followers(probe: nn.Module, example: torch.Tensor) -> Pairs:
    """The pairs of a forward pass."""
    trace = _Trace()
    hooks = []
    for name, module in probe.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d) or hasattr(module, "inplace"):
            hooks.append(module.register_forward_pre_hook(partial(trace.before, name)))
            hooks.append(module.register_forward_hook(partial(trace.after, name)))
    probe(example)
    for hook in hooks:
        hook.remove()
    return list(trace.pairs.values())


def fold(model: nn.Module, pairs: Pairs, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy of the model in evaluation mode, in `dtype`, with the batch normalisation of `pairs` folded away."""
    folded = for_scoring(deepcopy(model)).eval()
    for pair in pairs:
        conv, bn = folded.get_submodule(pair.conv), folded.get_submodule(pair.bn)
        if conv.bias is None:  # b' is not 0, whatever b is
            conv.bias = nn.Parameter(torch.zeros_like(bn.running_mean))
        _replace(folded, pair.bn, _what_is_left(bn))
        if pair.activation is not None and has("inplace"):
            folded.get_submodule(pair.activation).inplace = True
    folded.to(dtype, memory_format=layout()).requires_grad_(False)
    refold(folded, model, pairs)
    return folded


def refold(folded: nn.Module, model: nn.Module, pairs: Pairs) -> None:
    """Copy the model's present weights into `folded`, which `fold` made of it."""
    weights = model.state_dict()
    for pair in pairs:
        conv, bn = model.get_submodule(pair.conv), model.get_submodule(pair.bn)
        scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)  # [K]: g / sqrt(v + eps)
        bias = 0 if conv.bias is None else conv.bias
        weights[f"{pair.conv}.weight"] = conv.weight * scale[:, None, None, None]  # [K, C, h, w]: W'
        weights[f"{pair.conv}.bias"] = bn.bias + (bias - bn.running_mean) * scale  # [K]: b'
    with torch.no_grad():
        for name, tensor in folded.state_dict().items():
            tensor.copy_(weights[name])  # in the precision and layout of scoring


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _what_is_left(bn: nn.BatchNorm2d) -> nn.Module:
    """timm's batch normalisation carries an activation with it; torch's carries nothing."""
    rest = nn.Sequential()
    for name in ("drop", "act"):
        if hasattr(bn, name):
            rest.add_module(name, getattr(bn, name))
    return rest if len(rest) else nn.Identity()
