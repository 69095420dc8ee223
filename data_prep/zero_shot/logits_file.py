"""Zero-shot outputs computed elsewhere: a CSV file with one column for each class and one line for each image."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError

TRUE_LABEL = ("target-0", "target", "label", "true", "true_label")
ROW_INDEX = ("instance_id", "row", "index", "id")

Order = Literal["row", "by-class"]


@dataclass(frozen=True)
class LogitsFile:
    """The columns of a file, its lines sorted by the row index where it has one."""

    name: str
    values: NDArray[np.float64]
    """[N, C] logits or probabilities, columns in the data set's order of classes."""
    true: NDArray[np.int64] | None
    """[N] true labels as indices of the data set's classes, where the file tells them."""


def read_probs(path: Path, labels: NDArray[np.int64], classes: Sequence[str], order: Order) -> NDArray[np.float32]:
    """Read the probabilities f32[N, C] of a data set's N rows from a CSV file.

    Columns are the class names, in any order, and optionally a true label (`target-0`, `target`, `label`, `true`
    or `true_label`: a class name or its index) and a row index (`instance_id`, `row`, `index` or `id`). Lines
    that are all non-negative and sum to one are probabilities; anything else are logits.

    Args:
        labels: i64[N] of the data set; they check the file where it tells true labels, and place its lines where
            `order` is `by-class`.
        order: `row`: line i (or row index i) is row i. `by-class`: the k-th line of a class is the k-th row of
            that class, as where a data set was sorted into one folder for each class.

    Raises:
        UserError: missing columns, values that are not finite numbers, another length, other true labels.
    """
    file = _parse(path, classes)
    if len(file.values) != len(labels):
        raise UserError(
            f"{path}: {len(file.values)} lines for {len(labels)} images; give one line for each image of the data set"
        )
    lines = np.arange(len(labels)) if order == "row" else _lines_by_class(file, labels, classes)
    if file.true is not None:
        _check_labels(file, lines, labels, classes)
    return _as_probs(file.values[lines])


def _parse(path: Path, classes: Sequence[str]) -> LogitsFile:
    header, lines = _read(path)
    missing = [name for name in classes if name not in header]
    if missing:
        raise UserError(f"{path}: no column for {', '.join(missing[:5])}; it needs one for each class of the data set")
    known = {*classes, *TRUE_LABEL, *ROW_INDEX}
    if unknown := [name for name in header if name not in known]:
        raise UserError(f"{path}: column {unknown[0]!r} is not a class of the data set; remove it")
    columns = {name: [line[i] for line in lines] for i, name in enumerate(header)}
    values = np.stack([_numbers(path, name, columns[name]) for name in classes], axis=1)
    true, index = _optional(columns, classes, TRUE_LABEL), _optional(columns, classes, ROW_INDEX)
    labels = None if true is None else _class_indices(path, columns[true], classes)
    if index is not None:
        by_row = _permutation(path, index, columns[index])
        values, labels = values[by_row], None if labels is None else labels[by_row]
    return LogitsFile(str(path), values, labels)


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *lines = [line for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a CSV file with a header"
        raise UserError(f"{path}: {reason}; name a CSV file with a column for each class") from None
    header = [name.strip() for name in header]
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise UserError(
                f"{path}: line {number} has {len(line)} values for {len(header)} columns; complete the file"
            )
    return header, lines


def _optional(columns: dict[str, list[str]], classes: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of `names` that the file has; a class of that name keeps its column."""
    return next((name for name in names if name in columns and name not in classes), None)


def _numbers(path: Path, name: str, cells: list[str]) -> NDArray[np.float64]:
    values = np.array([_number(cell) for cell in cells])
    if not np.isfinite(values).all():
        i = int(np.flatnonzero(~np.isfinite(values))[0])
        raise UserError(f"{path}: column {name!r}, line {i + 2} is {cells[i]!r}; every value must be a finite number")
    return values


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan


def _class_indices(path: Path, cells: list[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """True labels as indices, from names of classes or from indices."""
    of_name = {name: i for i, name in enumerate(classes)}
    if all(cell.strip() in of_name for cell in cells):
        return np.array([of_name[cell.strip()] for cell in cells], np.int64)
    values = np.array([_number(cell) for cell in cells])
    wrong = ~np.isin(values, np.arange(len(classes)))
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"{path}: the true label of line {i + 2} is {cells[i]!r}; use names of classes or 0 to {len(classes) - 1}"
        )
    return values.astype(np.int64)


def _permutation(path: Path, name: str, cells: list[str]) -> NDArray[np.int64]:
    """The line of each row, from the column that has the row of each line."""
    rows = np.array([_number(cell) for cell in cells])
    if not np.array_equal(np.sort(rows), np.arange(len(rows))):
        raise UserError(f"{path}: {name} must hold each of 0 to {len(rows) - 1} once; number the lines by row")
    return np.argsort(rows)


def _lines_by_class(file: LogitsFile, labels: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.int64]:
    """The line of each row, i64[N]: the k-th line of a class belongs to the k-th row of that class."""
    if file.true is None:
        raise UserError(f"{file.name}: order=by-class needs the true labels; add a column {TRUE_LABEL[0]!r}")
    lines = np.empty(len(labels), np.int64)
    for c, name in enumerate(classes):
        theirs, ours = np.flatnonzero(file.true == c), np.flatnonzero(labels == c)
        if len(theirs) != len(ours):
            raise UserError(
                f"{file.name}: {len(theirs)} lines of class {name!r} for {len(ours)} images; "
                "name the file of these images"
            )
        lines[ours] = theirs
    return lines


def _check_labels(
    file: LogitsFile, lines: NDArray[np.int64], labels: NDArray[np.int64], classes: Sequence[str]
) -> None:
    wrong = np.flatnonzero(file.true[lines] != labels)
    if wrong.size:
        i = int(wrong[0])
        raise UserError(
            f"{file.name}: {wrong.size} of {len(labels)} true labels differ from the data set's (row {i}: "
            f"{classes[file.true[lines[i]]]} for {classes[labels[i]]}); name the file of these images, or where they "
            "lie in folders by class use --order=by-class"
        )


def _as_probs(values: NDArray[np.float64]) -> NDArray[np.float32]:
    if (values >= 0).all() and np.allclose(values.sum(1), 1, atol=1e-3):
        return values.astype(np.float32)
    powers = np.exp(values - values.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)
