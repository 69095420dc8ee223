"""Networks as training leaves them, without the training: fresh ones have features near 0, on which every comparison
passes."""

import numpy as np
import torch
from torch import nn

from al.learning.scorer import to_input
from benchmarks import synthetic


def trained(model: nn.Module, side: int = synthetic.SIDE, batches: int = 3) -> nn.Module:
    """The model, in evaluation mode: its batch normalisation has scales, shifts and the statistics of images that went
    through with them, and its head weights that tell the images apart."""
    generator = torch.Generator().manual_seed(0)
    images, _ = synthetic.images(32 * batches, seed=3, side=side)
    normalisations = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for bn in normalisations:
            bn.weight.mul_(torch.rand(bn.weight.shape, generator=generator) + 0.5)
            bn.bias.add_(torch.randn(bn.bias.shape, generator=generator) * 0.1)
            bn.momentum = None  # a plain average over the batches, which needs few of them
        model.train()
        for batch in np.split(images, batches):
            model(to_input(torch.from_numpy(batch), side))
        for bn in normalisations:
            bn.momentum = 0.1
        model.head.weight.copy_(torch.randn(model.head.weight.shape, generator=generator) / model.head.in_features**0.5)
    return model.eval()
