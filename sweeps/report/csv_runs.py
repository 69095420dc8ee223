"""Runs as two CSV files that can be published: written from results, and read back as if the folders were there.

`runs.csv` has a row for each run: its parameters, what it found, what it cost, what it was measured on. `epochs.csv`
has a row for each epoch: learning curves and seconds. Pictures and single picks stay with the folders.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from al.config import WHERE_IT_RUNS, RunConfig
from al.errors import UserError, first_line
from al.identity import Identity
from al.learning.metrics import by_class
from al.records import METRICS, RESULT_GROUPS, SPLITS, Baseline, Calibration, DataDescription, EpochRecord
from al.storage.files import write_atomically
from sweeps.report.load import UNKNOWN_TIME, Damaged, LeftOut, Results, Run, drop_twins, read_result

RUNS, EPOCHS = "runs.csv", "epochs.csv"
DIGITS = 7
"""Significant digits of what is not exact anyway: losses, seconds. Accuracies are written in full."""
COUNTS = ("epoch", "round", "labels", "human_labels", "train_size", "val_size", "pool_size")
PHASES = ("embed", "round", "train", "evaluate", "score", "select", "cluster")
EPOCH_METRICS = {"train": ("loss", "accuracy"), "val": ("loss", "accuracy"), "test": ("loss", "accuracy", "f1-score")}
NOT_PUBLISHED = {*WHERE_IT_RUNS, "results_dir"} - {"data_dir"}
"""Parameters that change nothing and say where somebody's files were; the data's folder is part of a cell's name."""
NOTHING = "nothing"
"""In a cell, as an empty one is what is not known."""


def write_csv(runs: Iterable[Run], folder: Path) -> None:
    """Write runs to `<folder>/runs.csv` and `<folder>/epochs.csv`, in the order of their cells and seeds."""
    runs = sorted(runs, key=lambda run: (run.config.cell, run.seed))
    folder.mkdir(parents=True, exist_ok=True)
    parameters = _parameters(runs)
    _write(folder / RUNS, [{"run": number} | _run_row(run, parameters) for number, run in enumerate(runs, 1)])
    rows = [{"run": number} | _epoch_row(epoch) for number, run in enumerate(runs, 1) for epoch in run.epochs]
    _write(folder / EPOCHS, rows)


def load_csv(folder: str | Path) -> Results:
    """Read the runs in `folder` back. Queries and their images are not in it, so `Run.rounds` is empty.

    Raises:
        UserError: there are no such files.
    """
    results, epochs = Results(folder=Path(folder), read_from=("--from-csv", str(folder))), defaultdict(list)
    for row in _read(Path(folder) / EPOCHS):
        epochs[row.pop("run")].append(row)
    for row in _read(Path(folder) / RUNS):
        source = f"{folder}/{RUNS}, run {row['run']}"
        try:
            results.runs.append(_run(row, epochs[row["run"]], source))
        except Damaged as error:
            results.left_out.append(LeftOut(source, str(error)))
        except (ValueError, KeyError, IndexError) as error:
            results.left_out.append(LeftOut(source, f"no row of a run ({first_line(error)})"))
    drop_twins(results)
    results.notes.append(f"Read from {folder}: pictures of what was picked, and single picks, are not in it.")
    return results


# Writing


def _parameters(runs: Sequence[Run]) -> list[str]:
    """The fields of which some run has another value than the default, in the order of their declaration."""
    fields = {name: field.default for name, field in RunConfig.model_fields.items() if name not in NOT_PUBLISHED}
    return [name for name, default in fields.items() if any(getattr(run.config, name) != default for run in runs)]


