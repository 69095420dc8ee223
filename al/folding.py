"""Batch normalisation folded into the convolutions before it: the same function in evaluation mode, faster.

For a convolution W * x + b followed by batch normalisation with scale g, shift h, mean m and variance v,
    W' = W g / sqrt(v + eps),   b' = h + (b - m) g / sqrt(v + eps).
The activation after them works in place: on a CPU, fresh memory for its output costs more than its arithmetic.
"""

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import nn

from al.layers import for_scoring


class Pair(NamedTuple):
    """Names of a convolution, of the batch normalisation of its output, and of the activation of that, if any."""

    conv: str
    bn: str
    activation: str | None = None


Pairs = list[Pair]


def conv_bn_pairs(model: nn.Module, example: torch.Tensor) -> Pairs:
    """What follows each other directly and can be folded, seen in one forward pass over `example` [N, 3, H, W].

    Where activations in place would change the output on `example`, for instance because a tensor is used a second
    time, there are none of them; where folding alone would, the result is empty.
    """
    probe = deepcopy(model).eval()
    with torch.no_grad():
        pairs, expected = _followers(probe, example)
        for candidate in (pairs, [Pair(conv, bn) for conv, bn, _ in pairs]):
            if torch.allclose(fold(probe, candidate)(example)[1], expected, rtol=1e-3, atol=1e-3):
                return candidate
    return []


def _followers(probe: nn.Module, example: torch.Tensor) -> tuple[Pairs, torch.Tensor]:
    """Which module takes what another one returned, by the identity of tensors; and the features of `example`."""
    made_by: dict[int, tuple[Pair, torch.Tensor]] = {}  # keeps the tensors, so an id stays its own
    pairs: dict[str, Pair] = {}

    def after(name, module, inputs, output):
        known, _ = made_by.get(id(inputs[0]), (None, None))
        if isinstance(module, nn.Conv2d):
            made_by[id(output)] = (Pair(name, ""), output)
        elif isinstance(module, nn.BatchNorm2d) and known and not known.bn:
            pairs[name] = Pair(known.conv, name)
            made_by[id(output)] = (pairs[name], output)
        elif isinstance(getattr(module, "inplace", None), bool) and known and known.bn:
            pairs[known.bn] = known._replace(activation=name)

    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: after(name, module, inputs, output))
        for name, module in probe.named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d) or hasattr(module, "inplace")
    ]
    features = probe(example)[1]
    for hook in hooks:
        hook.remove()
    return list(pairs.values()), features


def fold(model: nn.Module, pairs: Pairs) -> nn.Module:
    """A copy of the model in evaluation mode with the batch normalisation of `pairs` folded away."""
    folded = for_scoring(deepcopy(model)).eval()
    for conv_name, bn_name, activation in pairs:
        conv, bn = folded.get_submodule(conv_name), folded.get_submodule(bn_name)
        scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
        bias = torch.zeros_like(bn.running_mean) if conv.bias is None else conv.bias
        conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None], requires_grad=False)
        conv.bias = nn.Parameter(bn.bias + (bias - bn.running_mean) * scale, requires_grad=False)
        parent, _, child = bn_name.rpartition(".")
        setattr(folded.get_submodule(parent), child, _what_is_left(bn))
        if activation is not None:
            folded.get_submodule(activation).inplace = True
    return folded


def _what_is_left(bn: nn.BatchNorm2d) -> nn.Module:
    """timm's batch normalisation carries an activation with it; torch's carries nothing."""
    rest = [getattr(bn, name) for name in ("drop", "act") if hasattr(bn, name)]
    return nn.Sequential(*rest) if rest else nn.Identity()
