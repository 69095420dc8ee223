"""Random flips, shifts and rotations of training images, as one warp."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

SHIFT = 4  # pixels of a 32-pixel image; scaled with the image
ROTATION = 15.0  # degrees to either side


def augmentation(count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """[N, 2, 3] affine maps of output to input coordinates in [-1, 1]: flip, shift up to 4 of 32 pixels, rotation.

    The study's random horizontal flip, 4-pixel padded crop and rotation by up to 15 degrees as one warp.
    """
    angle = np.deg2rad(rng.uniform(-ROTATION, ROTATION, count))
    flip = rng.choice([-1.0, 1.0], count)
    shift = rng.integers(-SHIFT, SHIFT + 1, (2, count)) * (2 / 32)
    cos, sin = np.cos(angle), np.sin(angle)
    maps = np.empty((count, 2, 3), np.float32)
    maps[:, 0] = np.stack([flip * cos, -flip * sin, flip * shift[0]], axis=1)
    maps[:, 1] = np.stack([sin, cos, shift[1]], axis=1)
    return maps


def warp(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Images [N, 3, H, W] in [-1, 1] under `augmentation` maps [N, 2, 3], bilinear, black outside."""
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    # grid_sample fills with 0, which is grey here: shift so that 0 is black
    return F.grid_sample(images + 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False).sub_(1)
