"""What the figures draw of few and of many seeds."""

import pytest
from report_results import World, write_cells

from sweeps.report import curve_figures
from sweeps.report.cells import organise
from sweeps.report.load import load_results
from sweeps.report.picture import save_all, shortened
from sweeps.report.style import drawing, looks

DIGITS = {"dataset": "digits", "model": "small_cnn", "weights": "none", "variant": "balanced_20", "initial_min": 20}
SMALL = World(classes=[str(k) for k in range(10)], train=1437, test=360)


@pytest.mark.parametrize(("seeds", "bands", "lines"), [(1, 0, 1), (2, 0, 3), (4, 0, 5), (5, 1, 1)])
def test_below_five_seeds_each_is_a_thin_line_and_there_is_no_band(tmp_path, seeds, bands, lines):
    write_cells(tmp_path, SMALL, ("margin",), range(seeds), **DIGITS)
    (cell,) = organise(load_results(tmp_path))[0].settings[0].cells
    with drawing(4, 3) as (_, axes):
        ax = axes.flat[0]
        curve_figures._draw_band(ax, cell, "labels", looks(["margin"])["margin"])
        assert len(ax.collections) == bands
        widths = sorted(line.get_linewidth() for line in ax.lines)
        assert len(widths) == lines
        assert all(width < widths[-1] / 2 for width in widths[:-1])


def test_a_name_that_looks_like_mathematics_is_drawn_as_it_is(tmp_path):
    name = r"$\x^$"  # as mathematics it would be an error
    with drawing(4, 3) as (figure, axes):
        axes[0, 0].set(title=name)
        axes[0, 0].set_xticks([0], [shortened(name)])
        save_all(figure, [tmp_path / "one.svg", tmp_path / "one.png"])
    assert (tmp_path / "one.svg").read_text().count(name) >= 2
