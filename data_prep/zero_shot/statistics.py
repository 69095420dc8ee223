"""How good zero-shot labels are: tables (CSV) and figures (PNG), if wanted with published numbers beside one's own.

True labels are used here and only here: to report, never to choose.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError, first_line
from al.storage.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 20
"""Bins of the confidence histogram."""

Table = list[dict[str, object]]
"""Rows of a CSV file by column."""

NUMBERS = {"original": int, "clip_predicted": int, "changed": int, "mean_confidence": float}
"""Columns that published numbers must have beside `class`."""


@dataclass(frozen=True)
class Published:
    """What somebody else reported of zero-shot labels; compared with one's own where the images are the same."""

    statistics: Table
    """A row for each class, in columns of `class_table`: class, original, clip_predicted, changed, ..."""
    transitions: Table | None = None
    """A row for each true class, as `transition_table` makes it."""

    @classmethod
    def read(cls, statistics: Path, transitions: Path | None = None) -> "Published":
        """Read them from CSV files.

        Raises:
            UserError: one of them cannot be read, or lacks a column or a number.
        """
        rows = _read_table(statistics)
        _check_published(statistics, rows)
        return cls(rows, transitions and _read_table(transitions))

    def covers(self, stats: "Statistics") -> bool:
        """Whether it is about the same classes with as many images in each."""
        here = dict(zip(stats.classes, stats.transitions.sum(1).tolist()))
        return here == {str(row["class"]): int(row["original"]) for row in self.statistics}


def _read_table(path: Path) -> Table:
    try:
        with path.open(newline="") as lines:
            return list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{path}: cannot be read ({reason}); name a CSV file with a row for each class") from None


def _check_published(path: Path, rows: Table) -> None:
    for number, row in enumerate(rows, start=2):
        if missing := [name for name in ("class", *NUMBERS) if row.get(name) is None]:
            raise UserError(f"{path}: line {number} has no {missing[0]}; it needs {', '.join(('class', *NUMBERS))}")
        for name, kind in NUMBERS.items():
            try:
                kind(row[name])
            except ValueError:
                raise UserError(f"{path}: line {number}: {name}={row[name]!r} is no number; write one") from None


@dataclass(frozen=True)
class Statistics:
    """Zero-shot labels against true ones, for some images of a data set."""

    classes: tuple[str, ...]
    transitions: NDArray[np.int64]
    """[C, C] images by true class (row) and predicted class (column)."""
    mean_confidence: NDArray[np.float64]
    """[C] over the images predicted, rightly or wrongly, as the class; NaN for a class never predicted."""
    lowest_confidence: NDArray[np.float64]
    """[C] likewise: the cut that an initial pool makes in each class."""
    edges: NDArray[np.float64]
    """[BINS + 1] of the bins of confidence, up to 1."""
    right: NDArray[np.int64]
    """[BINS] images by confidence whose predicted label is the true one."""
    wrong: NDArray[np.int64]
    """[BINS] likewise, whose predicted label is another."""

    @property
    def images(self) -> int:
        return int(self.transitions.sum())

    @property
    def accuracy(self) -> float:
        """Percent of the images whose predicted label is the true one."""
        return 100 * float(np.trace(self.transitions)) / self.images

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """[C, C] of each true class the share predicted as each class; NaN for a class without images."""
        totals = self.transitions.sum(1, keepdims=True).astype(float)
        return self.transitions / np.where(totals > 0, totals, np.nan)


def statistics(
    labels: NDArray[np.int64], probs: NDArray[np.float32], classes: Sequence[str], *, zoom: bool = False
) -> Statistics:
    """Compare probabilities f32[N, C] with true labels i64[N].

    The histogram goes from 0 to 1; with `zoom` from the last multiple of 0.05 below all confidences.
    """
    predicted, confidence = probs.argmax(1), probs.max(1).astype(np.float64)
    count = len(classes)
    transitions = np.bincount(labels * count + predicted, minlength=count * count).reshape(count, count)
    by_class = [confidence[predicted == c] for c in range(count)]
    low = min(np.floor(confidence.min() * 20), 19) / 20 if zoom else 0
    edges = np.linspace(low, 1, BINS + 1)
    right, wrong = (np.histogram(confidence[chosen], edges)[0] for chosen in (predicted == labels, predicted != labels))
    mean = np.array([values.mean() if values.size else np.nan for values in by_class])
    lowest = np.array([values.min() if values.size else np.nan for values in by_class])
    return Statistics(tuple(classes), transitions, mean, lowest, edges, right, wrong)