def _run_row(run: Run, parameters: Sequence[str]) -> dict[str, object]:
    result, baseline = run.result, run.result.baseline
    row: dict[str, object] = {name: _parameter(run.config, name) for name in parameters}
    row |= {"labels": run.labels, "human_labels": run.human_labels, "wrong_labels": result.wrong_labels_used}
    row |= {"test/accuracy": result.test["accuracy"], "test/f1": result.test.get("f1-score")}
    row |= {"seconds": _short(result.training_time_seconds)}
    row |= {"epochs": result.total_epochs, "best_epoch": result.best.epoch}
    row |= {"reached_baseline": result.reached_baseline, "baseline_cell": baseline and baseline.cell}
    row |= {f"baseline_{name}": baseline and getattr(baseline, name) for name in ("accuracy", "loss")}
    for split in SPLITS:
        found = result.best.splits.get(split)
        row |= {f"{split}/{metric.key}": found and found.scores.get(name) for name, metric in METRICS.items()}
    row |= {"confusion": _matrix_text(result.best.splits["test"].confusion_matrix)}
    row |= {"calibration": _bins_text(result.best.splits["test"].calibration)}
    row |= {"peak_memory_mb": _short(result.peak_memory_mb)}
    row |= {"train_images": run.data.train, "test_images": run.data.test, "classes": _joined(run.data.classes)}
    row |= {"fingerprint": run.data.fingerprint, "digest": run.digest}
    row |= {f"source/{name}": digest for name, digest in sorted(run.sources.items())}
    known = result.environment.model_dump(exclude={"platform", "not_repeatable"})
    row |= {f"environment/{name}": value for name, value in known.items()}
    differ = result.environment.not_repeatable
    return row | {"not_repeatable": None if differ is None else _joined(differ) or NOTHING}


def _parameter(config: RunConfig, name: str) -> object:
    value = getattr(config, name)
    if value == RunConfig.model_fields[name].default:
        return None
    return ",".join(value) if isinstance(value, tuple) else value


def _epoch_row(epoch: EpochRecord) -> dict[str, object]:
    row = {name: getattr(epoch, name) for name in COUNTS} | {"lr": epoch.lr, "best": int(epoch.best)}
    for split, names in EPOCH_METRICS.items():
        scores = epoch.scores(split)
        row |= {
            f"{split}/{METRICS[name].key}": scores.get(name) if name == "accuracy" else _short(scores.get(name))
            for name in names
        }
    return row | {f"seconds/{name}": _short(epoch.seconds.get(name)) for name in PHASES}


def _joined(names: Iterable[str]) -> str:
    """Names with `/` between them; one within a name, and a backslash, has a backslash before it."""
    return "/".join(re.sub(r"[/\\]", r"\\\g<0>", name) for name in names)


def _split(text: str) -> list[str]:
    """The names that `_joined` has put together."""
    return [re.sub(r"\\([/\\])", r"\1", name) for name in re.findall(r"(?s:\\.|[^/\\])+", text)]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _bins_text(bins: Calibration | None) -> str:
    """Images, those that are right, and mean confidence of each bin."""
    if bins is None:
        return ""
    found = zip(bins.images, bins.right, bins.confidence)
    return ";".join(f"{images} {right} {sure:.{DIGITS}g}" for images, right, sure in found)


