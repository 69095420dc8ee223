"""Batches of few different sizes: a GPU's library plans each convolution anew for every size that it meets."""

import torch

from al.fast.switch import has

SMALLEST = 32


def padded(images: torch.Tensor, step: int) -> torch.Tensor:
    """Images [b, ...] with the last one repeated, so that there are `step`, or a half, a quarter, ... of it.

    The tails of pool, validation and test set differ in every round. With halves a run meets seven sizes, and never
    computes twice of what it needs; what the repeated ones give is to be cut off. Without batch statistics, as in
    scoring, no image changes what another one gives.
    """
    size = step
    while size // 2 >= max(len(images), SMALLEST):
        size //= 2
    if len(images) >= size or not has("padding"):
        return images
    return torch.cat([images, images[-1:].expand(size - len(images), *images.shape[1:])])