def class_table(stats: Statistics, published: Table | None = None) -> Table:
    """A table with a row for each class and one for all.

    `original` and `changed` count by true class, `clip_predicted` and the confidences by predicted class. The
    columns of `published`, a row for each class, are added as `published_*`.
    """
    beside = {row["class"]: row for row in published or ()}
    original, kept = stats.transitions.sum(1), np.diag(stats.transitions)
    rows: Table = []
    for c, name in enumerate(stats.classes):
        row = _row(name, original[c], stats.transitions[:, c].sum(), original[c] - kept[c])
        row |= {
            "mean_confidence": round(float(stats.mean_confidence[c]), 3),
            "lowest_confidence": round(float(stats.lowest_confidence[c]), 3),
        }
        if published:
            row |= {f"published_{key}": value for key, value in beside[name].items() if key != "class"}
        rows.append(row)
    total = _row("all", stats.images, stats.images, stats.images - kept.sum())
    predicted = stats.transitions.sum(0)
    total["mean_confidence"] = round(float(np.nansum(stats.mean_confidence * predicted) / stats.images), 3)
    total["lowest_confidence"] = round(float(np.nanmin(stats.lowest_confidence)), 3)
    if published:
        total |= _published_total(published)
    return [*rows, total]


def _row(name: str, original: int, predicted: int, changed: int) -> dict[str, object]:
    percent = round(100 * float(changed) / original, 2) if original else float("nan")
    return {
        "class": name,
        "original": int(original),
        "clip_predicted": int(predicted),
        "changed": int(changed),
        "changed_percent": percent,
    }


def _published_total(rows: Table) -> dict[str, object]:
    original, predicted, changed = (
        sum(int(row[key]) for row in rows) for key in ("original", "clip_predicted", "changed")
    )
    confidence = sum(float(row["mean_confidence"]) * int(row["clip_predicted"]) for row in rows) / predicted
    total = _row("all", original, predicted, changed) | {"mean_confidence": round(confidence, 3)}
    return {f"published_{key}": value for key, value in total.items() if key in rows[0] and key != "class"}


def transition_table(stats: Statistics, *, probabilities: bool = False) -> Table:
    """A table of true (rows) by predicted classes: counts, or shares of the true class."""
    matrix = stats.probabilities.round(4) if probabilities else stats.transitions
    return [{"true\\clip": name} | dict(zip(stats.classes, matrix[c].tolist())) for c, name in enumerate(stats.classes)]


def histogram_table(stats: Statistics) -> Table:
    """A table of images by confidence: `from` (inclusive), `to` (exclusive but for 1), right and wrong labels."""
    edges = stats.edges.round(4).tolist()
    return [
        {"from": low, "to": high, "images": int(right + wrong), "right": int(right), "wrong": int(wrong)}
        for low, high, right, wrong in zip(edges, edges[1:], stats.right, stats.wrong)
    ]


def report(
    name: str, split: str, labels: NDArray[np.int64], probs: NDArray[np.float32], classes: Sequence[str],
    pool: NDArray[np.int64], published: Published | None = None,
) -> tuple[dict[str, Table], dict[str, "Figure"]]:  # fmt: skip
    """Make all tables and figures: for every image, and (`..._pool`) for those that an initial pool takes.

    Args:
        name, split: of the data set, for titles.
        pool: rows that `clip_initial_pool` chose.
        published: its numbers are put beside those of the same images.

    Returns:
        Tables and figures by the name of their file without its ending.
    """
    tables: dict[str, Table] = {}
    figures: dict[str, Figure] = {}
    for suffix, what, rows in (
        ("", f"{name}, all {len(labels):,} {'training' if split == 'train' else split} images", slice(None)),
        ("_pool", f"{name}, initial pool: the {len(pool):,} most confident, by class", pool),
    ):
        stats = statistics(labels[rows], probs[rows], classes, zoom=bool(suffix))
        comparable = published is not None and published.covers(stats)
        tables[f"clip_statistics{suffix}"] = class_table(stats, published.statistics if comparable else None)
        tables[f"clip_transitions{suffix}"] = transition_table(stats)
        tables[f"clip_transition_probabilities{suffix}"] = transition_table(stats, probabilities=True)
        tables[f"clip_confidences{suffix}"] = histogram_table(stats)
        figures[f"clip_confidences{suffix}"] = confidence_figure(stats, what, tables[f"clip_statistics{suffix}"])
        figures[f"clip_transitions{suffix}"] = transition_figure(stats, what)
        if comparable and published.transitions:
            tables[f"clip_transitions{suffix}_published"] = published.transitions
    return tables, figures


def write(tables: Mapping[str, Table], figures: Mapping[str, "Figure"], out: Path) -> list[Path]:
    """Write `<name>.csv` and `<name>.png` into `out`, each atomically; returns the files."""
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for name, content in _contents(tables, figures):
        write_atomically(out / name, content)
        files.append(out / name)
    return files


