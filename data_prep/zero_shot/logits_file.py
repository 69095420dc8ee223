"""Zero-shot outputs computed elsewhere: a CSV file with one column for each class and one line for each image."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from al.errors import UserError

TRUE_LABEL = ("target-0", "target", "label", "true", "true_label")
ROW_INDEX = ("instance_id", "row", "index", "id")

SHOWN = 60  # characters of a cell that an error shows
MOST_DIGITS = 6

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
    that are all non-negative and sum to one, but for rounding, are probabilities; anything else are logits.

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
    return _as_probs(path, file.values[lines])


def read_header(path: Path) -> list[str]:
    """The names of the columns of a CSV file, of which nothing else is read.

    Raises:
        UserError: it cannot be read, or a name is there twice.
    """
    return _checked_header(path, next(_lines(path), []))


def check_columns(path: Path, header: Sequence[str], classes: Sequence[str]) -> None:
    """Check that there is a column for each class, and none for anything unknown.

    Raises:
        UserError: names the column.
    """
    missing = [name for name in classes if name not in header]
    if missing:
        raise UserError(
            f"{path}: no column for {', '.join(missing[:5])}; it needs one for each class, with commas between"
        )
    known = {*classes, *TRUE_LABEL, *ROW_INDEX}
    if unknown := [name for name in header if name not in known]:
        raise UserError(f"{path}: column {unknown[0][:SHOWN]!r} is not a class of the data set; remove it")


def _parse(path: Path, classes: Sequence[str]) -> LogitsFile:
    header, lines = _read(path)
    check_columns(path, header, classes)
    columns = {name: [line[i] for line in lines] for i, name in enumerate(header)}
    values = np.stack([_numbers(path, name, columns[name]) for name in classes], axis=1)
    true, index = _optional(columns, classes, TRUE_LABEL), _optional(columns, classes, ROW_INDEX)
    labels = None if true is None else _class_indices(path, columns[true], classes)
    if index is not None:
        by_row = _permutation(path, index, columns[index])
        values, labels = values[by_row], None if labels is None else labels[by_row]
    return LogitsFile(str(path), values, labels)


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    header, *lines = [*_lines(path)] or [[]]
    header = _checked_header(path, header)
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise UserError(
                f"{path}: line {number} has {len(line)} values for {len(header)} columns; complete it, with commas "
                "between"
            )
    return header, lines


def _lines(path: Path) -> Iterator[list[str]]:
    """The cells of each line that is not empty."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from (line for line in csv.reader(file, strict=True) if line)
    except (OSError, ValueError, csv.Error) as error:
        odd = "not UTF-8" if isinstance(error, ValueError) else f"not CSV: {error}"
        reason = getattr(error, "strerror", None) or odd
        raise UserError(f"{path}: {reason}; name a CSV file with a column for each class") from None


def _checked_header(path: Path, cells: Sequence[str]) -> list[str]:
    header = [name.strip() for name in cells]
    if not header:
        raise UserError(f"{path}: not a CSV file with a header; name a CSV file with a column for each class")
    if twice := [name for i, name in enumerate(header) if name in header[:i]]:
        raise UserError(f"{path}: column {twice[0][:SHOWN]!r} is there twice; remove or rename one")
    return header


def _optional(columns: dict[str, list[str]], classes: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of `names` that the file has; a class of that name keeps its column."""
    return next((name for name in names if name in columns and name not in classes), None)


def _numbers(path: Path, name: str, cells: list[str]) -> NDArray[np.float64]:
    values = np.array([_number(cell) for cell in cells])
    if not np.isfinite(values).all():
        i = int(np.flatnonzero(~np.isfinite(values))[0])
        raise UserError(
            f"{path}: column {name!r}, line {i + 2} is {cells[i][:SHOWN]!r}; every value must be a finite number"
        )
    return values


def _number(cell: str) -> float:
    """The number in plain digits, or NaN: Python would take `1_0` and digits of other scripts too."""
    try:
        return float(cell) if cell.isascii() and "_" not in cell else np.nan
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
        shown = cells[i][:SHOWN]
        raise UserError(
            f"{path}: the true label of line {i + 2} is {shown!r}; use names of classes or 0 to {len(classes) - 1}"
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


def _as_probs(path: Path, values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Probabilities as they are, or scaled to sum to one where they were rounded; logits through the softmax.

    Raises:
        UserError: values that can be neither.
    """
    sums = values.sum(1)  # [N]
    if (values >= 0).all() and np.allclose(sums, 1, atol=1e-3):
        return values.astype(np.float32)
    if values.min() >= 0 and values.max() <= 1:
        off = np.abs(sums - 1)  # each of C values may be off by half a unit of its last digit
        if off.max() > max(1e-3, values.shape[1] * _rounding(values)) or sums.min() == 0:
            worst = int(off.argmax())
            raise UserError(
                f"{path}: all values lie from 0 to 1, but those of row {worst} sum to {sums[worst]:.3g}: neither "
                "probabilities nor logits; give logits, or probabilities of classes that exclude each other"
            )
        return (values / sums[:, None]).astype(np.float32)
    powers = np.exp(values - values.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def _rounding(values: NDArray[np.float64]) -> float:
    """Half a unit of the last digit that the values were rounded to; 0 where they have more digits than that."""
    for digits in range(1, MOST_DIGITS):
        if np.array_equal(values.round(digits), values):
            return 0.5 * 10.0**-digits * (1 + 1e-9)
    return 0.0
