"""Pictures that are as different from each other as photographs are, and copies of them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def scene(seed: int, side: int = 96) -> Image.Image:
    """A smooth random picture, as different from another as two photographs are."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")


def fill(root: Path, counts: dict[str, int], start: int = 0, side: int = 24) -> Path:
    """Write so many different pictures into each class folder, numbered from `start` on."""
    seed = start
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            scene(seed, side).save(root / name / f"{seed:03d}.png")
            seed += 1
    return root
