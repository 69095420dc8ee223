"""The report as one HTML file that opens from disk: images inlined, no scripts, nothing fetched from anywhere."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sweeps.report.decision import Decision
from sweeps.report.first_screen import FirstScreen
from sweeps.report.sections import Section, Sheets, Text
from sweeps.report.tables import Table, decision_table, shown

TEMPLATES = Path(__file__).parent / "templates"
MANY = 4
"""Settings from which the answers are a table first."""
LONG = 40
"""Characters from which a cell may break its line."""
NUMBER = re.compile(r"(at least |at most |more than |< )?[-+]?[\d,.]+( \[[^]]*\])?")
"""Text that is a number, perhaps with its interval: it goes to the right of its cell."""


def page(title: str, first: FirstScreen, decisions: Sequence[Decision], sections: Sequence[Section]) -> str:
    """The whole page, from the templates; pictures of the sections are drawn and named by path already."""
    answers = decision_table(decisions) if len(decisions) >= MANY else None
    content = {"title": title, "first": first, "decisions": decisions, "answers": answers}
    style = (TEMPLATES / "style.css").read_text()
    return _environment().get_template("page.html").render(**content, sections=sections, style=style)


def _environment() -> Environment:
    made = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made.tests["text"] = lambda part: isinstance(part, Text)
    made.tests["table"] = lambda part: isinstance(part, Table)
    made.tests["sheets"] = lambda part: isinstance(part, Sheets)
    made.filters |= {"shown": shown, "kind": _kind, "inlined": _inlined}
    return made


def _kind(value: Any) -> Markup:
    """The attribute of a table's cell: numbers go to the right, long text may break its line."""
    text = shown(value)
    number = not isinstance(value, bool) and (not isinstance(value, str) or NUMBER.fullmatch(text) is not None)
    return Markup(' class="n"' if number else ' class="long"' if len(text) > LONG else "")


def _inlined(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
