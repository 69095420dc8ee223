"""The report as one HTML file that opens from disk: images and scripts inlined, nothing fetched from anywhere.

The page's policy lets its own scripts run, each known by its hash, and nothing else. Without scripts it shows pictures.
"""

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from sweeps.report.analysis import Analysis
from sweeps.report.charts.registry import chart_data, scripts, tints
from sweeps.report.decision import Decision
from sweeps.report.first_screen import FirstScreen
from sweeps.report.picks import Gallery
from sweeps.report.sections import Live, Section, Text
from sweeps.report.table import Table, shown
from sweeps.report.tables import decision_table

TEMPLATES = Path(__file__).parent / "templates"
MANY = 4
"""Settings from which the answers are a table first."""
COLOURS = 32
"""Of a picture on the page."""
LONG = 40
"""Characters from which a cell may break its line."""
NUMBER = re.compile(r"(more than |< )?[-+]?[\d,.]+( or more| or less)?( \[[^]]*\])?")
"""Text that is a number, perhaps with its interval: it goes to the right of its cell."""


def page(
    title: str,
    first: FirstScreen,
    analyses: Sequence[Analysis],
    decisions: Sequence[Decision],
    sections: Sequence[Section],
) -> str:
    """The whole page, from the templates; pictures of the sections are drawn and named by path already."""
    answers = decision_table(decisions) if len(decisions) >= MANY else None
    content = {"title": title, "first": first, "decisions": decisions, "answers": answers, "sections": sections}
    running = scripts()
    content |= {"scripts": running, "policy": _policy(running), "data": chart_data(analyses)}
    content |= {"style": (TEMPLATES / "style.css").read_text(encoding="utf-8"), "tints": tints(analyses)}
    return _environment().get_template("page.html").render(content)


def _policy(running: Sequence[str]) -> str:
    """The content security policy: these scripts and no others, pictures from within, nothing from anywhere."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    policy = f"default-src 'none'; script-src {allowed}; img-src data:; style-src 'unsafe-inline'"
    return f"{policy}; base-uri 'none'; form-action 'none'"


def _environment() -> Environment:
    made = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made.tests["text"] = lambda part: isinstance(part, Text)
    made.tests["table"] = lambda part: isinstance(part, Table)
    made.tests["live"] = lambda part: isinstance(part, Live)
    made.tests["gallery"] = lambda part: isinstance(part, Gallery)
    made.filters |= {"shown": shown, "kind": _kind, "inlined": _inlined}
    return made


def _kind(value: Any) -> Markup:
    """The attributes of a table's cell: numbers go to the right, with all digits; long text may break its line."""
    text = shown(value)
    number = not isinstance(value, bool) and (not isinstance(value, str) or NUMBER.fullmatch(text) is not None)
    made = Markup(' class="n"' if number else ' class="long"' if len(text) > LONG else "")
    precise = str(value) if number and not isinstance(value, str) and text else text
    return made if precise == text else made + Markup(' data-value="{}"').format(precise)


def _inlined(path: Path) -> str:
    """A picture as the page holds it: of few colours and without loss, a fifth of the file beside the page."""
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    packed = io.BytesIO()
    few.convert("RGB").save(packed, "WEBP", lossless=True, method=2, quality=50)
    return f"data:image/webp;base64,{base64.b64encode(packed.getvalue()).decode()}"
