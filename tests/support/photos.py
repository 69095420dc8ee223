"""A folder of small photographs that can be told apart by colour, and the people who label them."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("blue", "green", "red")
COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 50)}
SIDE = 24


def picture(label: str, rng: np.random.Generator, side: int = SIDE) -> Image.Image:
    """A noisy square of the colour of its class."""
    noise = rng.integers(-40, 41, (side, side, 3))
    return Image.fromarray(np.clip(np.array(COLOURS[label]) + noise, 0, 255).astype(np.uint8))


def photo_folder(folder: Path, count: int = 30, seed: int = 0) -> dict[str, str]:
    """Write `count` images in some nesting whose names tell nothing; returns the class of each path."""
    rng = np.random.default_rng(seed)
    truth = {}
    for number in range(count):
        label = CLASSES[int(rng.integers(len(CLASSES)))]
        path = f"{'2024' if number % 2 else '2025/trip'}/img_{number:03d}.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        picture(label, rng).save(folder / path)
        truth[path] = label
    return truth


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    return path


def fill_in(path: Path, truth: dict[str, str]) -> Path:
    """Label every row of a `next.csv` as a person would who is never wrong."""
    return write_csv(path, [row | {"label": truth[row["path"]]} for row in read_csv(path)])


def answers(folder: Path, truth: dict[str, str], number: int) -> Path:
    """The `next.csv` of one round of a labelled folder, filled in."""
    return fill_in(folder / f"al-labels/proposals/round_{number:03d}/next.csv", truth)