def _matrix_text(matrix: Sequence[Sequence[int]]) -> str:
    return ";".join(" ".join(map(str, row)) for row in matrix)


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Columns in the order in which rows first have them; those that are empty everywhere are left out."""
    columns = dict.fromkeys(name for row in rows for name, value in row.items() if value not in (None, ""))
    lines = [",".join(columns)]
    lines += [",".join(_cell(row.get(name)) for name in columns) for row in rows]
    write_atomically(path, "\n".join(lines) + "\n")


def _cell(value: object) -> str:
    text = "" if value is None else repr(value) if isinstance(value, float) else str(value)
    return f'"{text.replace(chr(34), 2 * chr(34))}"' if any(mark in text for mark in ',"\r\n') else text


# Reading


def _read(path: Path) -> list[dict[str, str]]:
    """The rows of a file, without empty cells."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # a spreadsheet begins it with a byte order mark
            rows = list(csv.DictReader(file, strict=True))
        for number, row in enumerate(rows, 1):
            if row.get("run") is None or None in row:
                raise ValueError(f"row {number} has no number of a run, or more cells than there are columns")
        return [{name: value for name, value in row.items() if value} for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(
            f"from-csv={str(path.parent)!r}: {path.name} cannot be read ({reason}); name a folder that --to-csv wrote"
        ) from None


def _run(row: Mapping[str, str], epoch_rows: Sequence[Mapping[str, str]], source: str) -> Run:
    parameters = {name: value for name, value in row.items() if name in RunConfig.model_fields}
    config = RunConfig(**parameters)
    if config.digest() != row["digest"]:
        raise Damaged("its digest is not that of its parameters: another version of the suite, or edited")
    epochs = tuple(map(_epoch, epoch_rows))
    if len(epochs) != int(row["epochs"]):
        raise Damaged(f"{EPOCHS} has {len(epochs)} rows of it where {row['epochs']} epochs were trained")
    classes = _split(row["classes"])
    data = DataDescription(
        name=config.dataset,
        fingerprint=row["fingerprint"],
        train=int(row["train_images"]),
        test=int(row["test_images"]),
        classes=classes,
    )
    identity = Identity(row["digest"], data.fingerprint, _below("source", row))
    return Run(config, identity, data, source, epochs, (), read_result(_results(row, data)))


def _epoch(row: Mapping[str, str]) -> EpochRecord:
    found: dict[str, object] = {"per_class": {}, **{name: row[name] for name in (*COUNTS, "lr", "best")}}
    found |= {split: scores for split in SPLITS if (scores := _scores(split, row))}
    return EpochRecord.model_validate(found | {"seconds": _below("seconds", row), "time": UNKNOWN_TIME})


def _results(row: Mapping[str, str], data: DataDescription) -> dict[str, object]:
    """What `performance_metrics.json` would hold, as far as the row knows it."""
    groups: dict[str, object] = {RESULT_GROUPS[split]: _scores(split, row) for split in SPLITS}
    if "confusion" in row:
        matrix = [[int(count) for count in line.split(" ")] for line in row["confusion"].split(";")]
        per_class = by_class(np.array(matrix), data.classes, support=True)
        groups[RESULT_GROUPS["test"]] |= {"confusion_matrix": matrix, "per_class": per_class}
    if "calibration" in row:
        images, right, sure = zip(*(bin_.split(" ") for bin_ in row["calibration"].split(";")))
        groups[RESULT_GROUPS["test"]] |= {"calibration": {"images": images, "right": right, "confidence": sure}}
    return groups | {
        "best_epoch": int(row["best_epoch"]),
        "total_epochs": int(row["epochs"]),
        "training_time_seconds": float(row["seconds"]),
        "peak_memory_mb": float(row["peak_memory_mb"]),
        "labels_used": int(row["labels"]),
        "human_labels_used": int(row["human_labels"]),
        "wrong_labels_used": int(row["wrong_labels"]),
        "reached_baseline": {"True": True, "False": False}.get(row.get("reached_baseline", "")),
        "baseline": _baseline(row),
        "digest": row["digest"],
        "data": data,
        "environment": {**_below("environment", row), "not_repeatable": _not_repeatable(row)},
    }


def _not_repeatable(row: Mapping[str, str]) -> list[str] | None:
    found = row.get("not_repeatable")
    return found and ([] if found == NOTHING else _split(found))


def _baseline(row: Mapping[str, str]) -> Baseline | None:
    names = ("cell", "accuracy", "loss")
    return Baseline(**{name: row[f"baseline_{name}"] for name in names}) if "baseline_cell" in row else None


def _scores(split: str, row: Mapping[str, str]) -> dict[str, float]:
    known = {name: row.get(f"{split}/{metric.key}") for name, metric in METRICS.items()}
    return {name: float(value) for name, value in known.items() if value is not None}


def _below(head: str, row: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(f"{head}/"): value for name, value in row.items() if name.startswith(f"{head}/")}
