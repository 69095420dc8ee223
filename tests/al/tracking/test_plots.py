"""Pictures of a run: what is drawn where, and sheets of picks that are read back."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from al.records import EpochRecord, RoundRecord
from al.tracking import plots


def epoch(number: int, round_: int) -> EpochRecord:
    scores = {"loss": 1.0, "accuracy": 50.0, "precision": 0.5, "recall": 0.5, "f1-score": 0.5}
    counts = {"labels": 10 * (round_ + 1), "train_size": 8, "val_size": 2, "pool_size": 50}
    rest = {"lr": 0.1, "train": scores, "test": scores, "per_class": {}, "best": True, "seconds": {}}
    return EpochRecord(epoch=number, round=round_, **counts, **rest)


def query(rows: list[int], scores: list[float]) -> RoundRecord:
    known = {"rows": rows, "true": [0] * len(rows), "predicted": [1] * len(rows), "scores": scores}
    return RoundRecord(labels=len(rows), round=3, epoch=4, **known)


def drawn(draw, *arguments):
    axes = Figure().subplots()
    draw(axes, *arguments)
    return axes


class TestRounds:
    def test_each_is_marked_where_it_begins(self):
        axes = drawn(plots._mark_rounds, [epoch(number, round_) for number, round_ in enumerate([0, 0, 1, 1, 1, 2], 1)])
        (ticks,) = axes.collections
        assert [segment[0][0] for segment in ticks.get_segments()] == [2.5, 5.5]
        assert [text.get_text() for text in axes.texts] == ["1", "2"]

    def test_a_run_of_one_round_has_none(self):
        axes = drawn(plots._mark_rounds, [epoch(1, 0), epoch(2, 0)])
        assert not axes.collections
        assert not axes.patches

    def test_numbers_do_not_run_into_each_other(self):
        axes = drawn(plots._mark_rounds, [epoch(number, number - 1) for number in range(1, 201)])
        assert len(axes.texts) <= plots.MOST_ROUND_NUMBERS + 1


def test_the_baseline_is_drawn_in_where_it_is_known():
    assert not drawn(plots._mark_reference, None).lines
    (line,) = drawn(plots._mark_reference, 61.5).lines
    assert line.get_ydata()[0] == 61.5


@pytest.mark.parametrize(("metric", "most"), [("accuracy", 100), ("f1-score", 1), ("loss", np.inf)])
def test_bands_stay_within_what_is_possible(metric, most):
    assert plots._possible(metric) == (0, most)


class TestSheet:
    def test_is_read_back_as_it_was_drawn(self, tmp_path):
        images = np.stack([np.full((8, 8, 3), 5 * k, np.uint8) for k in range(23)])
        path = plots.pick_sheet(images, query(list(range(23)), [0.5] * 23), ["a", "b"], tmp_path / "sheet.png")
        tiles = plots.sheet_tiles(path, 23)
        assert [tile[40, 40, 0] for tile in tiles] == [5 * k for k in range(23)]
        assert {tile.shape for tile in tiles} == {(plots.TILE, plots.TILE, 3)}

    def test_of_many_picks_shows_the_first_and_says_how_many_there_were(self, tmp_path, monkeypatch):
        said = []
        monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, at, text, **_: said.append(text))
        images = np.zeros((plots.SHEET_PICKS, 8, 8, 3), np.uint8)
        plots.pick_sheet(images, query(list(range(50)), [0.5] * 50), ["a", "b"], tmp_path / "sheet.png")
        assert "50 picked, the first 40;" in said[0]
        assert sum(text == "0.5" for text in said) == 40

    def test_of_an_earlier_version_is_read_by_its_own_size(self, tmp_path):
        sheet = Image.new("RGB", (10 * 84 + 8, 108 + 22), "white")
        for k in range(10):
            ImageDraw.Draw(sheet).rectangle((8 + 84 * k, 22, 8 + 84 * k + 63, 22 + 63), fill=(k, 0, 0))
        sheet.save(tmp_path / "old.png")
        tiles = plots.sheet_tiles(tmp_path / "old.png", 10)
        assert [tile[0, 0, 0] for tile in tiles] == list(range(10))
        assert {tile.shape for tile in tiles} == {(64, 64, 3)}

    def test_scores_have_the_digits_that_tell_them_apart(self, tmp_path, monkeypatch):
        said = []
        monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, at, text, **_: said.append(text))
        images = np.zeros((3, 8, 8, 3), np.uint8)
        plots.pick_sheet(images, query([1, 2, 3], [1.23e-7, 1234567.0, 0.88914]), ["a", "b"], tmp_path / "sheet.png")
        assert {"1.23e-07", "1.235e+06", "0.8891"} <= set(said)
