"""The runs of a W&B project in the form that results folders are read into.

What W&B holds of a run: its configuration, a row an epoch, and the summary. Confusion matrices, picks and the machine
stay with the files, so those figures are missing here, and times are not compared.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from pydantic import ValidationError

from al.config import RunConfig
from al.errors import UserError
from al.identity import Identity
from al.records import METRICS, RESULT_GROUPS, SPLITS, DataDescription, EpochRecord
from sweeps.report.load import UNKNOWN_DEVICE, UNKNOWN_TIME, Damaged, LeftOut, Results, Run, drop_twins, read_result

NOT_RECORDED = "not recorded on W&B"


class RemoteRun(Protocol):
    """What is asked of a run of `wandb.Api`."""

    id: str
    state: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]

    def scan_history(self) -> Iterable[Mapping[str, Any]]: ...


def load_wandb(path: str, api: Any = None) -> Results:
    """Finished runs of the project `ENTITY/PROJECT`.

    Args:
        api: a `wandb.Api`; by default one with the user's own key.

    Raises:
        UserError: not a project's path, or W&B does not answer.
    """
    entity, _, project = path.partition("/")
    if not entity or not project or "/" in project:
        raise UserError(f"from-wandb={path!r}: not a project; write ENTITY/PROJECT, as in the project's address")
    results = Results(read_from=("--from-wandb", path))
    for run in _runs(path, api):
        source = f"{path}/{run.id}"
        try:
            results.runs.append(_read(run, source))
        except Damaged as error:
            results.left_out.append(LeftOut(source, str(error)))
    drop_twins(results)
    results.notes.append("Read from W&B: no confusion matrices and no picks, and times are not compared.")
    return results


def _runs(path: str, api: Any) -> list:
    import wandb

    try:
        return list((api or wandb.Api()).runs(path))
    except (wandb.errors.Error, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"from-wandb={path!r}: W&B does not give its runs ({reason}); check the name and the key"
        ) from None


def _read(run: RemoteRun, source: str) -> Run:
    if run.state != "finished":
        raise Damaged(f"{run.state} on W&B")
    logged, summary = dict(run.config), dict(run.summary)
    parameters = {name: value for name, value in logged.items() if name in RunConfig.model_fields}
    try:
        config = RunConfig.from_mapping(parameters)
    except UserError as error:
        raise Damaged(f"its config does not describe a run of this version: {error}") from None
    if "digest" in logged and logged["digest"] != config.digest():
        raise Damaged("its digest is not that of its parameters: another version of the suite")
    epochs = _epochs(run.scan_history())
    data = _data(config, logged, summary, epochs)
    identity = Identity(config.digest(), data.fingerprint, dict(logged.get("sources") or {}))
    result = read_result(_results(config, data, epochs, summary))
    return Run(config, identity, data, source, epochs, (), result)


def _epochs(history: Iterable[Mapping[str, Any]]) -> tuple[EpochRecord, ...]:
    """By epoch; the last row wins where a resumed run logged an epoch twice."""
    rows = {int(row["epoch"]): row for row in history if row.get("epoch") is not None}
    if not rows:
        raise Damaged("no epoch was logged")
    try:
        return tuple(EpochRecord.model_validate(_nested(rows[epoch])) for epoch in sorted(rows))
    except ValidationError as error:
        raise Damaged(f"what was logged is no epoch of a run ({error.errors()[0]['loc']})") from None


def _nested(flat: Mapping[str, Any]) -> dict[str, object]:
    """`test/f1` -> {"test": {"f1-score": ...}}, `class/cat/f1` -> {"per_class": {"cat": {"f1-score": ...}}}."""
    from al.tracking.projection import CLASS_METRICS

    row = {"train_size": 0, "val_size": 0, "pool_size": 0, "per_class": {}, "labels_by_class": {}, "seconds": {}}
    row["time"] = flat.get("_timestamp") or UNKNOWN_TIME  # else it would be now
    row |= {name: value for name, value in flat.items() if "/" not in name}
    for split in SPLITS:
        logged = {name: flat.get(f"{split}/{metric.key}") for name, metric in METRICS.items()}
        row[split] = {name: value for name, value in logged.items() if value is not None}
    for name, value in flat.items():
        head, _, rest = name.partition("/")
        label, _, metric = rest.rpartition("/")
        if value is None:
            continue
        if head == "class" and metric in CLASS_METRICS:
            row["per_class"].setdefault(label, {})[CLASS_METRICS[metric]] = value
        elif head in ("labels_by_class", "seconds"):
            row[head][rest] = value
    if (entropy := flat.get("pick/class_entropy")) is not None:
        rest = {"mean_score": flat.get("pick/mean_score"), "duplicates": flat.get("pick/duplicates", 0)}
        row["pick"] = {"class_entropy": entropy} | rest
    return row


def _results(
    config: RunConfig, data: DataDescription, epochs: tuple[EpochRecord, ...], summary: Mapping[str, Any]
) -> dict[str, object]:
    """What performance_metrics.json would hold, as far as W&B knows it."""
    number = int(summary.get("best_epoch") or min(epochs, key=_val_loss).epoch)
    best = next((epoch for epoch in epochs if epoch.epoch == number), epochs[-1])
    groups = {RESULT_GROUPS[split]: {**best.scores(split)} for split in SPLITS}
    groups[RESULT_GROUPS["test"]]["per_class"] = best.per_class
    last = epochs[-1]
    return groups | {
        "best_epoch": best.epoch,
        "total_epochs": len(epochs),
        "training_time_seconds": summary.get("training_time_seconds", sum(e.seconds.get("round", 0) for e in epochs)),
        "labels_used": summary.get("labels_used", last.labels),
        "human_labels_used": summary.get("human_labels_used", last.human_labels),
        "reached_baseline": summary.get("reached_baseline"),
        "digest": config.digest(),
        "data": data,
        "environment": {"device": UNKNOWN_DEVICE},
    }


def _val_loss(epoch: EpochRecord) -> float:
    return epoch.scores("val").get("loss", float("inf"))


def _data(
    config: RunConfig, logged: Mapping[str, Any], summary: Mapping[str, Any], epochs: tuple[EpochRecord, ...]
) -> DataDescription:
    found = {"train": 0, "test": 0, "classes": list(epochs[-1].per_class)}
    found |= {"fingerprint": logged.get("fingerprint", NOT_RECORDED)} | dict(summary.get("data") or {})
    return DataDescription.model_validate(found | dict(logged.get("data") or {}) | {"name": config.dataset})
