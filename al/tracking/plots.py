"""Pictures of a run: curves, confusion matrices, sheets of what was picked. Readable in greyscale.

Drawn without pyplot, so that nothing global is touched.
"""

import itertools
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from al.records import METRICS, Baseline, BestEpoch, EpochRecord, RoundRecord, learning_curve
from al.storage.run_folder import RunFolder
from al.tracking.fonts import any_script, font_for

# Okabe and Ito's palette tells apart with any colour vision; the dashes do so without colour.
LOOKS = {
    "train": {"color": "#0072B2", "linestyle": "--", "label": "train"},
    "val": {"color": "#D55E00", "linestyle": ":", "label": "validation"},
    "test": {"color": "#000000", "linestyle": "-", "label": "test"},
}
PLOTTED = tuple(name for name, metric in METRICS.items() if metric.in_aggregate)
"""Metrics with a picture of their own."""
MOST_ROUND_NUMBERS = 24
"""Along the epochs; more would run into each other."""
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
SHEET_COLUMNS, SHEET_ROWS, TILE = 10, 4, 96
SHEET_PICKS = SHEET_COLUMNS * SHEET_ROWS
TILE_NOTE = "tile"
"""Where a sheet's file says how many pixels its images are wide."""
OLD_TILE = 64
"""Of sheets that do not say how large their images are: the first versions drew them so."""
TEXT_WIDTH, TEXT_HEIGHT, SHEET_HEADER = 20, 44, 22
"""Pixels that the text of a tile takes beside and below it, and the line above all."""
TEXT_SIZE = 10


def save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    return path


@any_script()
def plot_run(
    epochs: list[EpochRecord],
    best: BestEpoch,
    classes: list[str],
    title: str,
    folder: Path,
    baseline: Baseline | None = None,
) -> list[Path]:
    """The study's pictures of one seed: five curves by epoch, accuracy by labels, three confusion matrices.

    `baseline` is drawn in where the run knows one.
    """
    reached = {} if baseline is None else {"accuracy": baseline.accuracy, "loss": baseline.loss}
    paths = [_curve_by_epoch(epochs, metric, best.epoch, reached.get(metric), title, folder) for metric in PLOTTED]
    paths.append(_accuracy_by_labels(epochs, reached.get("accuracy"), title, folder))
    for split, result in best.splits.items():
        paths.append(_confusion(np.array(result.confusion_matrix), classes, SPLIT_NAMES[split], title, folder))
    return paths


def _curve_by_epoch(
    epochs: list[EpochRecord], metric: str, best_epoch: int, reference: float | None, title: str, folder: Path
) -> Path:
    figure = Figure(figsize=(7, 4.2))
    axes = figure.subplots()
    x = [record.epoch for record in epochs]
    for split, look in _looks(epochs):
        axes.plot(x, [record.scores(split)[metric] for record in epochs], **look, linewidth=1.6)
    axes.axvline(best_epoch, color="0.6", linewidth=1, label="best epoch")
    _mark_rounds(axes, epochs)
    _mark_reference(axes, reference)
    _label(axes, "Epoch", METRICS[metric].title, title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return save(figure, folder / f"{metric}_over_epochs.png")


def _looks(epochs: list[EpochRecord]) -> list[tuple[str, dict[str, str]]]:
    """The splits that there are metrics on: of validation none where nothing is held out."""
    return [(split, look) for split, look in LOOKS.items() if epochs[0].scores(split)]


def _mark_rounds(axes: Axes, epochs: list[EpochRecord]) -> None:
    """Shades the epochs during which labels still came in, and marks where each round begins, with its number."""
    during = [record.epoch for record in epochs if record.round < epochs[-1].round]
    if not during:
        return
    axes.axvspan(during[0] - 0.5, during[-1] + 0.5, color="0.92", zorder=0, label="labels being acquired")
    begins = [(b.epoch, b.round) for a, b in itertools.pairwise(epochs) if b.round != a.round]
    axes.vlines([epoch - 0.5 for epoch, _ in begins], 0, 0.03, color="0.3", transform=axes.get_xaxis_transform())
    last = -np.inf
    for epoch, number in begins:
        if epoch - last >= (epochs[-1].epoch - epochs[0].epoch) / MOST_ROUND_NUMBERS:  # room for its number
            style = {"ha": "center", "va": "bottom", "fontsize": 7, "color": "0.3"}
            axes.text(epoch - 0.5, 0.035, str(number), transform=axes.get_xaxis_transform(), **style)
            last = epoch


def _mark_reference(axes: Axes, reference: float | None) -> None:
    if reference is not None:
        axes.axhline(reference, color="#009E73", linestyle=(0, (5, 2)), linewidth=1.2, label="baseline")


def _accuracy_by_labels(epochs: list[EpochRecord], reference: float | None, title: str, folder: Path) -> Path:
    figure = Figure(figsize=(7, 4.2))
    axes = figure.subplots()
    curve = learning_curve(epochs)
    accuracy = [record.test["accuracy"] for record in curve]
    axes.plot([record.labels for record in curve], accuracy, color="black", marker="o", markersize=4, label="test")
    _mark_reference(axes, reference)
    _label(axes, "Labels (training and validation)", "Test accuracy (%)", title, legend=reference is not None)
    return save(figure, folder / "accuracy_over_labels.png")


def _confusion(counts: NDArray[np.int64], classes: list[str], group: str, title: str, folder: Path) -> Path:
    """Rows sum to the images of a class; the shade is the share of the row."""
    side = min(max(4.5, 0.55 * len(classes)), 16)
    figure = Figure(figsize=(side + 1, side))
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Greys", vmin=0, vmax=1)
    if len(classes) <= 20:
        for (i, j), count in np.ndenumerate(counts):
            axes.text(
                j, i, count, ha="center", va="center", fontsize=7, color="white" if shares[i, j] > 0.5 else "black"
            )
        axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(range(len(classes)), classes, parse_math=False)
    axes.set(xlabel="Predicted class", ylabel="True class")
    axes.set_title(f"{title}\nconfusion matrix, {group} images, best epoch", fontsize=10, parse_math=False)
    figure.colorbar(image, ax=axes, shrink=0.8, label="Share of the true class")
    return save(figure, folder / f"confusion_matrix_{group}.png")


@any_script()
def plot_aggregate(seeds: list[Path], folder: Path) -> list[Path]:
    """`<metric>_over_epochs.png`: mean over the seeds with a band of one standard deviation.

    A seed that ended earlier keeps its last value, so the mean is over the same seeds at every epoch.
    """
    runs = [RunFolder(seed).epochs.read() for seed in seeds]
    length = max(len(records) for records in runs)
    paths = []
    for metric in PLOTTED:
        figure = Figure(figsize=(7, 4.2))
        axes = figure.subplots()
        for split, look in _looks(runs[0]):
            values = np.array(
                [_stretched([record.scores(split)[metric] for record in records], length) for records in runs]
            )
            mean, std = values.mean(0), values.std(0, ddof=1) if len(runs) > 1 else np.zeros(length)
            x = np.arange(1, length + 1)
            axes.plot(x, mean, **look, linewidth=1.6)
            low, high = np.clip([mean - std, mean + std], *_possible(metric))
            axes.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0)
        seeds_of = f"{len(runs)} split seed{'s' * (len(runs) > 1)}"
        _label(
            axes,
            "Epoch",
            METRICS[metric].title,
            f"{folder.parent.name}\nmean of {seeds_of}, band: one standard deviation",
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        paths.append(save(figure, folder / f"{metric}_over_epochs.png"))
    return paths


def _possible(metric: str) -> tuple[float, float]:
    """The least and the most that a metric can be."""
    title = METRICS[metric].title
    return 0.0, 100.0 if "%" in title else np.inf if "nats" in title else 1.0


def _stretched(values: list[float], length: int) -> list[float]:
    return values + [values[-1]] * (length - len(values))


def _label(axes: Axes, x: str, y: str, title: str, *, legend: bool = True) -> None:
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    if legend:
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4, frameon=False)


