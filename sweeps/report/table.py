"""What a table is: rows with a title and a note; as CSV, as Markdown, and how a cell is shown."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd


class Table(NamedTuple):
    """A table; cells are text or numbers, NaN and None show as nothing."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    note: str = ""
    folded: bool = False
    """Whether the page shows it only when asked."""

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, columns=list(self.columns), dtype=object)

    def csv(self) -> str:
        """All digits, for other programs."""
        return self.frame().to_csv(index=False, lineterminator="\n")

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *([shown(value) for value in row] for row in self.rows)]
        body = "\n".join("| " + " | ".join(escaped(value) for value in line) + " |" for line in lines)
        return f"**{escaped(self.title)}**\n\n{body}\n" + (f"\n{self.note}\n" if self.note else "")

    def without_empty_columns(self) -> "Table":
        """Columns in which nothing is known take no room on the page; the files keep them."""
        kept = [k for k in range(len(self.columns)) if any(not empty(row[k]) and row[k] != "" for row in self.rows)]
        columns, *rows = [tuple(row[k] for k in kept) for row in (self.columns, *self.rows)]
        return self._replace(columns=columns, rows=rows)

    @property
    def idle(self) -> int:
        """Place, from 1, of a column of settings that says the same in every row; 0 where there is none."""
        place = self.columns.index("setting") if "setting" in self.columns else -1
        return place + 1 if len({row[place] for row in self.rows}) == 1 and len(self.rows) > 1 else 0


def escaped(value: str) -> str:
    """Text that neither ends a Markdown cell nor becomes HTML."""
    value = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return value.replace("|", "\\|").replace("\n", " ")


def empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def shown(value: Any) -> str:
    """A number as a reader wants it; p values and the like carry their own text."""
    if empty(value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float):
        size = abs(value)
        if value.is_integer() or size >= 100:
            return f"{value:,.0f}"
        return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"
    return str(value)


def p_value(p: float) -> str:
    return "" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
