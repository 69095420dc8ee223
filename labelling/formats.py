"""Answers from files: a CSV, Label Studio's JSON (full and minimal), class folders, CVAT's ImageNet form.

Reading a file says what is in it, image by image; whether there is such an image or class is found out later.
"""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from al.errors import UserError
from data_prep.sources.decoding import EXTENSIONS
from labelling.photos import identify
from labelling.project import STATE
from labelling.records import Answer

NONE_OF_THEM = "none of the classes"
"""A choice in Label Studio, and a folder in the tree of class folders: the image is skipped, with this reason."""
UNSORTED = ("unsorted", "no_label", "unlabelled", "unlabeled")
"""Class folders of images without an answer: ours, CVAT's, and what people call them."""
SKIPPED_THERE = "skipped in Label Studio"
SYNSETS = "synsets.txt"
ENDINGS = tuple(name for ending in (".jpg", ".jpeg", ".png", ".webp", ".bmp") for name in (ending, ending.upper()))
"""What CVAT leaves off, the likeliest first: of `a.jpg` and `a.png` side by side the second is mostly a mask."""
UPLOADED = re.compile(r"[0-9a-f]{8}-(?P<name>.+)")
"""What Label Studio makes of the name of an uploaded file."""
DISAGREE = "annotators disagree"


def read_answers(source: Path) -> tuple[str, list[Answer]]:
    """What a file or folder says of images, and in a word what it is.

    Raises:
        UserError: not there, or of no form that is known; names the forms.
    """
    source = source.expanduser()
    if source.is_dir():
        if (source / SYNSETS).is_file():
            return "CVAT", list(_cvat_lists(source))
        return "class folders", list(_class_folders(source))
    kinds: dict[str, Callable[[bytes, Path], tuple[str, list[Answer]]]] = {".csv": _csv, ".json": _label_studio}
    if not source.exists():
        raise UserError(f"{source}: cannot be read (no such file or folder); name the one with the answers")
    if source.suffix.lower() not in kinds:
        remedy = "unpack it, and name the folder" if zipfile.is_zipfile(source) else "use one of these"
        raise UserError(
            f"{source}: answers come as a .csv with path and label, a .json export of Label Studio, or a folder of "
            f"class folders; {remedy}"
        )
    try:
        content = source.read_bytes()
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror})") from None
    return kinds[source.suffix.lower()](content, source)


def _csv(content: bytes, source: Path) -> tuple[str, list[Answer]]:
    """Columns `path` and `label`, also `skip` (a reason) and `sha256`; a spreadsheet's `;` and its BOM are fine."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{source}: not UTF-8; save it as CSV in UTF-8") from None
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return "CSV", list(_answers_of_rows(lines, header, source))
    except csv.Error as error:
        raise UserError(
            f"{source}, line {lines.line_num}: not CSV ({error}); is a quotation mark there without its other one?"
        ) from None


def _answers_of_rows(lines: csv.DictReader, header: str, source: Path) -> Iterator[Answer]:
    named = [(name or "").strip().lower() for name in lines.fieldnames or ()]
    columns = dict(zip(named, lines.fieldnames or ()))
    if "path" not in columns or not {"label", "skip"} & columns.keys():
        raise UserError(
            f"{source}: its first line is {header.strip()[:80]!r}; it must name the columns path and label (and may "
            "name skip, a reason)"
        )
    if twice := [name for name in ("path", "label", "skip", "sha256") if named.count(name) > 1]:
        raise UserError(f"{source}: has {named.count(twice[0])} columns {twice[0]!r}; keep the one that holds")

    def cell(row: dict[str, Any], name: str) -> str:
        return str(row.get(columns.get(name, name)) or "").strip()

    for row in lines:
        path, sha256 = cell(row, "path"), cell(row, "sha256") or None
        exact = str(row.get(columns["path"]) or "")  # names may begin or end with spaces
        label, reason = cell(row, "label") or None, cell(row, "skip") or None
        if label == NONE_OF_THEM:
            label, reason = None, reason or NONE_OF_THEM
        if path or sha256:
            names = tuple(dict.fromkeys((exact, path)))
            yield Answer(path or sha256, names, sha256, None if reason else label, reason)


def _class_folders(source: Path) -> Iterator[Answer]:
    """`<class>/**/<image>`: known by content, wherever the file came from; else by name, as CVAT prefixes it too."""
    folders = sorted(
        entry for entry in source.iterdir() if entry.is_dir() and entry.name[0] != "." and entry.name != STATE
    )
    for folder in folders:
        label = folder.name
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS):
            inner = path.relative_to(folder).as_posix()
            names = (inner, inner.removeprefix(f"{label}_"))
            yield _sorted_into(label, f"{label}/{inner}", names, identify(path)[0] or None)
    if not folders:
        raise UserError(f"{source}: has no class folders; put the images of each class into a folder there")


def _sorted_into(label: str, where: str, names: tuple[str, ...], content: str | None) -> Answer:
    names = tuple(dict.fromkeys(names))
    if label == NONE_OF_THEM:
        return Answer(where, names, reason=NONE_OF_THEM, content=content)
    return Answer(where, names, label=None if label in UNSORTED else label, content=content)


def _cvat_lists(source: Path) -> Iterator[Answer]:
    """`synsets.txt` with a class a line, and `<subset>.txt` with `path index [index ...]` a line."""
    classes = _lines(source / SYNSETS)
    for file in sorted(source.glob("*.txt")):
        if file.name == SYNSETS:
            continue
        for number, line in enumerate(_lines(file), 1):
            match = re.fullmatch(r'(?:"(?P<quoted>[^"]+)"|(?P<plain>.+?))(?P<labels>(?: \d+)*)', line.strip())
            if match is None:
                continue
            path, indices = match["quoted"] or match["plain"], [int(index) for index in match["labels"].split()]
            if any(index >= len(classes) for index in indices):
                raise UserError(f"{file}, line {number}: class {max(indices)}, and {SYNSETS} has {len(classes)} lines")
            names = (path,) if path.lower().endswith(EXTENSIONS) else tuple(f"{path}{ending}" for ending in ENDINGS)
            if len(indices) > 1:
                yield Answer(names[0], names, reason=None, label=None, annotator=DISAGREE)
            else:
                yield Answer(names[0], names, label=classes[indices[0]].strip() if indices else None)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as UTF-8 text ({type(error).__name__})") from None


def _label_studio(content: bytes, source: Path) -> tuple[str, list[Answer]]:
    """An export as JSON or JSON-MIN; the task's own `path` and `sha256` come before what its image's address tells."""
    try:
        tasks = json.loads(content)
        if isinstance(tasks, dict):
            tasks = [tasks]
        answers, missing = [_of_task(task) for task in tasks], _no_choices(tasks)
    except (ValueError, TypeError, AttributeError, KeyError):
        raise UserError(
            f"{source}: not an export of Label Studio; export the project as JSON or JSON-MIN, and give that file"
        ) from None
    if missing:
        raise UserError(f"{source}: {missing}; answer in Label Studio with the interface label_studio.xml")
    return "Label Studio", answers


def _no_choices(tasks: list[dict[str, Any]]) -> str | None:
    """What is wrong where people have answered, and none of the answers can be read; else None."""
    if tasks and all("data" not in task for task in tasks):
        named = any({"label", "choice"} & task.keys() for task in tasks)
        answered = any(task.get("annotator") is not None for task in tasks)
        return "none of its answers is called label or choice" if answered and not named else None
    results = (result for task in tasks for annotation in _annotations(task) for result in annotation["result"])
    kinds = {str(result.get("type")) for result in results}
    if not kinds or "choices" in kinds:
        return None
    return f"its answers are of type {', '.join(sorted(kinds))}, not choices"


def _annotations(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that were given; before version 1.0 they were called completions."""
    found = task.get("annotations", task.get("completions", ()))
    return [annotation for annotation in found if annotation.get("result") is not None]