def pick_sheet(images: NDArray[np.uint8], query: RoundRecord, classes: list[str], path: Path) -> Path:
    """What a round picked, the first 40 of it: image, true label, predicted label, score; wrong ones framed.

    Args:
        images: u8[n, H, W, 3] of the first `SHEET_PICKS` of `query.rows` at least, in that order.
        query: what the round labelled.
    """
    from PIL import Image, ImageDraw, PngImagePlugin

    picked, shown = len(query.rows), min(len(images), SHEET_PICKS)
    rows = -(-shown // SHEET_COLUMNS)
    size = (SHEET_COLUMNS * (TILE + TEXT_WIDTH) + 8, rows * (TILE + TEXT_HEIGHT) + SHEET_HEADER)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    more = f", the first {shown}" if shown < picked else ""
    draw.text((8, 5), f"round {query.round}: {picked} picked{more}; framed: predicted wrongly", fill="black")
    for i in range(shown):
        left, top = _corner(i, TILE)
        sheet.paste(Image.fromarray(images[i]).resize((TILE, TILE), Image.Resampling.BICUBIC), (left, top))
        true, predicted, score = query.true[i], query.predicted[i], query.scores[i]
        if predicted not in (None, true):
            draw.rectangle((left - 2, top - 2, left + TILE + 1, top + TILE + 1), outline="#D55E00", width=2)
        said = "not scored" if predicted is None else f"> {classes[predicted]}"
        lines = [classes[true], said, "" if score is None else f"{score:.4g}"]
        for line, text in enumerate(lines):
            told = text[:18]
            draw.text((left, top + TILE + 2 + 12 * line), told, fill="black", font=font_for(told, TEXT_SIZE))
    path.parent.mkdir(parents=True, exist_ok=True)
    note = PngImagePlugin.PngInfo()
    note.add_text(TILE_NOTE, str(TILE))
    sheet.save(path, pnginfo=note)
    return path


def sheet_tiles(path: Path, count: int) -> list[NDArray[np.uint8]]:
    """The images on a sheet of picks, the first `count` at most, u8[T, T, 3] each, T as the sheet says."""
    from PIL import Image

    with Image.open(path) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
        tile = int(sheet.info.get(TILE_NOTE, OLD_TILE))
    corners = [_corner(i, tile) for i in range(min(count, SHEET_PICKS))]
    return [pixels[top : top + tile, left : left + tile] for left, top in corners if top + tile <= len(pixels)]


def _corner(i: int, tile: int) -> tuple[int, int]:
    """Left and top of the image of pick `i` on a sheet of images of this size."""
    row, column = divmod(i, SHEET_COLUMNS)
    return 8 + column * (tile + TEXT_WIDTH), SHEET_HEADER + row * (tile + TEXT_HEIGHT)
