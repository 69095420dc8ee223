"""What was picked, to be looked at: thumbnails by strategy and round, images that everybody wants, doubtful labels.

The images come from the sheets that each run leaves of its picks, so a report needs no data set. A sheet holds the
first picks of a round, those that the strategy wanted most.
"""

import base64
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from al.records import RoundRecord
from al.tracking.plots import SHEET_COLUMNS, SHEET_ROWS, sheet_tiles
from sweeps.report.analysis import CONTROL, Analysis
from sweeps.report.cells import Cell, Setting
from sweeps.report.load import Run
from sweeps.report.overlaps import most_wanted
from sweeps.report.pool_map import PoolMap
from sweeps.report.table import Table

MOST_THUMBNAILS = 320
"""On a page, whatever the number of runs: each is one to two kilobytes."""
MOST_ROUNDS, MOST_A_ROUND, MOST_WANTED = 6, 12, 16
SPRITE_COLUMNS, TILE = 16, 80
LONGEST_NAME = 24
"""Characters of a class's name under a thumbnail."""
DOUBTING_RUNS = 3
"""Runs whose model must have taken an image for the same other class before its label is called doubtful."""
DOUBTING_SHARE = 0.8


class Thumbnail(NamedTuple):
    """One image on the page."""

    column: int
    """In the sprite."""
    row: int
    told: str
    """The file and its classes in full."""
    wrong: bool
    lines: tuple[str, ...]
    """Under it."""


class Strip(NamedTuple):
    """Thumbnails side by side."""

    strategy: str
    """Empty where they are not one strategy's."""
    title: str
    thumbnails: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class Gallery:
    """The picks of a setting: strips of thumbnails, cut from one image."""

    title: str
    setting: int
    """Its number among the settings of the page."""
    strips: tuple[Strip, ...]
    sprite: str
    """The image, as an address that holds it."""
    columns: int = SPRITE_COLUMNS


class Pick(NamedTuple):
    """One image in the query of one run."""

    path: str
    true: int
    predicted: int | None
    score: float | None
    tile: NDArray[np.uint8]
    """[T, T, 3]"""


class Sheets:
    """The tiles of a run's queries, each sheet opened once."""

    def __init__(self, results_dir: Path):
        self.results_dir = results_dir
        self._known: dict[Path, list[NDArray[np.uint8]]] = {}

    def picks(self, run: Run, query: RoundRecord) -> list[Pick]:
        """What a sheet shows of a query; empty where there is no sheet, or none that can be read."""
        tiles = self._tiles(self._path(run, query), query)
        paths = query.paths or [f"row {row}" for row in query.rows]
        columns = zip(paths, query.true, _known(query.predicted, query), _known(query.scores, query), tiles)
        return [Pick(*values) for values in columns]

    def there(self, run: Run, query: RoundRecord) -> bool:
        """Whether there is a sheet, without opening it."""
        return self._path(run, query).is_file()

    def opened(self, setting: Setting) -> dict[int, Pick]:
        """By row, the picks of a setting on the sheets that were opened."""
        known = ((run, query) for run, query in _queries(setting) if self._known.get(self._path(run, query)))
        return {row: pick for run, query in known for row, pick in zip(query.rows, self.picks(run, query))}

    def find(self, setting: Setting, rows: Iterable[int]) -> dict[int, Pick]:
        """By row, those of `rows` that some sheet of a setting shows; opens no sheet that shows none."""
        left, found = set(rows), {}
        for run, query in _queries(setting):
            if left & set(query.rows[: SHEET_COLUMNS * SHEET_ROWS]):
                found |= {row: pick for row, pick in zip(query.rows, self.picks(run, query)) if row in left}
                left -= found.keys()
        return found

    def _path(self, run: Run, query: RoundRecord) -> Path:
        return self.results_dir / run.source / "plots" / "picks" / f"round_{query.round:03d}.png"

    def _tiles(self, path: Path, query: RoundRecord) -> list[NDArray[np.uint8]]:
        if path not in self._known:
            try:
                self._known[path] = sheet_tiles(path, len(query.rows))
            except (OSError, ValueError):  # not there, cut off, or no picture
                self._known[path] = []
        return self._known[path]


def _known(values: Sequence, query: RoundRecord) -> Sequence:
    return values or [None] * len(query.rows)


