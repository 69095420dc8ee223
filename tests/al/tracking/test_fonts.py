"""Names in scripts that the machine may have no font for."""

import warnings

from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from al.tracking.fonts import OWN, any_script, font_for


def test_a_name_without_a_font_is_drawn_without_a_word_and_settings_come_back(tmp_path):
    before = rcParams["font.family"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with any_script():
            assert rcParams["font.family"][0] == OWN
            figure = Figure()
            figure.subplots().set_title("\N{CJK UNIFIED IDEOGRAPH-9CE5} \N{EGYPTIAN HIEROGLYPH A001}")
            FigureCanvasAgg(figure).print_png(tmp_path / "title.png")
    assert (tmp_path / "title.png").stat().st_size > 0
    assert rcParams["font.family"] == before


def test_names_under_the_picks_are_in_a_font_that_has_their_letters():
    for name in ("cat", "птица", "γάτα", "Größe & <b>"):
        font = font_for(name, 10)
        assert font.getname()[0] == OWN
        boxes = {bytes(font.getmask(letter)) for letter in name if letter != " "}
        assert bytes(font.getmask("\N{EGYPTIAN HIEROGLYPH A001}")) not in boxes
