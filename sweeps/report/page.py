"""The report as one HTML file that opens from disk: images inlined, no scripts, nothing fetched from anywhere."""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from sweeps.report.decision import Decision
from sweeps.report.load import Missing, Results
from sweeps.report.tables import Table, decision_table, empty, shown

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 1180px; padding: 0 16px 48px; color: #1c1c1c; background: #fff;
  font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 1.2rem 0 .3rem; } h2 { margin: 2.4rem 0 .6rem; border-bottom: 2px solid #ddd; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
p, li { max-width: 75ch; }
nav ul { columns: 2 18rem; padding-left: 1.2rem; }
article { border-left: 4px solid #0072B2; padding: .1rem 0 .1rem 1rem; margin: 1rem 0; }
article p { font-weight: 600; margin: .2rem 0; } article ul { margin: .3rem 0; padding-left: 1.2rem; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { border: 1px solid #ccc; padding: .25rem .5rem; text-align: left; vertical-align: top; }
th { background: #f3f3f3; } td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
td.long { min-width: 14rem; }
figure { margin: 1rem 0; } figcaption { font-size: .9rem; color: #444; }
img { max-width: 100%; height: auto; }
code, pre { font: .82rem/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { background: #f6f6f6; padding: .6rem; overflow-x: auto; }
.note { color: #555; font-size: .88rem; } .sheets { display: flex; flex-wrap: wrap; gap: 1rem; }
.sheets figure { flex: 0 1 540px; margin: 0; }
summary { cursor: pointer; }
@media (max-width: 640px) { body { padding: 0 10px 32px; } figure.wide img { max-width: none; width: 640px; }
  h1 { font-size: 1.35rem; } td.long { min-width: 10rem; } }
"""


NUMBER = re.compile(r"(at least |< )?[-+]?[\d,.]+( \[[^]]*\])?")
"""Text that is a number, perhaps with its interval: it goes to the right of its cell."""


@dataclass(frozen=True)
class Image:
    """A drawn figure."""

    path: Path
    title: str
    alt: str


@dataclass
class Section:
    """A chapter of the page: HTML fragments in order."""

    id: str
    title: str
    parts: list[str] = field(default_factory=list)


def page(title: str, lead: Sequence[str], decisions: Sequence[Decision], sections: Iterable[Section]) -> str:
    """The whole page; every text passes through `escape` on its way here."""
    kept = [section for section in sections if section.parts]
    links = "".join(f'<li><a href="#{section.id}">{escape(section.title)}</a></li>' for section in kept)
    body = "".join(
        f'<section id="{section.id}"><h2>{escape(section.title)}</h2>{"".join(section.parts)}</section>'
        for section in kept
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style></head>
<body><header><h1>{escape(title)}</h1>{"".join(f"<p>{escape(line)}</p>" for line in lead)}</header>
<main><section id="decision"><h2>In short</h2>{decisions_html(decisions)}</section>
<nav aria-label="Contents"><h2>Contents</h2><ul>{links}</ul></nav>
{body}</main></body></html>
"""


def decisions_html(decisions: Sequence[Decision]) -> str:
    """The answers one by one; from four on as a table, with the words folded below it."""
    words = "".join(map(decision_html, decisions))
    if len(decisions) < 4:
        return words
    return f"{table_html(decision_table(decisions))}<details><summary>The same in words</summary>{words}</details>"


def decision_html(decision: Decision) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in decision.details)
    return f"<article><h3>{escape(decision.setting)}</h3><p>{escape(decision.headline)}</p><ul>{lines}</ul></article>"


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table_html(table: Table, folded: bool = False, files: bool = False) -> str:
    """A table that scrolls sideways where it is too wide; `files` says where it lies as CSV and Markdown."""
    if not table.rows:
        return ""
    table = _without_empty_columns(table)
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    inner = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    label = escape(table.title)
    inner = f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">{inner}</div>'
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    name = escape(table.name)
    note += f'<p class="note">Files: <code>tables/{name}.csv</code>, <code>.md</code></p>' if files else ""
    if folded:
        return f"<details><summary>{label} ({len(table.rows)} rows)</summary>{inner}{note}</details>"
    return f"<h3>{label}</h3>{inner}{note}"


def _without_empty_columns(table: Table) -> Table:
    """Columns in which nothing is known take no room on the page; the files keep them."""
    kept = [k for k in range(len(table.columns)) if any(not empty(row[k]) and row[k] != "" for row in table.rows)]
    columns, *rows = [tuple(row[k] for k in kept) for row in (table.columns, *table.rows)]
    return table._replace(columns=columns, rows=rows)


def _cell(value) -> str:
    text = shown(value)
    number = not isinstance(value, bool) and (not isinstance(value, str) or NUMBER.fullmatch(text) is not None)
    kind = ' class="n"' if number else ' class="long"' if len(text) > 40 else ""
    return f"<td{kind}>{escape(text)}</td>"


def figure_html(image: Image, wide: bool = True) -> str:
    """The picture inlined, with its title and alternative text."""
    data = base64.b64encode(image.path.read_bytes()).decode()
    kind = ' class="wide scroll"' if wide else ""
    label = f' tabindex="0" role="group" aria-label="{escape(image.title)}"' if wide else ""
    return (
        f'<figure{kind}{label}><img src="data:image/png;base64,{data}" alt="{escape(image.alt)}">'
        f"<figcaption>{escape(image.title)}</figcaption></figure>"
    )


def sheets_html(images: Sequence[Image]) -> str:
    return f'<div class="sheets">{"".join(figure_html(image, wide=False) for image in images)}</div>'


def missing_parts(results: Results) -> list[str]:
    """What a reader must know about what is not on the page, with the commands that would put it there."""
    parts = [paragraph(note) for note in results.notes]
    if results.missing:
        parts += _missing_runs(results.missing, results.command)
    if results.left_out:
        rows = [(item.source, item.reason, item.command) for item in results.left_out]
        table = Table("left_out", "Found and left out", ("run", "why", "command"), rows)
        parts.append(table_html(table, folded=len(rows) > 12))
    return parts


def _missing_runs(missing: Sequence[Missing], command: str) -> list[str]:
    text = f"{len(missing)} runs of the sweep files are missing or unfinished. All of them:"
    rows = [(item.config.cell, item.config.split_seed, item.sweep, item.command) for item in missing]
    table = Table("missing", "Missing runs", ("configuration", "split seed", "sweep file", "command"), rows)
    return [paragraph(text), f"<pre>{escape(command)}</pre>", table_html(table, folded=len(rows) > 12)]
