"""Answers come back: each is found its image, compared with what is known, and written down; nothing is overwritten."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from al.errors import UserError, nearest
from labelling.formats import DISAGREE, read_answers
from labelling.photos import Photo, Photos, find_photos
from labelling.project import Project, holding
from labelling.records import Accepted, Answer, LabelEvent


@dataclass(frozen=True)
class Rules:
    """What the user allows."""

    replace: bool = False
    """An answer that contradicts an earlier one holds from now on."""
    new_classes: bool = False
    """A class that is not known yet is a new one, and no mistake in spelling."""


def accept(project: Project, source: Path, rules: Rules = Rules()) -> Accepted:
    """Take the answers of a file or folder; the caller holds the project's lock.

    Raises:
        UserError: the file cannot be read, or knows none of the images.
    """
    kind, answers = read_answers(source)
    photos = find_photos(project.data, project.cache)
    place = source.absolute()
    origin = os.fsencode(f"{kind}: {place.parent.name}/{place.name}").decode(errors="backslashreplace")
    return take(project, photos, origin, answers, rules)


def take(project: Project, photos: Photos, origin: str, answers: Sequence[Answer], rules: Rules = Rules()) -> Accepted:
    """Sort out the answers and add them to the store in one go: a kill leaves the first so many, and again is no harm.

    Raises:
        UserError: none of them is about an image of the folder, or a class has a name that cannot be written down.
    """
    outcome = Accepted(origin)
    for name in {answer.label for answer in answers if answer.label}:
        if name != (shown := name.encode(errors="backslashreplace").decode()):
            raise UserError(f"{origin}: the name of the class {shown!r} is not UTF-8; rename it")
    found = _located(photos, answers, outcome)
    if answers and not found and outcome.unknown_images:
        raise UserError(
            f"{origin}: none of its {len(answers):,} images is in {photos.folder}, {outcome.unknown_images[0]} for "
            "example; is --data another folder?"
        )
    events = project.answers()
    agreed = _agreed(found, outcome)
    classes = _known_classes(project, events, agreed, rules, outcome)
    new = list(_events(project, events, agreed, classes, rules, outcome))
    if new:
        project.events.append_all(new)
    if outcome.new_classes:
        project.save(project.settings.model_copy(update={"classes": sorted(classes)}))
    return outcome


def _located(photos: Photos, answers: Iterable[Answer], outcome: Accepted) -> list[tuple[Photo, Answer]]:
    """The answers whose image is in the folder, each with it."""
    found = []
    for answer in answers:
        photo = locate(photos, answer)
        if photo is None:
            outcome.unknown_images.append(answer.where)
        else:
            found.append((photo, answer))
            if photo.sha256 not in (answer.sha256, answer.content) and _by_name_alone(photos.folder, photo, answer):
                outcome.by_name.append(f"{answer.where} is {photo.path}")
    return found


def locate(photos: Photos, answer: Answer) -> Photo | None:
    """By content where it is known; else by its path; else by the end of its path, folder by folder.

    Of paths that share nothing but the file name one must be no more than that, and no other photo may have it. Cameras
    give their names again and again: `old/1.jpg` is not the photo `new/1.jpg`, even where no other is called so. Where
    we had told the content, and no photo has it, the file at that path is another image by now: none.
    """
    for digest in (answer.sha256, answer.content):
        if digest in photos.by_sha256:
            return photos.by_sha256[digest]
    if answer.sha256 is not None:
        return None
    for name in answer.names:
        if (photo := photos.by_path.get(_inside(photos.folder, name))) is not None:
            return photo
    for name in answer.names:
        called = photos.by_name.get(name.rpartition("/")[2], [])
        shared = [max((_shared(path, name) for path in photo.paths), key=len) for photo in called]
        same = [photo for photo, end in zip(called, shared) if "/" in end or (end and len(called) == 1)]
        if len(same) == 1:
            return same[0]
    return None


def _shared(path: str, name: str) -> str:
    """The shorter one of two paths where the other ends with it, folder by folder; else nothing."""
    shorter, longer = sorted((path, name.removeprefix("./")), key=len)
    return shorter if f"/{longer}".endswith(f"/{shorter}") else ""


def _by_name_alone(folder: Path, photo: Photo, answer: Answer) -> bool:
    """Whether nothing but a file name says that this is the image: another one may be called so too.

    A class folder's file of other content is a copy that was saved anew, at best.
    """
    if answer.content is None and any(_inside(folder, name) in photo.paths for name in answer.names):
        return False
    return not any("/" in _shared(path, name) for path in photo.paths for name in answer.names)


def _inside(folder: Path, name: str) -> str:
    path = Path(name)
    return path.relative_to(folder).as_posix() if path.is_absolute() and path.is_relative_to(folder) else name


def _agreed(found: Sequence[tuple[Photo, Answer]], outcome: Accepted) -> list[tuple[Photo, Answer]]:
    """One answer a photo; where its annotators, or the places it lies in, say different things, none."""
    groups: dict[str, list[tuple[Photo, Answer]]] = {}
    disputed = {photo.sha256: photo for photo, answer in found if answer.annotator == DISAGREE}
    outcome.conflicts += [f"{photo.path}: annotators disagree" for photo in disputed.values()]
    for photo, answer in found:
        if photo.sha256 in disputed:
            continue
        if answer.label is None and answer.reason is None:
            outcome.unanswered += 1
        else:
            groups.setdefault(photo.sha256, []).append((photo, answer))
    agreed = []
    for group in groups.values():
        if len({answer.label for _, answer in group}) > 1:  # None: a skip, whatever its reason
            listed = " and ".join(sorted({_said(answer) for _, answer in group}))
            outcome.conflicts.append(f"{group[0][0].path}: the file says {listed}")
        else:
            agreed.append(group[0])
    return agreed


def _said(answer: Answer | LabelEvent) -> str:
    """An answer in words."""
    return repr(answer.label or f"skip ({answer.reason})")


def _known_classes(
    project: Project,
    events: Sequence[LabelEvent],
    agreed: Iterable[tuple[Photo, Answer]],
    rules: Rules,
    outcome: Accepted,
) -> set[str]:
    """Classes that a label may name: those known; the first labels, and `new_classes`, bring theirs."""
    known = {*project.settings.classes, *(event.label for event in events if event.label)}
    named = {answer.label for _, answer in agreed if answer.label}
    if not known or rules.new_classes:
        outcome.new_classes = sorted(named - known)
        return known | named
    return known


def _events(
    project: Project,
    events: Sequence[LabelEvent],
    agreed: Iterable[tuple[Photo, Answer]],
    classes: set[str],
    rules: Rules,
    outcome: Accepted,
) -> Iterable[LabelEvent]:
    """A line for each answer that says something new."""
    held, disputed = (
        holding(list(events)),
        {(event.sha256, event.answer) for event in events if event.kind == "disputed"},
    )
    rounds = project.rounds()
    asked = {pick.sha256: pick.audit for proposal in rounds for pick in proposal.picks}
    number = rounds[-1].round if rounds else 0
    skipped: Counter[str] = Counter()
    for photo, answer in agreed:
        if answer.label is not None and answer.label not in classes:
            outcome.unknown_classes.append(f"{photo.path}: {answer.label!r}; {nearest(answer.label, sorted(classes))}")
            continue
        event = LabelEvent(
            kind="label" if answer.reason is None else "skip",
            sha256=photo.sha256,
            path=photo.path,
            label=answer.label,
            reason=answer.reason,
            origin=outcome.origin + (f", annotator {answer.annotator}" if answer.annotator else ""),
            round=number,
            proposed=photo.sha256 in asked,
            audit=asked.get(photo.sha256, False),
        )
        earlier = held.get(photo.sha256)
        if earlier is None:
            outcome.labelled += event.kind == "label"
            skipped.update([event.reason] if event.reason else [])
        elif earlier.answer == event.answer:
            outcome.known += 1
            continue
        elif rules.replace:
            outcome.replaced += 1
        else:
            said = f"{_said(earlier)} and {_said(event)}"
            outcome.conflicts.append(f"{photo.path}: earlier and now {said}; the earlier one holds")
            if (photo.sha256, event.answer) in disputed:
                continue
            event = event.model_copy(update={"kind": "disputed"})
        yield event
    outcome.skipped = dict(skipped)


EXAMPLES = 5
"""Of what is said of single images."""


def lines(outcome: Accepted) -> list[str]:
    """The outcome in words, a line for each thing that happened."""
    said = [f"{outcome.origin}: {outcome.labelled:,} new labels"]
    said += [f"  {outcome.known:,} answers were known already"] * bool(outcome.known)
    said += [f"  {outcome.replaced:,} replace an earlier answer, which stays in the store"] * bool(outcome.replaced)
    said += [f"  {count:,} skipped and never asked for again: {reason}" for reason, count in outcome.skipped.items()]
    said += [f"  {outcome.unanswered:,} without an answer"] * bool(outcome.unanswered)
    said += [f"  new classes: {', '.join(outcome.new_classes)}"] * bool(outcome.new_classes)
    for what, items, remedy in (
        ("found by their file name alone", outcome.by_name, "look whether they are these images"),
        ("not taken, no such image", outcome.unknown_images, ""),
        ("not taken, no such class", outcome.unknown_classes, "--new_classes takes them"),
        ("in conflict, not used", outcome.conflicts, "--replace has the new answer hold"),
    ):
        if items:
            said.append(f"  {len(items):,} {what}" + (f" ({remedy})" if remedy else "") + ":")
            said += [f"    {item}" for item in items[:EXAMPLES]]
            said += [f"    and {len(items) - EXAMPLES:,} more"] * (len(items) > EXAMPLES)
    return said
