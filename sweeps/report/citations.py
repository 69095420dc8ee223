"""BibTeX of the strategies that a report shows: the entries of `references.bib` name the strategies they are of."""

import re
from collections.abc import Iterable
from pathlib import Path

REFERENCES = Path(__file__).parent / "references.bib"
OF_STRATEGIES = re.compile(r"\n  strategies = \{(?P<names>[^}]*)\},")


def bibtex(strategies: Iterable[str]) -> str:
    """The entries of these strategies, in the file's order; empty where it has none."""
    wanted = set(strategies)
    return "\n\n".join(entry for names, entry in _entries() if wanted & names)


def _entries() -> list[tuple[set[str], str]]:
    """Strategies and text of each entry, without the field that names the strategies."""
    found = []
    for entry in REFERENCES.read_text(encoding="utf-8").strip().split("\n\n"):
        names = OF_STRATEGIES.search(entry)["names"]
        found.append(({name.strip() for name in names.split(",")}, OF_STRATEGIES.sub("", entry)))
    return found