class _Sprite:
    """One image of many tiles."""

    def __init__(self) -> None:
        self.tiles: list[NDArray[np.uint8]] = []

    def add(self, pick: Pick, classes: Sequence[str], note: str | None = None) -> Thumbnail:
        row, column = divmod(len(self.tiles), SPRITE_COLUMNS)
        self.tiles.append(pick.tile)
        wrong = pick.predicted not in (None, pick.true)
        names = [classes[pick.true], *([classes[pick.predicted]] if wrong else [])]
        seen = " → ".join(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names)
        told = f"{pick.path}: {' → '.join(names)}"
        score = "" if pick.score is None else f"{pick.score:.3g}"
        return Thumbnail(column, row, told, wrong, (seen, score if note is None else note))

    @cached_property
    def address(self) -> str:
        from PIL import Image

        rows = -(-len(self.tiles) // SPRITE_COLUMNS)
        sheet = Image.new("RGB", (SPRITE_COLUMNS * TILE, rows * TILE), "white")
        for number, tile in enumerate(self.tiles):
            row, column = divmod(number, SPRITE_COLUMNS)
            sheet.paste(Image.fromarray(tile).resize((TILE, TILE)), (column * TILE, row * TILE))
        packed = io.BytesIO()
        sheet.save(packed, "WEBP", quality=72, method=4)
        return f"data:image/webp;base64,{base64.b64encode(packed.getvalue()).decode()}"


def galleries(analyses: Sequence[Analysis], results_dir: Path) -> Iterator[Gallery]:
    """A gallery a setting: of every strategy the first split seed, some rounds from the first to the last."""
    settings = [analysis.setting for analysis in analyses]
    cells = max(1, sum(len(setting.cells) for setting in settings))
    each = max(6, MOST_THUMBNAILS // (cells + len(settings)))
    sheets, left = Sheets(results_dir), MOST_THUMBNAILS
    for number, setting in enumerate(settings):
        if left < each * len(setting.cells):
            return
        sprite, classes = _Sprite(), setting.everyone[0].runs[0].data.classes
        strips = [strip for cell in setting.cells for strip in _rounds(cell, sheets, sprite, classes, each)]
        if strips:
            most = min(each, MOST_WANTED)
            strips += _remarkable(setting, sheets, sprite, classes, most)
            strips += _unwanted(setting, analyses[number].pool_map, sprite, classes, most)
            left -= len(sprite.tiles)
            yield Gallery(setting.title, number, tuple(strips), sprite.address)


def _rounds(cell: Cell, sheets: Sheets, sprite: _Sprite, classes: Sequence[str], most: int) -> Iterator[Strip]:
    run = cell.runs[0]
    queries = [query for query in run.rounds[1:] if sheets.there(run, query)]
    shown = max(1, min(MOST_ROUNDS, len(queries), most // 6))
    for k in np.unique(np.linspace(0, len(queries) - 1, shown).round().astype(int)) if queries else ():
        found = sheets.picks(run, queries[k])[: min(MOST_A_ROUND, most // shown)]
        title = f"round {queries[k].round}, {len(queries[k].rows)} picked, split seed {run.seed}"
        yield Strip(cell.label, title, tuple(sprite.add(pick, classes) for pick in found))


def _remarkable(
    setting: Setting, sheets: Sheets, sprite: _Sprite, classes: Sequence[str], most: int
) -> Iterator[Strip]:
    """Images that every strategy wants, and picks whose label the models doubt, as far as the sheets show them."""
    wanted = {row: told for row, _, told, *_ in most_wanted(setting, classes, 4 * most)}
    doubted = {doubt.row: doubt for doubt in doubts(setting)[: 4 * most]}
    shown = sheets.find(setting, wanted.keys() | doubted.keys())
    agreed = [(shown[row], f"by {told}") for row, told in wanted.items() if row in shown]
    doubtful = [
        (shown[row]._replace(predicted=doubt.seen), f"{doubt.runs} of {doubt.of} runs")
        for row, doubt in doubted.items()
        if row in shown
    ]
    titles = (
        ("Wanted most, by strategies", agreed),
        ("Picks whose label is doubtful, by the class that the models see", doubtful),
        ("The same pixels, labelled twice", _twins(sheets.opened(setting))),
    )
    for title, found in titles:
        if found:
            yield Strip("", title, tuple(sprite.add(pick, classes, note) for pick, note in found[:most]))


def _unwanted(
    setting: Setting, known: PoolMap | None, sprite: _Sprite, classes: Sequence[str], most: int
) -> Iterator[Strip]:
    """Of the images that the map has pictures of, some that no strategy ever picked; random sampling has no opinion."""
    choosing = [cell for cell in setting.cells if cell.strategy != CONTROL]
    if known is None or not choosing:
        return
    starts = {row for cell in choosing for run in cell.runs for row in run.rounds[0].rows}
    asked = {row for cell in choosing for run in cell.runs for query in run.rounds[1:] for row in query.rows}
    never = [row for row in known.pictured if row not in asked | starts][:most]
    if never:
        each = ((known.pictured[row], int(known.labels[row])) for row in never)
        found = [Pick(known.paths[k], true, None, None, known.pictures[k]) for k, true in each]
        share = f"{len([row for row in known.pictured if row not in asked])} of {len(known.pictured)} drawn at random"
        title = f"Wanted by no strategy in any run ({share} are)"
        yield Strip("", title, tuple(sprite.add(pick, classes) for pick in found))


def _queries(setting: Setting) -> Iterator[tuple[Run, RoundRecord]]:
    return ((run, query) for cell in setting.cells for run in cell.runs for query in run.rounds[1:])


class Doubt(NamedTuple):
    """A label that models of several runs contradicted before they were trained on it."""

    row: int
    path: str
    true: int
    seen: int
    """The class that the models gave it."""
    runs: int
    """That gave it this class."""
    of: int


def doubts(setting: Setting) -> list[Doubt]:
    """Picks that enough of the runs that picked them took for the same other class, the clearest first.

    They may be wrong labels, or images that the models get wrong alike.
    """
    queries = [query for _, query in _queries(setting)]
    if not queries:
        return []
    rows = np.concatenate([query.rows for query in queries]).astype(int)  # [n] of every pick of every run
    true = np.concatenate([query.true for query in queries]).astype(int)
    seen = np.array([-1 if label is None else label for query in queries for label in query.predicted], int)
    paths = [path for query in queries for path in query.paths or [f"row {row}" for row in query.rows]]
    asked, voted = np.unique(rows[seen >= 0], return_counts=True)
    pairs, runs = np.unique(np.stack([rows, seen])[:, seen >= 0], axis=1, return_counts=True)  # [2, m] row and class
    of = voted[np.searchsorted(asked, pairs[0])]
    enough = (runs >= DOUBTING_RUNS) & (runs >= DOUBTING_SHARE * of)
    picks = {int(row): place for place, row in enumerate(rows)} if enough.any() else {}
    found = []
    for (row, label), count, total in zip(pairs.T[enough].tolist(), runs[enough].tolist(), of[enough].tolist()):
        place = picks[row]
        if label != true[place]:
            found.append(Doubt(row, paths[place], int(true[place]), label, count, total))
    return sorted(found, key=lambda doubt: (-doubt.runs, doubt.of, doubt.row))


def _twins(shown: dict[int, Pick]) -> list[tuple[Pick, str]]:
    """Picks that are the same pixels as another pick, side by side."""
    alike: dict[bytes, list[int]] = defaultdict(list)
    for row, pick in shown.items():
        alike[pick.tile.tobytes()].append(row)
    groups: Iterable[list[int]] = (sorted(rows) for rows in alike.values() if len(rows) > 1)
    return [(shown[row], f"row {row}") for group in sorted(groups) for row in group]


def doubt_table(settings: Sequence[Setting]) -> Table:
    """Picks whose label the models doubt, a setting at a time."""
    columns = ("setting", "image", "training-set row", "label", "seen as", "by runs", "of runs that picked it")
    rows = []
    for setting in settings:
        classes = setting.everyone[0].runs[0].data.classes
        rows += [
            (setting.title, d.path, d.row, classes[d.true], classes[d.seen], d.runs, d.of) for d in doubts(setting)
        ]
    note = (
        f"At least {DOUBTING_RUNS} runs, and {100 * DOUBTING_SHARE:.0f} % of those that picked it, took the image for "
        "the same other class before they were trained on it. Look before you change one: models err alike too."
    )
    return Table("doubtful_labels", "Picks whose label is doubtful", columns, rows, note, folded=True)
