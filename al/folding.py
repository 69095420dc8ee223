"""Batch normalisation folded into the convolutions before it: the same function in evaluation mode, faster.

For a convolution W * x + b followed by batch normalisation with scale g, shift h, mean m and variance v,
    W' = W g / sqrt(v + eps),   b' = h + (b - m) g / sqrt(v + eps).
"""

from copy import deepcopy

import torch
from torch import nn

from al.layers import for_scoring

Pairs = list[tuple[str, str]]


def conv_bn_pairs(model: nn.Module, example: torch.Tensor) -> Pairs:
    """Names of (convolution, batch normalisation) that follow each other directly, seen in one forward pass.

    The result is empty where folding would change the output on `example` [N, 3, H, W], for instance
    because a convolution's output is used a second time.
    """
    made_by: dict[int, tuple[str, torch.Tensor]] = {}
    pairs: Pairs = []

    def after_conv(name):
        def hook(module, inputs, output):
            made_by[id(output)] = (name, output)  # keeps the tensor, so its id stays its own

        return hook

    def after_bn(name):
        def hook(module, inputs, output):
            if id(inputs[0]) in made_by:
                pairs.append((made_by[id(inputs[0])][0], name))

        return hook

    probe = deepcopy(model).eval()
    hooks = [m.register_forward_hook(after_conv(n)) for n, m in probe.named_modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_hook(after_bn(n)) for n, m in probe.named_modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        expected = probe(example)[1]
        for hook in hooks:
            hook.remove()
        same = torch.allclose(fold(probe, pairs)(example)[1], expected, rtol=1e-3, atol=1e-3)
    return pairs if same else []


def fold(model: nn.Module, pairs: Pairs) -> nn.Module:
    """A copy of the model in evaluation mode with the batch normalisation of `pairs` folded away."""
    folded = for_scoring(deepcopy(model)).eval()
    for conv_name, bn_name in pairs:
        conv, bn = folded.get_submodule(conv_name), folded.get_submodule(bn_name)
        scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
        bias = torch.zeros_like(bn.running_mean) if conv.bias is None else conv.bias
        conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None], requires_grad=False)
        conv.bias = nn.Parameter(bn.bias + (bias - bn.running_mean) * scale, requires_grad=False)
        parent, _, child = bn_name.rpartition(".")
        setattr(folded.get_submodule(parent), child, _what_is_left(bn))
    return folded


def _what_is_left(bn: nn.BatchNorm2d) -> nn.Module:
    """timm's batch normalisation carries an activation with it; torch's carries nothing."""
    rest = [getattr(bn, name) for name in ("drop", "act") if hasattr(bn, name)]
    return nn.Sequential(*rest) if rest else nn.Identity()
