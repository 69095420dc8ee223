"""What the study adds to the report of runs on its data: its claims, and its figures and tables by their numbers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from sweeps.report.cells import Family
from sweeps.report.picture import Picture
from sweeps.report.sections import Findings, Part, Section, zero_shot_parts
from sweeps.report.zero_shot import ZeroShot, zero_shot_pictures, zero_shot_table
from sweeps.study.claims import claims
from sweeps.study.figures import bar_pictures
from sweeps.study.published import has_clip_start, is_study, published_zero_shot
from sweeps.study.tables import claims_table, results_table, variants_table


def extend(findings: Findings, sections: list[Section]) -> list[Section]:
    """The sections with the study's among them; unchanged where no run is on the study's data."""
    families = [family for family in findings.families if is_study(family)]
    if not families:
        return sections
    paper = published_zero_shot()
    mine = [labels for labels in findings.zero_shot if set(labels.classes) == set(paper.classes)]
    others = [labels for labels in findings.zero_shot if labels not in mine]
    numbers = _figure_numbers(families)
    made = []
    for section in sections:
        if section.id == "zero_shot":
            made.append(Section("claims", "The study's claims", tuple(_claims(findings, families, mine))))
            made.append(Section("study", "The study's figures and tables", tuple(_study(findings, families, mine))))
            section = replace(section, parts=tuple(zero_shot_parts(others)))
        made.append(replace(section, parts=tuple(_numbered(section.parts, numbers))))
    return made


def _claims(findings: Findings, families: Sequence[Family], own: Sequence[ZeroShot]) -> Iterator[Part]:
    others = [family for family in findings.families if family not in families and has_clip_start(family)]
    for family in families:
        yield findings.titled(claims_table(claims(family, own, next(iter(others), None))), family)


def _study(findings: Findings, families: Sequence[Family], own: Sequence[ZeroShot]) -> Iterator[Part]:
    for family in families:
        yield findings.titled(variants_table(family), family)
        yield findings.titled(results_table(family), family)
    paper = published_zero_shot()
    sets = [(f"own, set {number}", labels) for number, labels in enumerate(own, 1)]
    yield zero_shot_table([*sets, ("published", paper)])._replace(name="figure6_zero_shot")
    for family in families:
        yield from bar_pictures(family)
    yield from _numbered(zero_shot_pictures(own, paper), {"confidences": 6, "transitions": 7})


def _figure_numbers(families: Sequence[Family]) -> dict[str, int]:
    """Figures of the study that any report has, by their names here."""
    epochs = {f"epochs_{cell.name}": 11 for family in families for cell in family.everyone}
    return epochs | {f"confusion_{setting.slug}": 12 for family in families for setting in family.settings}


def _numbered(parts: Iterable[Part], numbers: dict[str, int]) -> Iterator[Part]:
    for part in parts:
        if isinstance(part, Picture) and part.name in numbers:
            figure = numbers[part.name]
            name, title = f"figure{figure}_{part.name}", f"Figure {figure}. {part.title}"
            part = part._replace(name=name, title=title, alt=f"Figure {figure}. {part.alt}")
        yield part
