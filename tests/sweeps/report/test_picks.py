"""Thumbnails of the picks, images that everybody wants, and labels that the models doubt."""

import json
import re

import numpy as np
import pytest
from report_results import World, write_cells, write_pool_map

from al.records import RoundRecord
from al.tracking.plots import TILE, pick_sheet
from sweeps.report import picks
from sweeps.report.__main__ import main
from sweeps.report.build import find
from sweeps.report.load import load_results

RUNS = {"dataset": "digits", "model": "small_cnn", "weights": "none", "variant": "balanced_20", "initial_min": 20}
CLASSES = ("ant", "bee", "<i>cat</i>")
STRATEGIES = ("random", "margin", "typiclust")


def image_of(row: int) -> np.ndarray:
    """A picture that tells its row by its colour."""
    return np.full((8, 8, 3), [row % 256, row // 256 * 40, 90], np.uint8)


def draw_sheets(folder) -> None:
    for line in (folder / "rounds.jsonl").read_text().splitlines()[1:]:
        query = RoundRecord.model_validate_json(line)
        images = np.stack([image_of(row) for row in query.rows])
        pick_sheet(images, query, list(CLASSES), folder / f"plots/picks/round_{query.round:03d}.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("picks")
    write_cells(root, World(CLASSES, train=600, test=300), STRATEGIES, (12, 34, 56), **RUNS)
    for folder in root.glob("*/split_seed_*"):
        draw_sheets(folder)
    return root


def analyses_of(root):
    return find(load_results(root), root).every_analysis


def settings_of(root):
    return [analysis.setting for analysis in analyses_of(root)]


def test_every_strategy_shows_its_rounds_from_the_first_to_the_last(root):
    (gallery,) = picks.galleries(analyses_of(root), root)
    for strategy in STRATEGIES:
        strips = [strip for strip in gallery.strips if strip.strategy == strategy]
        rounds = [int(re.match(r"round (\d+), \d+ picked, split seed 12", strip.title)[1]) for strip in strips]
        assert rounds == sorted(set(rounds))
        assert rounds[0] == 1
        last = len(next(root.glob(f"*{strategy}*/split_seed_12")).joinpath("rounds.jsonl").read_text().splitlines()) - 1
        assert rounds[-1] == last
    every = [thumb for strip in gallery.strips for thumb in strip.thumbnails]
    assert 0 < len(every) <= picks.MOST_THUMBNAILS
    assert len({(thumb.column, thumb.row) for thumb in every}) == len(every)


def test_a_tile_is_the_image_of_its_row(root):
    (setting,) = settings_of(root)
    run = setting.cell("margin").runs[0]
    query = run.rounds[1]
    found = picks.Sheets(root).picks(run, query)
    assert len(found) == len(query.rows)
    for pick, row, true in zip(found, query.rows, query.true):
        assert pick.tile.shape == (TILE, TILE, 3)
        assert (pick.tile[TILE // 2, TILE // 2] == image_of(row)[0, 0]).all()
        assert pick.true == true


def test_sheets_that_are_missing_or_broken_leave_the_rest(root, tmp_path):
    assert list(picks.galleries(analyses_of(root), tmp_path)) == []
    for path in root.glob("*margin*/split_seed_12/plots/picks/round_001.png"):
        kept = path.read_bytes()
        path.write_bytes(kept[:100])
        (gallery,) = picks.galleries(analyses_of(root), root)
        path.write_bytes(kept)
        assert {strip.strategy for strip in gallery.strips} >= set(STRATEGIES)


def test_a_label_is_doubtful_where_runs_agree_on_another(tmp_path):
    write_cells(tmp_path, World(CLASSES, train=600, test=300), ("margin",), (12, 34, 56, 78), **RUNS)
    for number, path in enumerate(sorted(tmp_path.glob("*/*/rounds.jsonl"))):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for query in rows[1:]:
            query["predicted"] = query["true"]
        # row 1000: three of four runs see class 2; row 1001: two see 2 and two 1; row 1002: all see its class
        rows[1] |= {"rows": [1000, 1001, 1002], "true": [0, 0, 1], "scores": [0.5] * 3}
        rows[1]["predicted"] = [2, 2 if number < 2 else 1, 1]
        if number == 3:
            rows[1]["rows"][0] = 1003
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (setting,) = settings_of(tmp_path)
    (doubt,) = picks.doubts(setting)
    assert (doubt.row, doubt.true, doubt.seen, doubt.runs, doubt.of) == (1000, 0, 2, 3, 3)
    (row,) = picks.doubt_table([setting]).rows
    assert row[2:] == (1000, "ant", "<i>cat</i>", 3, 3)


def test_the_same_pixels_under_two_rows_stand_together(root):
    tile = np.zeros((TILE, TILE, 3), np.uint8)
    pick = picks.Pick("a", 0, None, None, tile)
    twins = picks._twins({7: pick, 9: pick._replace(tile=tile + 1), 3: pick})
    assert [note for _, note in twins] == ["row 3", "row 7"]


def test_the_page_shows_them_and_how_it_was_made(root, capsys):
    assert main(["--results-dir", str(root), "--target", "60"]) == 0
    page = (root / "report" / "index.html").read_text()
    assert "--sprite:url(data:image/webp;base64," in page
    assert "&lt;i&gt;cat&lt;/i&gt;" in page
    assert "<i>cat" not in page
    assert f"python -m sweeps.report --results-dir {root} --target 60" in page
    assert "@inproceedings{scheffer2001active," in page
    assert "badge" not in page
    assert "strategies = {" not in page
    assert "<td>12, 34, 56</td>" in page


def test_what_no_strategy_ever_wanted_is_shown_where_there_is_a_map(root):
    write_pool_map(root, World(CLASSES, train=600, test=300))
    (gallery,) = picks.galleries(analyses_of(root), root)
    strip = next(strip for strip in gallery.strips if strip.title.startswith("Wanted by no strategy"))
    asked = {
        row
        for path in root.glob("*/split_seed_*/rounds.jsonl")
        if "random" not in path.parts[-3]
        for line in path.read_text().splitlines()
        for row in json.loads(line)["rows"]
    }
    shown = [int(thumb.told.removeprefix("train/").partition(":")[0]) for thumb in strip.thumbnails]
    assert shown
    assert not set(shown) & asked