def _contents(tables: Mapping[str, Table], figures: Mapping[str, "Figure"]) -> Iterator[tuple[str, bytes]]:
    for name, rows in tables.items():
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        yield f"{name}.csv", text.getvalue().encode()
    for name, figure in figures.items():
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=150)
        yield f"{name}.png", picture.getvalue()


def confidence_figure(stats: Statistics, what: str, rows: Table) -> "Figure":
    """Draw a histogram of the confidences of right and wrong labels above `rows`, the table by class."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + max(len(rows[0]) - 3, 7), 4.2 + 0.24 * len(rows)), layout="constrained")
    histogram, table = figure.subplots(2, 1, height_ratios=[4.2, 0.24 * len(rows) + 0.4])
    _draw_histogram(histogram, stats)
    histogram.set_title(f"Zero-shot confidences: {what}\n{stats.accuracy:.2f} % of the labels right")
    _draw_table(table, rows)
    return figure


def _draw_histogram(axes: "Axes", stats: Statistics) -> None:
    starts, width = stats.edges[:-1], stats.edges[1] - stats.edges[0]
    axes.bar(starts, stats.right, width, align="edge", color="#9ecae1", edgecolor="black", label="label right")
    axes.bar(
        starts, stats.wrong, width, bottom=stats.right, align="edge", color="#a63603", edgecolor="black",
        hatch="///", label="label wrong",
    )  # fmt: skip
    axes.set(xlabel="Confidence: largest class probability", ylabel="Images", xlim=stats.edges[[0, -1]])
    axes.set_ylim(0, 1.08 * (stats.right + stats.wrong).max())
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="upper left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_table(axes: "Axes", rows: Table) -> None:
    columns = {
        "class": "Class", "original": "True", "clip_predicted": "Predicted", "changed": "Changed",
        "changed_percent": "Changed (%)", "mean_confidence": "Mean\nconfidence",
        "lowest_confidence": "Lowest\nconfidence", "published_changed_percent": "Changed (%)\npublished",
        "published_mean_confidence": "Mean conf.\npublished",
    }  # fmt: skip
    columns = {key: title for key, title in columns.items() if key in rows[0]}
    cells = [[_cell(key, row[key]) for key in columns] for row in rows]
    axes.axis("off")
    table = axes.table(cells, colLabels=list(columns.values()), cellLoc="right", bbox=(0, 0, 1, 1))
    table.auto_set_font_size(False)
    table.set_fontsize(8.5)
    for (line, column), cell in table.get_celld().items():
        cell.get_text().set_parse_math(False)  # a class may have dollars in its name
        cell.set_linewidth(0.3)
        if line == 0:
            cell.set_height(cell.get_height() * 1.7)
        if line in (0, len(rows)):
            cell.set_facecolor("#eeeeee")
        if column == 0:
            cell.set_text_props(ha="left")


def _cell(key: str, value: object) -> str:
    if isinstance(value, float):
        return "–" if np.isnan(value) else f"{value:.2f}" if key.endswith("percent") else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def transition_figure(stats: Statistics, what: str) -> "Figure":
    """Draw true by predicted classes, as counts and as shares of the true class."""
    from matplotlib.figure import Figure

    side = max(4.2, 0.52 * len(stats.classes) + 1.2)
    figure = Figure(figsize=(2 * side + 0.4, side), layout="constrained")
    counts, shares = figure.subplots(1, 2)
    figure.suptitle(f"Zero-shot labels by true class: {what}")
    _draw_matrix(counts, stats.probabilities, [[f"{n:,}" for n in row] for row in stats.transitions], stats.classes)
    counts.set_title("Images")
    texts = [["–" if np.isnan(p) else f"{100 * p:.1f}" for p in row] for row in stats.probabilities]
    image = _draw_matrix(shares, stats.probabilities, texts, stats.classes)
    shares.set(title="Percent of the true class", ylabel=None)
    bar = figure.colorbar(image, ax=[counts, shares], shrink=0.7, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.ax.set_yticklabels(["0", "25", "50", "75", "100"])
    bar.set_label("Percent of the true class (square-root scale)")
    return figure


def _draw_matrix(axes: "Axes", shares: NDArray[np.float64], texts: list[list[str]], classes: Sequence[str]):
    """Draw one matrix; both share one colouring, so a dark cell off the diagonal means the same in either."""
    from matplotlib.colors import PowerNorm

    # Errors are a few percent of a class: on a linear scale they would all look like none.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(ticks, classes, parse_math=False)
    axes.set(xlabel="Zero-shot label", ylabel="True class")
    if len(classes) > 20:
        return image
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            colour = "white" if shares[i, j] > 0.4 else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
    return image
