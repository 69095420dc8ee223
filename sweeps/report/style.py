"""How figures look: one colour, marker, line and hatch for each strategy, told apart in greyscale too."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from al.tracking.fonts import any_script


class Look(NamedTuple):
    colour: str
    marker: str
    line: str | tuple
    hatch: str

    @property
    def dashes(self) -> str:
        """The line as SVG has it: lengths of dashes and gaps; empty for an unbroken one."""
        return SVG_DASHES[self.line] if isinstance(self.line, str) else " ".join(str(3 * n) for n in self.line[1])

    @property
    def symbol(self) -> str:
        """The marker as D3 names it."""
        return SYMBOLS[self.marker]


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B6B6B", "#8C510A")
"""Okabe and Ito's palette for colour-blind readers, its black and yellow replaced: they vanish in bars and on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (7, 2)), (0, (3, 3)), (0, (1, 3)))
HATCHES = ("//", "..", "\\\\", "xx", "--", "++", "oo", "||")

SVG_DASHES = {"-": "", "--": "8 4", "-.": "8 3 2 3"}
SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle",
    "D": "diamond",
    "v": "wye",
    "P": "plus",
    "X": "times",
    "*": "star",
}
ON_DARK = {"#3A3A3A": "#C9C9C9", "#0072B2": "#56A8E0", "#6B6B6B": "#A6A6A6", "#8C510A": "#CF9350"}
"""Colours that would be lost on a dark page, and what stands for them there."""

FIXED_LOOKS = {
    "stratified": Look("#3A3A3A", "*", (0, (3, 2)), ""),
    "random": Look("#8A8A8A", "X", (0, (1, 1.5)), "oo"),
    "uncertainty": Look("#0072B2", "o", "-", "//"),
    "margin": Look("#D55E00", "s", "--", ".."),
    "typiclust": Look("#009E73", "^", "-.", "\\\\"),
}


def looks(labels: list[str]) -> dict[str, Look]:
    """A look for each label; the strategies met most often always have the same one."""
    given = {label: FIXED_LOOKS[label] for label in labels if label in FIXED_LOOKS}
    taken = {look.colour for look in given.values()}
    free = [k for k, colour in enumerate(COLOURS) if colour not in taken] or list(range(len(COLOURS)))
    others = [label for label in labels if label not in given]
    for number, label in enumerate(others):
        k = free[number % len(free)]
        turn = (k + number // len(free)) % len(LINES)
        given[label] = Look(COLOURS[k], MARKERS[turn], LINES[turn], HATCHES[turn])
    return given


RC = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "hatch.color": "white",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "text.parse_math": False,  # names hold dollar signs, and no figure holds mathematics
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
}


@contextmanager
def drawing(width: float = 7.5, height: float = 4.5, rows: int = 1, columns: int = 1, **options) -> Iterator[tuple]:
    """Yields a figure of this size in inches, and its axes [rows, columns]; draws without a display."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(RC), any_script():
        figure = Figure(figsize=(width, height))
        yield figure, figure.subplots(rows, columns, squeeze=False, **options)


def save(figure, path: Path) -> None:
    """Writes the figure as PNG, or as SVG without a date, whole or not at all.

    The canvas' own printers are called instead of `savefig`, which draws every figure twice. The layout is worked out
    by the first call and kept for the second format.
    """
    temporary = path.with_name(f".{path.name}")
    if path.suffix == ".svg":
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        FigureCanvasSVG(figure).print_svg(temporary, metadata={"Date": None})
    else:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None})
    figure.set_layout_engine("none")
    temporary.replace(path)