def _of_task(task: dict[str, Any]) -> Answer:
    data = task.get("data", task)  # JSON-MIN has the data and the answer side by side
    address = str(data.get("image") or "")
    path = str(data.get("path") or "")
    names = tuple(dict.fromkeys(filter(None, [path, *_names_in(address)])))
    where = path or address[:80] or f"task {task.get('id')}"
    answer = Answer(where, names, str(data["sha256"]) if data.get("sha256") else None)
    if "data" not in task:
        return _answered(answer, _choices_of_minimal(task), _person(task.get("annotator")))
    given = _annotations(task)
    done = [annotation for annotation in given if not annotation.get("was_cancelled")]
    choices = [choice for annotation in done for choice in _choices(annotation["result"])]
    if not choices and len(done) < len(given):
        return Answer(answer.where, names, answer.sha256, reason=SKIPPED_THERE)
    people = {person for annotation in done if (person := _person(annotation.get("completed_by"))) is not None}
    return _answered(answer, choices, ", ".join(sorted(people)) or None)


def _person(who: object) -> str | None:
    """A number, or of some versions a record with one and with names and addresses, which are nobody's business."""
    who = who.get("id") if isinstance(who, dict) else who
    return None if who is None else str(who)


def _answered(answer: Answer, choices: list[str], annotator: str | None) -> Answer:
    if len(set(choices)) > 1:
        return replace(answer, annotator=DISAGREE)
    label = choices[0] if choices else None
    reason = NONE_OF_THEM if label == NONE_OF_THEM else None
    return replace(answer, label=None if reason else label, reason=reason, annotator=annotator)


def _choices(results: Iterable[dict[str, Any]]) -> Iterator[str]:
    for result in results:
        if result.get("type") == "choices":
            yield from map(str, result["value"]["choices"])


def _choices_of_minimal(task: dict[str, Any]) -> list[str]:
    """One is a text, several are a list or an object that holds one."""
    for name in ("label", "choice"):
        found = task.get(name)
        if isinstance(found, dict):
            found = found.get("choices")
        if found:
            return [str(choice) for choice in (found if isinstance(found, list) else [found])]
    return []


def _names_in(address: str) -> list[str]:
    """Paths that the address of an image may stand for: of a local file, or of one that was uploaded."""
    if not address or address.startswith("data:"):
        return []
    parsed = urlparse(address)
    local = parse_qs(parsed.query).get("d")
    path = (local[0] if local else unquote(parsed.path)).lstrip("/")
    if local or "upload" not in path.split("/"):
        return [path]
    base = path.rpartition("/")[2]  # folders of its own say nothing of where the image lay
    uploaded = UPLOADED.fullmatch(base)
    return [path, base, *([uploaded["name"]] if uploaded else [])]
