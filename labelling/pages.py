"""Pages that open from disk, in the clothes of a run's report."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import sweeps.report

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **content: object) -> str:
    """A page from its template; whatever is put into it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    style = (Path(sweeps.report.__file__).parent / "templates" / "style.css").read_text("utf-8") + (
        TEMPLATES / "extra.css"
    ).read_text("utf-8")
    return environment.get_template(template).render(style=style, **content)
